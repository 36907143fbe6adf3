"""Moves of pictures between a sampler and its losses, against patterns that only the losses see as texture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hfd.training.randomness import SampleRandomness

CELL_PX = 16
"""Side of the largest cell of the networks in the perceptual losses: AlexNet's, with its convolution and poolings."""


def moved(pictures: Sequence[Tensor], randomness: SampleRandomness, *, cell_px: int = CELL_PX) -> list[Tensor]:
    """Roll, flip and transpose pictures (B, 3, h, h) at random, all in the same way, for the whole batch of a step.

    ``cell_px``: rolls are shorter than this, the largest cell of the networks that see the results.
    The strides of a sampler, of frozen networks and of a critic share divisors. If their cells always meet at the same
    pixels, and their filters in the same direction, the losses favour patterns of their own: grids and hatching on
    plain areas. E-LPIPS (Kettunen et al., arXiv 1906.03973) averages LPIPS over random transformations; these are the
    ones that keep every pixel. The results are in channels-last memory.
    """
    generator = randomness.shared("move")
    down, right = torch.randint(cell_px, (2,), generator=generator).tolist()
    vertical, horizontal, transposed = torch.randint(2, (3,), generator=generator).tolist()
    flips = [axis for axis, flip in ((2, vertical), (3, horizontal)) if flip]
    axes = (0, 1, 3, 2) if transposed else (0, 1, 2, 3)
    return [
        picture.roll((down, right), (2, 3)).flip(flips).permute(axes).contiguous(memory_format=torch.channels_last)
        for picture in pictures
    ]
