"""Known pixels: the finished pixels that patch-parallel decoding passes to the neighbouring patches.

The decoder continues the known pixels (outpainting, arXiv 2305.18231). In training, bands of the true picture along
random sides of a crop are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfd.arrays import Array, namespace

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHANNELS = 4
"""Three colours, zero where unknown, and the mask."""


def known_pixels(x0: Array, mask: Array) -> Array:
    """Join pictures (B, 3, H, W) in [-1, 1] and masks (B, 1, H, W), 1 where known, to (B, 4, H, W)."""
    return namespace(x0).concatenate([x0 * mask, mask], axis=1)


def mask_numbers(batch: int, generator: torch.Generator) -> Tensor:
    """Draw the uniform random numbers (B, 9) of :func:`masks_of`."""
    import torch

    return torch.rand((batch, 9), generator=generator)


def masks_of(numbers: Tensor, side_px: int, share: float) -> Tensor:
    """Masks (B, 1, side, side), 1 where known, from random numbers (B, 9).

    A sample has bands with probability ``share``; then each of its sides has one with probability 1/2 (one sample in
    16 has none), of a width uniform up to half the crop.
    """
    import torch

    masks = torch.zeros(len(numbers), 1, side_px, side_px)
    for mask, row in zip(masks, numbers.tolist(), strict=True):
        if row[0] >= share:
            continue
        for side in range(4):
            if row[1 + side] < 0.5:
                width = 1 + int(row[5 + side] * (side_px // 2))
                band = (slice(None), slice(0, width)) if side < 2 else (slice(None), slice(side_px - width, None))
                mask[0][band if side % 2 else band[::-1]] = 1.0
    return masks
