"""The U-Net: how it starts, how far it looks, what it refuses."""

from __future__ import annotations

import pytest
import torch
from networks import lively_unet
from torch import Tensor

from hfd.diffusion.unet import NoiseEmbedding, ResidualBlock, UNet, channel_norm


def pictures(height: int, width: int, batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_t, x_hat = torch.randn(2, batch, 3, height, width, generator=generator)
    return x_t, x_hat, torch.linspace(-3, 3, batch)


@torch.no_grad()
def test_starts_at_zero() -> None:
    net = UNet(4, (16, 24), (1, 2))
    assert not bool(net(*pictures(32, 48)).any())
    block = ResidualBlock(8)
    h = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(h, torch.randn(2, 128)), h)


@pytest.mark.parametrize(
    ("patch", "channels", "blocks", "stride"),
    [(4, (16, 16), (1, 1), 8), (2, (8, 8, 8), (1, 1, 1), 8), (1, (8,), (2,), 1), (8, (8, 16), (1, 1), 16)],
)
@torch.no_grad()
def test_shapes(patch: int, channels: tuple[int, ...], blocks: tuple[int, ...], stride: int) -> None:
    net = lively_unet(patch, channels, blocks)
    assert net.stride == stride
    for height, width in ((stride, 3 * stride), (48, 32)):
        output = net(*pictures(height, width, batch=2))
        assert output.shape == (2, 3, height, width) and output.dtype == torch.float32
        assert float(output.std()) > 0.01


@torch.no_grad()
def test_output_depends_on_all_three_inputs_and_on_no_other_image() -> None:
    net = lively_unet()
    x_t, x_hat, level = pictures(32, 32, batch=2)
    whole = net(x_t, x_hat, level)
    for changed in ((x_t + 1, x_hat, level), (x_t, x_hat + 1, level), (x_t, x_hat, level + 1)):
        assert float((net(*changed) - whole).abs().max()) > 1e-3
    for i in range(2):
        alone = net(x_t[i : i + 1], x_hat[i : i + 1], level[i : i + 1])
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(36, 32), (32, 36), (33, 32), (4, 4)])
@torch.no_grad()
def test_sides_off_the_stride_are_refused(height: int, width: int) -> None:
    with pytest.raises(RuntimeError):
        lively_unet()(*pictures(height, width))


@torch.no_grad()
def test_pictures_of_different_sizes_are_refused() -> None:
    with pytest.raises(RuntimeError):
        lively_unet()(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40), torch.zeros(1))


def influence(net: UNet, height: int, width: int, row: int, column: int) -> Tensor:
    """Where (H, W, bool) the input, either picture, moves the output pixel at (row, column) at all."""
    x_t, x_hat, level = (value.double() for value in pictures(height, width))
    x_t.requires_grad_()
    x_hat.requires_grad_()
    output = net(x_t, x_hat, level)
    output[0, :, row, column].sum().backward()
    assert x_t.grad is not None and x_hat.grad is not None
    return ((x_t.grad != 0) | (x_hat.grad != 0)).any(dim=1)[0]


@pytest.mark.parametrize(
    ("patch", "channels", "blocks", "radius"),
    [(4, (8, 8), (2, 4), 111), (2, (8, 8, 8), (1, 1, 2), 67), (1, (8,), (2,), 6), (4, (8, 8), (1, 1), 47)],
)
def test_locality(patch: int, channels: tuple[int, ...], blocks: tuple[int, ...], radius: int) -> None:
    """A pixel further away than the receptive field has exactly no influence, and one just inside has some."""
    net = lively_unet(patch, channels, blocks).double()
    assert net.receptive_field_px == radius
    stride = net.stride
    side = -(-(2 * radius + 2 * stride + 2) // stride) * stride
    centre = side // 2 // stride * stride
    reached = 0
    # The reach depends on where a pixel lies in the cells of every level.
    for at in range(centre, centre + stride):
        moved = influence(net, side, 32, at, 16).any(dim=1)
        rows = torch.nonzero(moved).flatten()
        distances = (rows - at).abs()
        assert int(rows.min()) > 0 and int(rows.max()) < side - 1  # the field ends inside the picture
        assert int(distances.max()) <= radius
        reached = max(reached, int(distances.max()))
    assert reached == radius
    columns = influence(net, 32, side, 16, centre).any(dim=0)
    assert int((torch.nonzero(columns).flatten() - centre).abs().max()) <= radius


def test_the_default_network_is_the_documented_one() -> None:
    net = UNet()
    assert (net.patch, net.channels, net.blocks, net.stride) == (4, (128, 256), (2, 4), 8)
    assert net.receptive_field_px == 111
    assert "111 px with the defaults" in str(UNet.__doc__)


@torch.no_grad()
def test_a_patch_with_context_gives_what_the_picture_gives() -> None:
    net = lively_unet()
    margin = -(-net.receptive_field_px // net.stride) * net.stride
    x_t, x_hat, level = pictures(32, 2 * margin + 48)
    whole = net(x_t, x_hat, level)
    # Cut off everything further than the margin from 16 columns in the middle.
    left, right = 16, 16 + 2 * margin + 16
    part = net(x_t[..., left:right], x_hat[..., left:right], level)
    middle = slice(left + margin, left + margin + 16)
    assert float((whole[..., middle] - part[..., margin : margin + 16]).abs().max()) < 1e-4
    # Less context than that is not enough.
    left += margin - 8
    part = net(x_t[..., left:right], x_hat[..., left:right], level)
    assert float((whole[..., middle] - part[..., 8:24]).abs().max()) > 1e-3


def test_channel_norm_is_a_root_mean_square() -> None:
    h = torch.randn(2, 5, 3, 4)
    expected = h / (h.pow(2).mean(dim=1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(channel_norm(h), expected)
    torch.testing.assert_close(channel_norm(h).square().mean(dim=1), torch.ones(2, 3, 4), rtol=1e-3, atol=0)
    assert not bool(channel_norm(torch.zeros(1, 3, 1, 1)).any())


def test_noise_levels_are_told_apart() -> None:
    torch.manual_seed(0)
    embedding = NoiseEmbedding()(torch.linspace(-3.75, 3.75, 50)).detach()
    assert embedding.shape == (50, 128)
    distances = torch.cdist(embedding, embedding) + 1e9 * torch.eye(50)
    assert float(distances.min()) > 1e-3


def test_every_parameter_is_trained() -> None:
    net = lively_unet()
    net(*pictures(32, 32)).square().mean().backward()
    assert [name for name, value in net.named_parameters() if not bool(value.grad.any())] == []
