"""Gaussian noise of a picture or of a window of it: a function of seed, step and position only. No torch of its own.

The numbers are those of ``torch.randn`` with a generator of the CPU, up to rounding, so that a file's picture is one
with and without torch, on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hfd.arrays import Array, on_device
from hfd.engine.base import Values
from hfd.geometry.box import Box, Window

NoiseSource = Callable[[int], Array]
"""step index -> standard normal noise (B, C, H, W); index 0 is the start."""

BLOCK_PX = 1024
"""Side of the blocks of a picture whose noise is drawn at once, each from its own seed."""

_GROUP = 16
"""Numbers of a group of the transform."""

_AT_ONCE = 2**18
"""Numbers drawn at once, whole groups, few enough for the cache."""


def noise_in(
    seeds: Sequence[int], channels: int, shape: tuple[int, int], device: Any = None, window: Window | None = None
) -> NoiseSource:
    """Standard normal noise (B, ``channels``, *shape*) per seed and step.

    ``window``: the window's part of the noise of a larger picture. ``device``: of torch; None: arrays of NumPy.

    A picture's noise is drawn in blocks of ``BLOCK_PX`` x ``BLOCK_PX`` px, clipped at its right and lower edge, each by
    :func:`block_seed`, so that time and memory depend on the window only. Noise is drawn on the CPU, so that every
    device starts from the same numbers. Seeds are independent: the batch does not change a sample's noise.
    """
    whole = Window(Box(0, 0, *shape), *shape) if window is None else window
    return lambda step: on_device(np.stack([_noise_of(seed, step, channels, whole) for seed in seeds]), device)


def block_seed(seed: int, step: int, row: int, column: int) -> int:
    """Return the seed of one block's noise at one step.

    That of a block other than the first is a hash of all four numbers. The generator keeps 32 bits of it: two
    given blocks have the same noise with a probability of 2^-32.
    """
    if row == column == 0:
        return (seed * 0x9E3779B97F4A7C15 + step) % 2**63
    digest = hashlib.blake2b(f"{seed} {step} {row} {column}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def standard_normal(seed: int, count: int) -> Values:
    """``torch.randn(count)`` of a generator of the CPU with ``seed``, float32 (count,), to about 5e-7.

    The generator is MT19937, seeded by the low 32 bits. From 16 numbers on, uniform numbers of 24 bits are transformed
    in groups of 16, the first eight with the last eight (Box and Muller, 1958), and a last group that is not whole is
    drawn again at the end. Fewer are transformed in pairs, from uniform numbers of 53 bits.
    """
    generator = np.random.RandomState(seed % 2**32)
    if count < _GROUP:
        return _few(generator, count)
    drawn = np.empty(count, np.float32)
    for first in range(0, count, _AT_ONCE):
        part = _uniform(generator, min(_AT_ONCE, count - first))
        _transform(part[: len(part) // _GROUP * _GROUP])
        drawn[first : first + len(part)] = part
    if count % _GROUP:
        last = _uniform(generator, _GROUP)
        _transform(last)
        drawn[-_GROUP:] = last
    return drawn


def _words(generator: np.random.RandomState, count: int) -> npt.NDArray[np.uint32]:
    """The next outputs of MT19937 as they are."""
    return np.frombuffer(generator.bytes(4 * count), "<u4")


def _uniform(generator: np.random.RandomState, count: int) -> Values:
    uniform = (_words(generator, count) & 0xFFFFFF).astype(np.float32)
    uniform *= np.float32(2.0**-24)
    return uniform


def _transform(uniform: Values) -> None:
    """Make whole groups of uniform numbers normal, in place."""
    pairs = uniform.reshape(-1, 2, _GROUP // 2)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - pairs[:, 0]))
    angle = np.float32(2.0 * np.pi) * pairs[:, 1]
    pairs[:, 0], pairs[:, 1] = radius * np.cos(angle), radius * np.sin(angle)


def _few(generator: np.random.RandomState, count: int) -> Values:
    words = _words(generator, 2 * (count + count % 2)).reshape(-1, 2, 2).astype(np.uint64)
    uniform = ((words[..., 0] << np.uint64(32) | words[..., 1]) & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log1p(-uniform[:, 1])), 2.0 * np.pi * uniform[:, 0]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    few: Values = pairs.reshape(-1)[:count].astype(np.float32)
    return few


def _noise_of(seed: int, step: int, channels: int, window: Window) -> Values:
    noise = np.empty((channels, window.box.height, window.box.width), np.float32)
    for row in range(window.box.top // BLOCK_PX, -(-window.box.bottom // BLOCK_PX)):
        for column in range(window.box.left // BLOCK_PX, -(-window.box.right // BLOCK_PX)):
            block = Box(row * BLOCK_PX, column * BLOCK_PX, BLOCK_PX, BLOCK_PX).clipped(window.height, window.width)
            size = channels * block.height * block.width
            drawn = standard_normal(block_seed(seed, step, row, column), size).reshape(
                channels, block.height, block.width
            )
            shared = block.shared_with(window.box)
            shared.within(window.box).cut(noise)[...] = shared.within(block).cut(drawn)
    return noise
