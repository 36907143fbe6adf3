"""Transforms of residual blocks: their budget, strips and tiles of them, and one model for a range of rates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hfd.autoencoder.loss import rate_distortion
from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import UNITS, step_of, step_units
from hfd.autoencoder.residual import FIRST_STEP, ResidualBlock, cosine_basis, first_spreads
from hfd.autoencoder.strips import by_strips
from hfd.autoencoder.transforms import reach_cells, reach_of, stage1_networks
from hfd.autoencoder.weights import build_autoencoder
from hfd.codec.pixels import to_grey_levels
from hfd.codec.reconstruction import CELL_PX, cut_latent, synthesise
from hfd.config.autoencoder import ResidualConfig
from hfd.geometry.box import Box
from hfd.training.randomness import SampleRandomness
from hfd.training.tasks import AutoencoderTask, OptimiserSettings
from tests.support.coders import tensor_coder


@pytest.fixture(scope="module")
def model() -> Elic:
    """Small, with blocks that do something."""
    torch.manual_seed(0)
    model = Elic(8, 12, (4, 8), residual=((8, 12, 16), (1, 2, 1))).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ResidualBlock):
                nn.init.normal_(module.second.weight, std=0.05)
            elif isinstance(module, nn.Conv2d) and not module.weight.any():
                nn.init.normal_(module.weight, std=0.05)
    return model


@pytest.mark.parametrize("M", [24, 128, 320])
def test_the_basis_is_orthonormal(M: int) -> None:
    basis = cosine_basis(M)
    torch.testing.assert_close(basis @ basis.t(), torch.eye(M), rtol=0.0, atol=1e-5)
    assert tuple(first_spreads(M).shape) == (M,) and float(first_spreads(M).min()) > 0.0


@torch.no_grad()
def test_it_begins_as_a_cosine_transform() -> None:
    """An untrained model reconstructs a smooth picture up to the rounding of its coefficients."""
    torch.manual_seed(0)
    model = Elic(8, 128, (32, 96), residual=((8, 12, 16), (1, 1, 1))).eval()
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    x = nn.functional.interpolate(coarse, size=(192, 192), mode="bicubic").clamp(0.0, 1.0)
    y = model.g_a(x)
    torch.testing.assert_close(model.g_s(y), x, rtol=0.0, atol=0.05)
    # 128 of 768 coefficients are rounded, each with a mean square of a twelfth of the squared step.
    rounded = float((model.g_s(y.round()) - model.g_s(y)).square().mean())
    assert rounded < 1.1 * 128 / 768 * FIRST_STEP**2 / 12


def test_the_default_costs_at_most_25_kmac_a_pixel_each_way() -> None:
    default = ResidualConfig().model_dump(mode="json")
    settings = {"arch": "elic", "N": 64, "M": 128, "groups": [32, 96], "residual": default}
    model = build_autoencoder(settings)
    for transform, inputs in ((model.g_a, torch.rand(1, 3, 64, 64)), (model.g_s, torch.rand(1, 128, 4, 4))):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            transform(inputs)
        assert counter.get_total_flops() / 2 / 64**2 <= 25_000


@torch.no_grad()
@pytest.mark.parametrize("strip", [4, 20])
def test_strips_are_the_whole(model: Elic, strip: int) -> None:
    x = torch.rand(1, 3, 512, 64, generator=torch.Generator().manual_seed(0))
    networks = stage1_networks(model.g_a, model.h_a, model.g_s)
    rows, reach = (lambda first, last: x[:, :, first:last].numpy()), networks.reach.analysis_px
    y = by_strips(networks.analysis, rows, 512, reach=reach, stride=16, strip=strip)
    torch.testing.assert_close(torch.from_numpy(y), model.g_a(x), rtol=1e-4, atol=1e-4)


def test_reach_covers_every_pixel_that_is_seen(model: Elic) -> None:
    side, at = 512, 16
    x = torch.rand(1, 3, side, 64, dtype=torch.float64, requires_grad=True)
    model.g_a.double()(x)[0, :, at].sum().backward()
    model.g_a.float()
    seen = torch.nonzero(x.grad[0].abs().sum((0, 2))).flatten()
    reach = reach_of(model.g_a)
    assert at * 16 - reach <= int(seen.min()) < at * 16 and at * 16 + 15 < int(seen.max()) <= at * 16 + 15 + reach


@torch.no_grad()
def test_tiles_of_the_latent_give_the_whole_picture(model: Elic, monkeypatch: pytest.MonkeyPatch) -> None:
    y_hat = 4.0 * torch.randn(1, 12, 29, 33, generator=torch.Generator().manual_seed(2)).round()
    reach, whole = reach_cells(model.g_s), to_grey_levels(model.reconstruct(y_hat)[0].numpy())
    assert float(np.std(whole)) > 5.0
    monkeypatch.setattr("hfd.codec.reconstruction.TILE_CELLS", 11)
    box = Box(100, 33, 171, 250)
    found = synthesise(stage1_networks(model.g_a, model.h_a, model.g_s), cut_latent(y_hat.numpy(), box, reach))
    assert int(np.abs(found.astype(int) - whole[box.top : box.bottom, box.left : box.right]).max()) <= 1


@torch.no_grad()
def test_reach_of_the_synthesis_is_no_less_than_changes_reach(model: Elic) -> None:
    side = 33
    y = torch.randn(1, 12, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = y.clone()
    other[..., side // 2, side // 2] += 10.0
    g_s = model.g_s.double()
    changed = ((g_s(y) - g_s(other)) != 0.0).any(dim=1)[0]
    model.g_s.float()
    places = torch.nonzero(changed) // CELL_PX
    assert 2 < int((places - side // 2).abs().max()) <= reach_cells(model.g_s)


@torch.no_grad()
@pytest.mark.parametrize("rate", [112, 128, 141])
def test_a_step_in_training_is_that_of_the_coder(model: Elic, rate: int) -> None:
    """Rounded latents and estimated bits of the model in eval mode are those of the coder's whole numbers, nearly."""
    x = torch.rand(1, 3, 128, 64, generator=torch.Generator().manual_seed(1))
    output = model(x, steps=torch.tensor([step_units(rate) / UNITS]))
    coded, y_hat = tensor_coder(model, build_tables(model)).encode(x, rate)
    assert float(output.bits_y + output.bits_z) == pytest.approx(coded.bits_est, rel=0.01)
    torch.testing.assert_close(output.x_hat.clamp(0.0, 1.0), model.reconstruct(y_hat), rtol=0.0, atol=0.02)


def test_steps_are_even_in_their_logarithm_and_shared_out_by_sample() -> None:
    assert [step_of(rate) for rate in (112, 128, 144)] == [0.5, 1.0, 2.0]
    model = Elic(8, 12, (4, 8), residual=((8, 8, 8), (0, 0, 0)))
    settings = OptimiserSettings(lr=1e-3, weight_decay=0.0, grad_clip=1.0, precision="float32")
    task = AutoencoderTask(model, settings, lmbda=0.01, aux_lr=1e-3, rates=(120.0, 136.0))
    draws = SampleRandomness(0, 3, 4, range(4))
    steps = task.quantiser_steps(draws, torch.device("cpu"))
    assert steps is not None
    quarters = ((128 + 16 * steps.log2() - 120) / 4).floor().int().tolist()
    assert sorted(quarters) == [0, 1, 2, 3]
    part = task.quantiser_steps(draws.part(1, 3), torch.device("cpu"))
    assert part is not None and torch.equal(part, steps[1:3])


@torch.no_grad()
def test_each_sample_has_its_own_weight() -> None:
    model = Elic(8, 12, (4, 8), residual=((8, 8, 8), (0, 0, 0))).eval()
    x = torch.rand(2, 3, 64, 64)
    output = model(x)
    squares = (output.x_hat - x).square().mean(dim=(1, 2, 3))
    rate = (output.bits_y + output.bits_z).mean() / 64**2
    expected = 255**2 * (0.01 * squares[0] + 0.03 * squares[1]) / 2 + rate
    torch.testing.assert_close(rate_distortion(output, x, torch.tensor([0.01, 0.03])).loss, expected)
