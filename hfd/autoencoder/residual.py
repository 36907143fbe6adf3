"""Transforms made of residual blocks, without normalisation: what costs little on processors as well as on GPUs.

The picture goes through space-to-depth at once, so that nothing is computed at its full size. Most of the work is done
at 1/8 of the sides, where a block is wide enough for a matrix unit and its activations stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST = 4
"""Space-to-depth factor at the picture; two halvings follow."""

SLOPE = 0.1
"""Of the leaky rectifiers: plain ones died in the first steps of trainings."""

LATENT_SPREAD = 4.0
"""About how many quantiser steps the first latents spread over."""


class ResidualBlock(nn.Module):
    """x + conv(leaky(conv(leaky(x)))), 3x3 convolutions of one width, x (B, C, h, w). It begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels, 3)
        self.second = _conv(channels, channels, 3, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x + change


def residual_analysis(channels: Sequence[int], blocks: Sequence[int], M: int) -> nn.Sequential:
    """g_a: a picture (B, 3, H, W) to y (B, M, H/16, W/16).

    ``channels``, ``blocks``: widths and numbers of residual blocks at 1/4, 1/8 and 1/16 of the sides.
    """
    quarter, eighth, sixteenth = channels
    first = _conv(3 * FIRST**2, quarter, 3)
    assert first.bias is not None
    with torch.no_grad():
        first.bias.copy_(-0.5 * first.weight.sum(dim=(1, 2, 3)))  # as if grey were zero
    return nn.Sequential(
        nn.PixelUnshuffle(FIRST),
        first,
        *_blocks(quarter, blocks[0]),
        nn.LeakyReLU(SLOPE),
        nn.PixelUnshuffle(2),
        _conv(4 * quarter, eighth, 1),
        *_blocks(eighth, blocks[1]),
        nn.LeakyReLU(SLOPE),
        nn.PixelUnshuffle(2),
        _conv(4 * eighth, sixteenth, 1),
        *_blocks(sixteenth, blocks[2]),
        nn.LeakyReLU(SLOPE),
        _conv(sixteenth, M, 3, gain=LATENT_SPREAD),
    )


def residual_synthesis(channels: Sequence[int], blocks: Sequence[int], M: int) -> nn.Sequential:
    """g_s: a latent (B, M, h, w) to a picture (B, 3, 16 h, 16 w).

    ``channels``, ``blocks``: as in `residual_analysis`.
    """
    quarter, eighth, sixteenth = channels
    last = _conv(quarter, 3 * FIRST**2, 3, gain=0.5)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.fill_(0.5)  # grey: the middle of what it has to answer
    return nn.Sequential(
        _conv(M, sixteenth, 3, gain=1.0 / LATENT_SPREAD),
        *_blocks(sixteenth, blocks[2]),
        nn.LeakyReLU(SLOPE),
        _conv(sixteenth, 4 * eighth, 1),
        nn.PixelShuffle(2),
        *_blocks(eighth, blocks[1]),
        nn.LeakyReLU(SLOPE),
        _conv(eighth, 4 * quarter, 1),
        nn.PixelShuffle(2),
        *_blocks(quarter, blocks[0]),
        nn.LeakyReLU(SLOPE),
        last,
        nn.PixelShuffle(FIRST),
    )


def _conv(inputs: int, outputs: int, size: int, *, gain: float = 1.0) -> nn.Conv2d:
    """A convolution of stride 1 whose weights keep the spread of rectified inputs (He et al., arXiv 1502.01852), times
    ``gain``: torch's own would make the first latents so small that all of them are rounded to zero for long."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu").mul_(gain)
    return conv


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(count)]
