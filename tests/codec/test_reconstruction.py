"""Stage 1's picture by tiles of the latent: how far it looks, and that tiles and cuts give what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hfd.autoencoder.model import Elic
from hfd.autoencoder.transforms import reach_cells, stage1_networks
from hfd.codec import reconstruction
from hfd.codec.codec import Codec
from hfd.codec.pixels import to_grey_levels
from hfd.codec.reconstruction import CELL_PX, LatentCut, cut_latent, synthesise
from hfd.engine.base import Stage1Reach
from hfd.engine.torch import TorchStage1
from hfd.geometry.box import Box
from hfd.io.model_folders import shipped_models
from tests.support.networks import lively_elic

pytestmark = pytest.mark.integration

CELLS = (29, 33)
SIZE = (29 * 16 - 5, 33 * 16 - 11)


@pytest.fixture(scope="module")
def with_gdn() -> Elic:
    return Codec.load(shipped_models()["desk-025"], engine="torch").autoencoder.model


@pytest.fixture(scope="module")
def plain() -> Elic:
    return lively_elic(8, 8, (8,))


@pytest.fixture(params=["with_gdn", "plain"])
def model(request: pytest.FixtureRequest) -> Elic:
    found: Elic = request.getfixturevalue(request.param)
    return found


def networks(model: Elic) -> TorchStage1:
    return stage1_networks(model.g_a, model.h_a, model.g_s)


def latent(model: Elic) -> torch.Tensor:
    noise = torch.randn(1, model.M, *CELLS, generator=torch.Generator().manual_seed(2))
    return 4.0 * noise.round()


@torch.no_grad()
def looks(g_s: nn.Module, channels: int, side: int) -> int:
    """The distance in cells between a cell and the pixels that it changes, found by changing it, in float64."""
    y = torch.randn(1, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = y.clone()
    other[..., side // 2, side // 2] += 10.0
    g_s = g_s.double()
    changed = ((g_s(y) - g_s(other)) != 0.0).any(dim=1)[0]
    g_s.float()
    places = torch.nonzero(changed) // CELL_PX
    return int((places - side // 2).abs().max())


def test_the_reach_equals_the_measured_influence(with_gdn: Elic, plain: Elic) -> None:
    """Counted without a picture: exact for a chain, and no less than it is where branches run side by side."""
    assert reach_cells(with_gdn.g_s) == looks(with_gdn.g_s, with_gdn.M, 15) == 2
    assert reach_cells(plain.g_s) >= looks(plain.g_s, plain.M, 41) > 2


def test_a_synthesis_that_shrinks_has_no_such_reach() -> None:
    with pytest.raises(ValueError, match=r"^g_s: got a convolution of stride \(2, 2\)"):
        reach_cells(nn.Sequential(nn.Conv2d(3, 3, 3, stride=2)))


@pytest.mark.parametrize("tile_cells", [11, 64])
@pytest.mark.parametrize("box", [Box(0, 0, *SIZE), Box(100, 33, 71, 150), Box(SIZE[0] - 1, SIZE[1] - 1, 1, 1)])
def test_tiles_of_a_cut_give_the_whole_picture(
    model: Elic, box: Box, tile_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to rounding: a grey level, where a value lies between two."""
    y_hat, reach = latent(model), reach_cells(model.g_s)
    whole = to_grey_levels(model.reconstruct(y_hat)[0].numpy())
    assert float(np.std(whole)) > 5.0
    monkeypatch.setattr(reconstruction, "TILE_CELLS", tile_cells)
    found = synthesise(networks(model), cut_latent(y_hat.numpy(), box, reach))
    expected = whole[box.top : box.bottom, box.left : box.right]
    assert found.shape == expected.shape
    assert int(np.abs(found.astype(int) - expected).max()) <= 1 and float((found != expected).mean()) < 1e-3


def test_a_picture_of_one_tile_is_exactly_the_whole(model: Elic) -> None:
    y_hat = latent(model)
    whole = LatentCut(y_hat[0].numpy(), 0, 0, Box(0, 0, *SIZE))
    found = synthesise(networks(model), whole)
    assert np.array_equal(found, to_grey_levels(model.reconstruct(y_hat)[0, :, : SIZE[0], : SIZE[1]].numpy()))


def test_a_cell_less_of_context_would_be_seen(with_gdn: Elic, monkeypatch: pytest.MonkeyPatch) -> None:
    y_hat, reach = latent(with_gdn), reach_cells(with_gdn.g_s)
    monkeypatch.setattr(reconstruction, "TILE_CELLS", 5)
    box = Box(160, 160, 160, 160)
    expected = to_grey_levels(with_gdn.reconstruct(y_hat)[0, :, 160:320, 160:320].numpy())
    less = TorchStage1(with_gdn.g_a, with_gdn.h_a, with_gdn.g_s, Stage1Reach(0, 0, reach - 1))
    found = synthesise(less, cut_latent(y_hat.numpy(), box, reach - 1))
    assert int(np.abs(found.astype(int) - expected).max()) > 1


def test_a_cut_holds_no_more_than_its_context() -> None:
    y_hat = np.zeros((1, 3, 50, 60), np.float32)
    cut = cut_latent(y_hat, Box(160, 320, 33, 16), 2)
    assert cut.y.shape == (3, 7, 5) and (cut.top, cut.left) == (8, 18) and cut.y.flags.owndata
    assert cut_latent(y_hat, Box(0, 0, 800, 960), 2).y.shape == (3, 50, 60)
