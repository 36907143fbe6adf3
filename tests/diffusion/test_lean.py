"""The lean network: how far it looks, what it costs, and that one step of it fits the decoder's interface."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hfd.config.decoder import LeanConfig
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.flow import PosteriorMeanFlow
from hfd.diffusion.lean import LeanNet
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.weights import build_network
from hfd.geometry.box import Box, Window


@torch.no_grad()
def lively(channels: tuple[int, ...] = (8, 12, 16), blocks: tuple[int, ...] = (1, 1, 2), tail: int = 8) -> LeanNet:
    torch.manual_seed(0)
    net = LeanNet(channels, blocks, tail).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return net


def pictures(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, height, width, generator=generator), torch.rand(1, 3, height, width, generator=generator)


def test_the_default_costs_at_most_40_kmac_a_pixel() -> None:
    net = build_network({"lean": LeanConfig().model_dump(mode="json")})
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x, x, torch.ones(1))
    assert counter.get_total_flops() / 2 / 64**2 <= 40_000
    assert net.stride == LeanConfig().stride == 8


@pytest.mark.parametrize(("channels", "blocks"), [((8, 12, 16), (0, 1, 2)), ((8, 8), (1, 1)), ((8,), (1,))])
@torch.no_grad()
def test_locality(channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    """A pixel further away than the receptive field has exactly no influence, and one at its end has some."""
    net = lively(channels, blocks).double()
    radius, stride = net.receptive_field_px, net.stride
    side = -(-(2 * radius + 2 * stride + 2) // stride) * stride
    centre, reached = side // 2 // stride * stride, 0
    x_t, x_hat = (x.double() for x in pictures(side, 16))
    before = net(x_t, x_hat, torch.ones(1))
    for at in range(centre, centre + stride):
        other = x_hat.clone()
        other[:, :, at, 8] += 5.0
        moved = (net(x_t, other, torch.ones(1)) != before).any(dim=1)[0]
        rows = torch.nonzero(moved.any(dim=1)).flatten()
        reached = max(reached, int((rows - at).abs().max()))
    assert reached == radius


@torch.no_grad()
def test_it_begins_as_nothing_and_every_input_counts_once_it_is_trained() -> None:
    x_t, x_hat = pictures(32, 40)
    assert not LeanNet()(x_t, x_hat, torch.ones(1)).any()
    net = lively()
    before = net(x_t, x_hat, torch.ones(1))
    for inputs in (
        (x_t.flip(3), x_hat, torch.ones(1)),
        (x_t, x_hat.flip(3), torch.ones(1)),
        (x_t, x_hat, torch.zeros(1)),
    ):
        assert float((net(*inputs) - before).abs().max()) > 1e-4
    assert torch.equal(net(x_t, x_hat, torch.ones(1), torch.ones(1, 4, 32, 40)), before)


@torch.no_grad()
def test_flat_pictures_get_no_pattern() -> None:
    """Of flat inputs, all cells far from the edges are alike: whatever differs within them would repeat."""
    net = lively().double()
    reach = net.receptive_field_px
    side = (2 * reach // net.stride + 3) * net.stride
    flat = torch.linspace(-1, 1, 3, dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, side, side)
    found = net(0.3 * flat, flat, torch.ones(1))[..., reach:-reach, reach:-reach]
    assert float(found.abs().max()) > 1e-3
    torch.testing.assert_close(found, found.mean(dim=(2, 3), keepdim=True).expand_as(found), rtol=0.0, atol=1e-12)


def test_one_step_adds_to_x_hat_and_a_window_is_part_of_the_whole() -> None:
    """x_hat + residual_std net(noise, x_hat): a flow with a known residual needs no other start."""
    net = lively()
    decoder = ScoreDecoder(net, PosteriorMeanFlow(sigma_s=0.2, residual_std=0.1), {"steps": 1}, "")
    _, x_hat = pictures(232, 64)
    settings = Sampling(steps=1)
    whole = decoder.sample(x_hat, settings, seeds=[5], precision="float32")
    assert 0.01 < float((whole - x_hat).abs().max()) < 1.0
    reach = -(-decoder.reach_px(settings) // net.stride) * net.stride
    window = Window(Box(232 - 2 * reach, 0, 2 * reach, 64), 232, 64)
    part = decoder.sample(window.box.cut(x_hat), settings, seeds=[5], precision="float32", window=window)
    torch.testing.assert_close(part[:, :, reach:], whole[:, :, -reach:], rtol=0.0, atol=1e-5)
