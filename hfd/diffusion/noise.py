"""Gaussian noise of a picture or of a window of it: a function of seed, step and position only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hfd.geometry.box import Box, Window

NoiseSource = Callable[[int], Tensor]
"""step index -> standard normal noise (B, C, H, W); index 0 is the start."""

BLOCK_PX = 1024
"""Side of the blocks of a picture whose noise is drawn at once, each from its own generator."""


def noise_in(
    seeds: Sequence[int], channels: int, shape: tuple[int, int], device: torch.device, window: Window | None = None
) -> NoiseSource:
    """Standard normal noise (B, ``channels``, *shape*) per seed and step; with ``window``, that part of the larger
    picture's noise.

    A picture's noise is drawn in blocks of ``BLOCK_PX`` x ``BLOCK_PX`` px, clipped at its right and lower edge, each by
    :func:`block_generator`, so that time and memory depend on the window only. Noise is drawn on the CPU, so that every
    device starts from the same numbers. Seeds are independent: the batch does not change a sample's noise.
    """
    whole = Window(Box(0, 0, *shape), *shape) if window is None else window
    return lambda step: torch.stack([_noise_of(seed, step, channels, whole) for seed in seeds]).to(device)


def block_generator(seed: int, step: int, row: int, column: int) -> torch.Generator:
    """Return the CPU generator of one block's noise at one step.

    A block other than the first is seeded by a hash of all four numbers. torch's generator keeps 32 bits of it: two
    given blocks have the same noise with a probability of 2^-32.
    """
    if row == column == 0:
        return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step) % 2**63)
    digest = hashlib.blake2b(f"{seed} {step} {row} {column}".encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def _noise_of(seed: int, step: int, channels: int, window: Window) -> Tensor:
    noise = torch.empty(channels, window.box.height, window.box.width)
    for row in range(window.box.top // BLOCK_PX, -(-window.box.bottom // BLOCK_PX)):
        for column in range(window.box.left // BLOCK_PX, -(-window.box.right // BLOCK_PX)):
            block = Box(row * BLOCK_PX, column * BLOCK_PX, BLOCK_PX, BLOCK_PX).clipped(window.height, window.width)
            drawn = torch.randn(
                (channels, block.height, block.width), generator=block_generator(seed, step, row, column)
            )
            shared = block.shared_with(window.box)
            shared.within(window.box).cut(noise).copy_(shared.within(block).cut(drawn))
    return noise
