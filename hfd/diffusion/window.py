"""A part of a larger picture: where it lies, and the noise that the whole picture has there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hfd.diffusion.samplers import NoiseSource, generator_of, seeded_noise

_BLOCK = 16
"""torch draws normal numbers on the CPU sixteen at a time, from as many 32-bit words of the generator."""

_SKIP = 2**20
_WHOLE_VALUES = 2**22
"""Up to so many values are drawn at once and cut: 16 MiB."""


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
    """Noise (B, ``channels``, *shape*) of seeds; with ``window``, what :func:`seeded_noise` of the whole has there.

    The numbers of a large picture are drawn one after another and dropped where the window does not need them: memory
    follows the window, and time the picture (about 5 ns a value).
    """
    if window is None:
        return seeded_noise(seeds, (channels, *shape), device)
    size = channels * window.height * window.width
    if size <= _WHOLE_VALUES:
        whole = seeded_noise(seeds, (channels, window.height, window.width), device)
        return lambda step: window.box.cut(whole(step))
    return lambda step: torch.stack(
        [drawn_in_passing(generator_of(seed, step), channels, window) for seed in seeds]
    ).to(device)


def drawn_in_passing(generator: torch.Generator, channels: int, window: Window) -> Tensor:
    """``window.box`` of ``torch.randn((channels, H, W))``, without ever holding the whole; H W is at least 16."""
    box, plane = window.box, window.height * window.width
    stream = _Normals(generator, channels * plane)
    rows = [
        stream.read(channel * plane + box.top * window.width, channel * plane + box.bottom * window.width)
        .reshape(box.height, window.width)[:, box.left : box.right]
        .clone()
        for channel in range(channels)
    ]
    return torch.stack(rows)


class _Normals:
    """``torch.randn(size)`` read in order, range by range.

    torch transforms uniform numbers to normal ones in blocks of sixteen. Where sixteen do not divide the size, the last
    sixteen values are drawn afresh after all others.
    """

    def __init__(self, generator: torch.Generator, size: int) -> None:
        self._generator, self._size, self._at = generator, size, 0
        self._last = torch.empty(0)
        """The block before ``_at``."""

    def read(self, start: int, stop: int) -> Tensor:
        """Values ``start`` to ``stop``, which begins where the range before it ended, or later."""
        first = start // _BLOCK * _BLOCK
        whole = self._size // _BLOCK * _BLOCK
        end = min(-(-stop // _BLOCK) * _BLOCK, whole)
        pieces = []
        if first < self._at:
            pieces.append(self._last)
        self._skip(first)
        if end > self._at:
            pieces.append(torch.randn(end - self._at, generator=self._generator))
            self._at, self._last = end, pieces[-1][-_BLOCK:].clone()
        values = torch.cat([*pieces, torch.zeros(max(0, stop - whole))])[start - first : stop - first]
        afresh = self._size - _BLOCK
        if self._size != whole and stop > afresh:
            self._skip(whole)
            torch.rand(self._size - whole, generator=self._generator)
            tail = torch.randn(_BLOCK, generator=self._generator)
            begin = max(start, afresh)
            values[begin - start :] = tail[begin - afresh : stop - afresh]
        return values

    def _skip(self, to: int) -> None:
        while self._at < to:
            count = min(_SKIP, to - self._at)
            torch.rand(count, generator=self._generator)
            self._at += count
