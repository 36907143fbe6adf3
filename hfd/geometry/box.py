"""A part of a larger picture: where it lies, and the noise that the whole picture has there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hfd.diffusion.samplers import NoiseSource, generator_of

BLOCK_PX = 1024
"""Side of the blocks of a picture whose noise is drawn at once, from a generator of their own."""


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture, px: rows ``top`` to ``top + height``, columns alike."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    def cut(self, x: Tensor) -> Tensor:
        """These rows and columns of (..., H, W), a view."""
        return x[..., self.top : self.bottom, self.left : self.right]

    def clipped(self, height: int, width: int) -> Box:
        """What of it lies in a picture of this size."""
        top, left = max(0, self.top), max(0, self.left)
        return Box(top, left, min(height, self.bottom) - top, min(width, self.right) - left)

    def shared_with(self, other: Box) -> Box:
        """What lies in both; of height or width 0 where nothing does."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height, width = min(self.bottom, other.bottom) - top, min(self.right, other.right) - left
        return Box(top, left, max(0, height), max(0, width))

    def within(self, outer: Box) -> Box:
        """The same rectangle as ``outer`` counts its rows and columns."""
        return Box(self.top - outer.top, self.left - outer.left, self.height, self.width)


@dataclass(frozen=True)
class Tile:
    """``core``: what is wanted of a picture; ``window``: the core with the context that it is computed from."""

    core: Box
    window: Box


@dataclass(frozen=True)
class Window:
    """A rectangle ``box`` of a picture of ``height`` x ``width`` px."""

    box: Box
    height: int
    width: int


def noise_in(
    seeds: Sequence[int], channels: int, shape: tuple[int, int], device: torch.device, window: Window | None = None
) -> NoiseSource:
    """Standard normal noise (B, ``channels``, *shape*) of each seed and step; with ``window``, what a larger picture
    has there.

    A picture's noise is drawn in blocks of ``BLOCK_PX`` x ``BLOCK_PX`` px, cut at its right and lower edge, each by
    :func:`block_generator`: any window of it is found in time and memory that follow the window alone. Drawn on the
    CPU, so that every device starts from the same numbers.
    """
    whole = Window(Box(0, 0, *shape), *shape) if window is None else window
    return lambda step: torch.stack([_noise_of(seed, step, channels, whole) for seed in seeds]).to(device)


def block_generator(seed: int, step: int, row: int, column: int) -> torch.Generator:
    """On the CPU: of one block's noise at one step. The first block's is the sample's own, :func:`generator_of`.

    The others' are seeded by a hash of all four numbers. torch's generator keeps 32 bits of it: two given blocks have
    the same noise with a chance of 2^-32.
    """
    if row == column == 0:
        return generator_of(seed, step)
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
