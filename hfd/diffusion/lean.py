"""A lean stage-2 network for processors: one or few steps, at most 40 kMAC a pixel, and no grid artefacts.

Most of the work is done at 1/4 and 1/8 of the sides. Its result is upsampled to full resolution, joined with the
inputs, and passes through a narrow tail of convolutions over pixels. The tail has the same weights at all positions in
a cell, so that it can correct differences between positions. What still repeats from cell to cell is removed, as in the
U-Net: otherwise perceptual losses, which compare local statistics, learn such a pattern in place of a texture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hfd.diffusion.unet import EMBEDDING, GRID_REACH, NoiseEmbedding, without_grid

FIRST = 2
"""Space-to-depth factor at the input."""


class LeanNet(nn.Module):
    """Maps x_t and x_hat, (B, 3, H, W) in about [-1, 1] each, and a noise level (B,) to (B, 3, H, W).

    ``channels``, ``blocks``: widths and residual blocks at 1/2, 1/4, 1/8, ... of the sides; each level but the coarsest
    has its blocks twice, on the way down and up. ``tail``: width at full resolution. H and W are multiples of
    :attr:`stride`. The last convolution starts at zero.

    Known pixels are ignored: in one step, a patch with enough context gives the result of the whole picture and needs
    no neighbour. An output pixel depends on no input pixel further than :attr:`receptive_field_px` along either axis.
    """

    def __init__(
        self, channels: Sequence[int] = (32, 80, 160), blocks: Sequence[int] = (0, 1, 2), tail: int = 12
    ) -> None:
        super().__init__()
        self.channels, self.blocks, self.tail = tuple(channels), tuple(blocks), tail
        levels = len(self.channels)
        self.embed = NoiseEmbedding()
        self.modulate = nn.Linear(EMBEDDING, channels[-1])
        self.stem = nn.Conv2d(6 * FIRST**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_stack(channels[i], blocks[i]) for i in range(levels))
        self.shrink = nn.ModuleList(nn.Conv2d(channels[i], channels[i + 1], 2, stride=2) for i in range(levels - 1))
        self.grow = nn.ModuleList(nn.Conv2d(channels[i + 1], 4 * channels[i], 1) for i in range(levels - 1))
        self.up = nn.ModuleList(_stack(channels[i], blocks[i]) for i in range(levels - 1))
        self.head = nn.Conv2d(channels[0], tail * FIRST**2, 3, padding=1)
        self.mix = nn.Conv2d(tail + 6, tail, 3, padding=1)
        self.last = nn.Conv2d(tail, 3, 3, padding=1)
        for parameter in (*self.last.parameters(), *self.modulate.parameters()):
            nn.init.zeros_(parameter)

    @property
    def stride(self) -> int:
        return FIRST * int(2 ** (len(self.channels) - 1))

    @property
    def receptive_field_px(self) -> int:
        """Largest distance along an axis between an output pixel and an input pixel that it depends on.

        Each layer adds its cells on both sides of those reached before, from every position in a coarsest cell.
        """
        down = [(FIRST * 2**level, 2 * count) for level, count in enumerate(self.blocks)]
        layers = [(FIRST, 1), *down, *reversed(down[:-1]), (FIRST, 1), (1, 2), (self.stride, GRID_REACH)]
        farthest = 0
        for pixel in range(self.stride):
            first = last = pixel
            for cell, count in layers:
                first = (first // cell - count) * cell
                last = (last // cell + count + 1) * cell - 1
            farthest = max(farthest, pixel - first, last - pixel)
        return farthest

    def forward(self, x_t: Tensor, x_hat: Tensor, noise_level: Tensor, known: Tensor | None = None) -> Tensor:
        del known
        inputs = torch.cat([x_t, x_hat], dim=1)
        h = self.stem(F.pixel_unshuffle(inputs, FIRST))
        skips = []
        for level, stack in enumerate(self.down):
            if level == len(self.shrink):
                h = h + self.modulate(self.embed(noise_level)).unsqueeze(-1).unsqueeze(-1)
            h = stack(h)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](F.silu(h))
        for level in reversed(range(len(self.up))):
            h = self.up[level](skips[level] + F.pixel_shuffle(self.grow[level](F.silu(h)), 2))
        found = F.pixel_shuffle(self.head(F.silu(h)), FIRST)
        picture: Tensor = self.last(F.silu(self.mix(torch.cat([F.silu(found), inputs], dim=1))))
        return without_grid(picture, self.stride)


class LeanBlock(nn.Module):
    """h + conv(silu(conv(silu(h)))), 3x3 convolutions of one width. It begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.conv2(F.silu(self.conv1(F.silu(h))))
        return out


def _stack(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(LeanBlock(channels) for _ in range(count)))
