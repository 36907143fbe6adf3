"""The U-Net: initialisation, receptive field and rejected inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hfd.diffusion.neighbours import CHANNELS, known_pixels
from hfd.diffusion.unet import NoiseEmbedding, ResidualBlock, UNet, channel_norm, without_grid
from tests.support.networks import lively_unet


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


def known_bands(height: int, width: int, batch: int = 1, seed: int = 1) -> Tensor:
    """``known`` (B, 4, H, W) with the left third and the top third finished."""
    mask = torch.zeros(batch, 1, height, width)
    mask[..., : height // 3, :], mask[..., : width // 3] = 1.0, 1.0
    x0 = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return known_pixels(x0.clamp(-1, 1), mask)


@torch.no_grad()
def test_output_depends_on_all_inputs() -> None:
    net = lively_unet()
    inputs = (*pictures(32, 32, batch=2), known_bands(32, 32, batch=2))
    whole = net(*inputs)
    for i in range(4):
        changed = [value + (i == k) for k, value in enumerate(inputs)]
        assert float((net(*changed) - whole).abs().max()) > 1e-3
    # The mask says something of its own: a grey known pixel is not an unknown one.
    grey = torch.zeros_like(inputs[3])
    grey[:, 3] = inputs[3][:, 3]
    assert float((net(*inputs[:3], grey) - net(*inputs[:3])).abs().max()) > 1e-3


@torch.no_grad()
def test_nothing_known_is_all_zeros() -> None:
    net = lively_unet()
    inputs = pictures(32, 40, batch=2)
    assert torch.equal(net(*inputs), net(*inputs, torch.zeros(2, CHANNELS, 32, 40)))


@pytest.mark.parametrize("with_known", [False, True])
@torch.no_grad()
def test_batch_of_one_is_batch_of_eight(with_known: bool) -> None:
    """To 1e-5 of a spread of about 1: convolutions may sum in another order for another batch size."""
    net = lively_unet()
    inputs = [*pictures(32, 48, batch=8), *([known_bands(32, 48, batch=8)] if with_known else [])]
    whole = net(*inputs)
    assert float(whole.std()) > 0.1
    for i in range(8):
        alone = net(*(value[i : i + 1] for value in inputs))
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(36, 32), (32, 36), (33, 32), (4, 4)])
@torch.no_grad()
def test_sides_off_the_stride_are_refused(height: int, width: int) -> None:
    with pytest.raises(RuntimeError):
        lively_unet()(*pictures(height, width))


@torch.no_grad()
def test_pictures_of_different_sizes_are_refused() -> None:
    picture, wide, level = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40), torch.zeros(1)
    with pytest.raises(RuntimeError):
        lively_unet()(picture, wide, level)
    with pytest.raises(RuntimeError):
        lively_unet()(picture, picture, level, torch.zeros(1, CHANNELS, 32, 40))
    with pytest.raises(RuntimeError):
        lively_unet()(picture, picture, level, torch.zeros(1, 3, 32, 32))


def influence(net: UNet, height: int, width: int, row: int, column: int) -> list[Tensor]:
    """Return masks (H, W, bool) of x_t, x_hat and the known pixels that change the output pixel at (row, column)."""
    x_t, x_hat, level = (value.double() for value in pictures(height, width))
    inputs = [value.requires_grad_() for value in (x_t, x_hat, known_bands(height, width).double())]
    net(x_t, x_hat, level, inputs[2])[0, :, row, column].sum().backward()
    return [(value.grad != 0).any(dim=1)[0] for value in inputs]


@pytest.mark.parametrize(
    ("patch", "channels", "blocks", "radius"),
    [
        (4, (8, 8), (2, 4), 139),
        (2, (8, 8, 8), (1, 1, 2), 93),
        (4, (8,), (1,), 31),
        (1, (8,), (2,), 6),
        (4, (8, 8), (1, 1), 75),
    ],
)
def test_locality(patch: int, channels: tuple[int, ...], blocks: tuple[int, ...], radius: int) -> None:
    """A pixel further away than the receptive field has exactly no influence, and one just inside has some.

    Of either picture and of what is known, mask included: known pixels reach as far where they are unknown.
    """
    net = lively_unet(patch, channels, blocks).double()
    assert net.receptive_field_px == radius
    stride = net.stride
    side = -(-(2 * radius + 2 * stride + 2) // stride) * stride
    centre = side // 2 // stride * stride
    reached = [0, 0, 0]
    # The reach depends on where a pixel lies in the cells of every level.
    for at in range(centre, centre + stride):
        for i, moved in enumerate(influence(net, side, 32, at, 16)):
            rows = torch.nonzero(moved.any(dim=1)).flatten()
            distances = (rows - at).abs()
            assert int(rows.min()) > 0 and int(rows.max()) < side - 1  # the field ends inside the picture
            assert int(distances.max()) <= radius
            reached[i] = max(reached[i], int(distances.max()))
    assert reached == [radius] * 3
    for moved in influence(net, 32, side, 16, centre):
        columns = torch.nonzero(moved.any(dim=0)).flatten()
        assert radius - stride < int((columns - centre).abs().max()) <= radius


def test_the_default_network_is_the_documented_one() -> None:
    net = UNet()
    assert (net.patch, net.channels, net.blocks, net.stride) == (4, (128, 256), (2, 4), 8)
    assert net.receptive_field_px == 139
    assert "139 px with the defaults" in str(UNet.__doc__)


@torch.no_grad()
def test_a_patch_with_context_gives_the_result_of_the_picture() -> None:
    net = lively_unet()
    margin = -(-net.receptive_field_px // net.stride) * net.stride
    x_t, x_hat, level = pictures(32, 2 * margin + 48)
    known = known_bands(32, 2 * margin + 48)
    whole = net(x_t, x_hat, level, known)
    # Cut off everything further than the margin from 16 columns in the middle.
    left, right = 16, 16 + 2 * margin + 16
    part = net(x_t[..., left:right], x_hat[..., left:right], level, known[..., left:right])
    middle = slice(left + margin, left + margin + 16)
    assert float((whole[..., middle] - part[..., margin : margin + 16]).abs().max()) < 1e-4
    # Less context than that is not enough.
    left += margin - 8
    part = net(x_t[..., left:right], x_hat[..., left:right], level, known[..., left:right])
    assert float((whole[..., middle] - part[..., 8:24]).abs().max()) > 1e-3


@torch.no_grad()
def test_a_block_is_its_formula() -> None:
    """h + conv(silu(norm(conv(silu(norm(h)))) (1 + scale) + shift)), scale and shift of each image's own level."""
    torch.manual_seed(0)
    block = ResidualBlock(6)
    torch.nn.init.normal_(block.conv2.weight, std=0.2)
    h, embedding = torch.randn(2, 6, 5, 4), torch.randn(2, 128)
    scale, shift = (embedding @ block.modulate.weight.T + block.modulate.bias).reshape(2, 2, 6, 1, 1).transpose(0, 1)

    def active(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    inner = channel_norm(block.conv1(active(channel_norm(h)))) * (1 + scale) + shift
    torch.testing.assert_close(block(h, embedding), h + block.conv2(active(inner)), rtol=1e-5, atol=1e-5)


def test_a_grid_is_taken_out_and_a_ramp_is_left() -> None:
    """Any pattern that repeats with the cells, and none of a plane; of noise about 1/25, what 25 cells share."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(1, 3, 8, 8, generator=generator)
    plane = torch.linspace(-1, 1, 64).reshape(1, 1, 1, 64) + torch.linspace(-3, 2, 72).reshape(1, 1, 72, 1)
    middle = (..., slice(24, 48), slice(24, 40))  # interpolation ends half a cell before the border
    flat = pattern - pattern.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(without_grid(plane + flat.tile(9, 8), 8)[middle], plane.expand(1, 3, 72, 64)[middle])
    noise = torch.randn(1, 3, 160, 160, generator=generator)
    removed = (noise - without_grid(noise, 8))[..., 32:-32, 32:-32]
    assert float(removed.var()) == pytest.approx(1 / 25, rel=0.15)
    assert without_grid(noise, 1) is noise


def test_channel_norm_is_a_root_mean_square() -> None:
    h = torch.randn(2, 5, 3, 4)
    expected = h / (h.pow(2).mean(dim=1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(channel_norm(h), expected)
    torch.testing.assert_close(channel_norm(h).square().mean(dim=1), torch.ones(2, 3, 4), rtol=1e-3, atol=0)
    assert not bool(channel_norm(torch.zeros(1, 3, 1, 1)).any())


def test_the_output_depends_on_the_noise_level() -> None:
    torch.manual_seed(0)
    embedding = NoiseEmbedding()(torch.linspace(-3.75, 3.75, 50)).detach()
    assert embedding.shape == (50, 128)
    distances = torch.cdist(embedding, embedding) + 1e9 * torch.eye(50)
    assert float(distances.min()) > 1e-3


def test_every_parameter_is_trained() -> None:
    net = lively_unet()
    net(*pictures(32, 32), known_bands(32, 32)).square().mean().backward()
    assert [name for name, value in net.named_parameters() if not bool(value.grad.any())] == []
