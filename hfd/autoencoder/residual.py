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


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3 convolutions of one width, x (B, C, h, w). It begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + change


def residual_analysis(channels: Sequence[int], blocks: Sequence[int], M: int) -> nn.Sequential:
    """g_a: a picture (B, 3, H, W) to y (B, M, H/16, W/16).

    ``channels``, ``blocks``: widths and numbers of residual blocks at 1/4, 1/8 and 1/16 of the sides.
    """
    quarter, eighth, sixteenth = channels
    return nn.Sequential(
        nn.PixelUnshuffle(FIRST),
        nn.Conv2d(3 * FIRST**2, quarter, 3, padding=1),
        *_blocks(quarter, blocks[0]),
        nn.ReLU(),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * quarter, eighth, 1),
        *_blocks(eighth, blocks[1]),
        nn.ReLU(),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * eighth, sixteenth, 1),
        *_blocks(sixteenth, blocks[2]),
        nn.ReLU(),
        nn.Conv2d(sixteenth, M, 3, padding=1),
    )


def residual_synthesis(channels: Sequence[int], blocks: Sequence[int], M: int) -> nn.Sequential:
    """g_s: a latent (B, M, h, w) to a picture (B, 3, 16 h, 16 w).

    ``channels``, ``blocks``: as in `residual_analysis`.
    """
    quarter, eighth, sixteenth = channels
    last = nn.Conv2d(quarter, 3 * FIRST**2, 3, padding=1)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.fill_(0.5)  # grey: the middle of what it has to answer
    return nn.Sequential(
        nn.Conv2d(M, sixteenth, 3, padding=1),
        *_blocks(sixteenth, blocks[2]),
        nn.ReLU(),
        nn.Conv2d(sixteenth, 4 * eighth, 1),
        nn.PixelShuffle(2),
        *_blocks(eighth, blocks[1]),
        nn.ReLU(),
        nn.Conv2d(eighth, 4 * quarter, 1),
        nn.PixelShuffle(2),
        *_blocks(quarter, blocks[0]),
        nn.ReLU(),
        last,
        nn.PixelShuffle(FIRST),
    )


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(count)]
