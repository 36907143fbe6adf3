"""The stage-2 network: a convolutional, local U-Net on [x_t, x_hat].

No layer depends on the whole image: there is no attention, and normalisation is over the channels of each position, so
that a patch with enough context gives the result of the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hfd.diffusion.neighbours import CHANNELS

EMBEDDING = 128
"""Width of the noise-level embedding."""

GRID_CELLS = 5
"""Cells along each side over which a pattern that repeats is measured."""

GRID_REACH = GRID_CELLS // 2 + 1
"""Cells on each side that removing the pattern depends on: those over which it is measured, and one to interpolate."""


class UNet(nn.Module):
    """Maps x_t and x_hat, (B, 3, H, W) in about [-1, 1] each, and a noise level (B,) to (B, 3, H, W).

    ``known`` (B, 4, H, W), optional: finished pixels and their mask, zero where unknown
    (:mod:`hfd.diffusion.neighbours`).

    Space-to-depth brings the input to 1/patch of its sides. ``channels[i]`` and ``blocks[i]`` are the width and the
    number of residual blocks at 1/(patch 2^i) of the sides, on the way down and up (the coarsest level has one stack).
    H and W are multiples of ``stride``. The last convolution starts at zero.

    An output pixel depends on no input pixel further than :attr:`receptive_field_px` along either axis:
    139 px with the defaults.
    """

    def __init__(self, patch: int = 4, channels: Sequence[int] = (128, 256), blocks: Sequence[int] = (2, 4)) -> None:
        super().__init__()
        self.patch, self.channels, self.blocks = patch, tuple(channels), tuple(blocks)
        levels = len(self.channels)
        self.embed = NoiseEmbedding()
        self.stem = nn.Conv2d((6 + CHANNELS) * patch**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_stack(channels[i], blocks[i]) for i in range(levels))
        self.shrink = nn.ModuleList(nn.Conv2d(channels[i], channels[i + 1], 2, stride=2) for i in range(levels - 1))
        self.grow = nn.ModuleList(nn.Conv2d(channels[i + 1], 4 * channels[i], 1) for i in range(levels - 1))
        self.join = nn.ModuleList(nn.Conv2d(2 * channels[i], channels[i], 1) for i in range(levels - 1))
        self.up = nn.ModuleList(_stack(channels[i], blocks[i]) for i in range(levels - 1))
        self.head = nn.Conv2d(channels[0], 3 * patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    @property
    def stride(self) -> int:
        return self.patch * int(2 ** (len(self.channels) - 1))

    @property
    def receptive_field_px(self) -> int:
        """Largest distance along an axis between an output pixel and an input pixel that it depends on.

        A 3x3 convolution reaches one cell of its level, patch 2^i px: stem and head one each at level 0, a block two;
        every level but the coarsest has two stacks. Removing the grid reaches three of the coarsest cells, and one of
        the finest if there are any. A pixel at the edge of a cell, up to stride px, reaches stride - 1 px further.
        """
        coarsest = len(self.blocks) - 1
        cells = [2 * count * (1 if i == coarsest else 2) for i, count in enumerate(self.blocks)]
        reach = sum(self.patch * 2**i * count for i, count in enumerate(cells))
        grid = 0 if self.stride == 1 else GRID_REACH * self.stride + (self.patch if self.stride > self.patch else 0)
        return int(reach + 2 * self.patch + grid + self.stride - 1)

    def forward(self, x_t: Tensor, x_hat: Tensor, noise_level: Tensor, known: Tensor | None = None) -> Tensor:
        embedding = self.embed(noise_level)
        h = self.stem(self._cells(x_t, x_hat, known))
        skips = []
        for level, stack in enumerate(self.down):
            for block in stack:  # type: ignore[attr-defined]
                h = block(h, embedding)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](h)
        for level in reversed(range(len(self.up))):
            h = F.pixel_shuffle(self.grow[level](h), 2)
            h = self.join[level](torch.cat([h, skips[level]], dim=1))
            for block in self.up[level]:  # type: ignore[attr-defined]
                h = block(h, embedding)
        return without_grid(F.pixel_shuffle(self.head(F.silu(channel_norm(h))), self.patch), self.stride)

    def _cells(self, x_t: Tensor, x_hat: Tensor, known: Tensor | None) -> Tensor:
        """Inputs as channels of cells. One by one: for large pictures this step needs the most memory."""
        if known is None:
            known = x_t.new_zeros(()).expand(x_t.shape[0], CHANNELS, *x_t.shape[2:])
        cells = [F.pixel_unshuffle(x, self.patch) for x in (x_t, x_hat, known)]
        return torch.cat([x.contiguous(memory_format=torch.channels_last) for x in cells], dim=1)


def _stack(channels: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(channels) for _ in range(count))


class ResidualBlock(nn.Module):
    """h + conv(silu(norm(conv(silu(norm(h)))) * (1 + scale) + shift)), scale and shift from the noise level.

    The second convolution starts at zero, and so the block as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulate = nn.Linear(EMBEDDING, 2 * channels)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulate(embedding).unsqueeze(-1).unsqueeze(-1).chunk(2, dim=1)
        inner = self.conv1(F.silu(channel_norm(h)))
        inner = torch.addcmul(shift, channel_norm(inner), 1.0 + scale)
        out: Tensor = h + self.conv2(F.silu(inner))
        return out


class NoiseEmbedding(nn.Module):
    """Sines and cosines of the noise level (B,), through two linear layers: (B, EMBEDDING)."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, 1, EMBEDDING // 2) * torch.pi / 2, persistent=False)
        self.linear1 = nn.Linear(EMBEDDING, EMBEDDING)
        self.linear2 = nn.Linear(EMBEDDING, EMBEDDING)

    def forward(self, noise_level: Tensor) -> Tensor:
        angles = noise_level.float().unsqueeze(1) * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return F.silu(self.linear2(F.silu(self.linear1(waves))))


def without_grid(x: Tensor, cell: int) -> Tensor:
    """Remove from pictures (B, C, H, W) the pattern that repeats in cells of ``cell`` x ``cell`` px, over
    `GRID_CELLS` x `GRID_CELLS` cells.

    Each position in a cell has its own weights in the last layers, so that the simplest texture to learn is the same in
    all cells: a grid, which an adversarial loss finds first and photographs do not have. The pattern is measured in x
    less its cells' means, interpolated linearly, so that ramps stay.
    """
    if cell == 1:
        return x
    smooth = F.interpolate(F.avg_pool2d(x, cell), scale_factor=cell, mode="bilinear")
    places = F.pixel_unshuffle(x - smooth, cell)
    repeated = F.avg_pool2d(places, GRID_CELLS, stride=1, padding=GRID_CELLS // 2, count_include_pad=False)
    by_colour = repeated.reshape(x.shape[0], x.shape[1], cell**2, *repeated.shape[2:])
    grid = (by_colour - by_colour.mean(dim=2, keepdim=True)).reshape(repeated.shape)
    return x - F.pixel_shuffle(grid, cell)


def channel_norm(h: Tensor) -> Tensor:
    """Each position divided by the root mean square of its channels (B, C, H, W). Local: no spatial statistics."""
    return h * torch.rsqrt(h.square().mean(dim=1, keepdim=True) + 1e-6)
