"""Transforms for coding equal the modules, by strips or whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hfd.autoencoder.model import Elic
from hfd.autoencoder.strips import by_strips
from hfd.autoencoder.transforms import reach_of, stage1_networks, transform
from hfd.engine.base import Values
from tests.support.networks import lively_elic


def gdn_elic() -> Elic:
    torch.manual_seed(0)
    model = Elic(8, 8, (4, 4), gdn_channels=12).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.add_(0.05 * torch.rand_like(parameter))
    return model


@pytest.fixture(scope="module", params=["elic", "gdn"])
def model(request: pytest.FixtureRequest) -> Elic:
    return gdn_elic() if request.param == "gdn" else lively_elic(8, 8, (4, 4))


@torch.no_grad()
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 192), (2, 64, 64)])
def test_transform_is_the_modules(model: Elic, batch: int, height: int, width: int) -> None:
    x = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    y = model.g_a(x)
    torch.testing.assert_close(transform(model.g_a, x), y, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(transform(model.g_s, y), model.g_s(y), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)


@torch.no_grad()
def test_transform_takes_the_networks_precision() -> None:
    model = gdn_elic()
    x = torch.rand(1, 3, 64, 64)
    single = transform(model.g_a, x)
    double = transform(model.double().g_a, x)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("strip", [4, 8, 20])
def test_strips_are_the_whole(model: Elic, strip: int) -> None:
    x = torch.rand(1, 3, 256, 64, generator=torch.Generator().manual_seed(0))
    asked = []

    def rows(first: int, last: int) -> Values:
        asked.append((first, last))
        return x[:, :, first:last].numpy()

    networks = stage1_networks(model.g_a, model.h_a, model.g_s)
    y = by_strips(networks.analysis, rows, 256, reach=networks.reach.analysis_px, stride=16, strip=strip)
    torch.testing.assert_close(torch.from_numpy(y), model.g_a(x), rtol=1e-4, atol=1e-4)
    assert len(asked) == -(-16 // strip)


def test_reach_covers_every_pixel_that_is_seen() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 5, 2, 2), nn.Conv2d(1, 1, 3, 1, 1), nn.Conv2d(1, 1, 5, 2, 2))
    assert reach_of(network) == 2 + 2 + 4
    x = torch.zeros(1, 1, 64, 4, dtype=torch.float64, requires_grad=True)
    network.double()(x)[0, 0, 8].sum().backward()
    seen = torch.nonzero(x.grad[0, 0].abs().sum(1)).flatten()
    assert int(seen.min()) >= 8 * 4 - 8 and int(seen.max()) <= 8 * 4 + 3 + 8
