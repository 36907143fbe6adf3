"""Duplicate pictures: a perceptual hash, and all near pairs among a million hashes.

Hashes have 64 bits; a distance is the number of differing bits. Near pairs are found without comparing all pairs: if
two hashes are within ``bits``, at least one of their m bands differs by at most ``bits // m``, so that looking up each
band and its near values finds every pair (multi-index hashing: Norouzi, Punjani and Fleet 2012).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

MAX_BITS = 8
"""Beyond this distance, different pictures match and the search takes minutes."""

_GRID = 32
_MAX_BAND_BITS = 22
_CHUNK = 1 << 22
"""Candidate pairs in memory at once."""


def perceptual_hash(picture: Image.Image) -> int | None:
    """64 bits that change little when a picture is scaled, recompressed or retouched; None without detail.

    The picture is averaged to 32 x 32 luma; its 8 x 8 DCT coefficients with frequencies from 1 to 8 are compared with
    their median (pHash, Zauner 2010). Bit ``8 i + j``: coefficient (i + 1, j + 1). Rotations and mirror images differ.
    """
    small = picture.resize((_GRID, _GRID), Image.Resampling.BOX, reducing_gap=None).convert("L")
    basis = _dct_basis()
    coefficients = basis @ np.asarray(small, dtype=np.float64) @ basis.T
    if np.abs(coefficients).max() < 1.0:  # less than one level in all: rounding would decide
        return None
    bits = (coefficients > np.median(coefficients)).ravel()
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


@functools.cache
def _dct_basis() -> npt.NDArray[np.float64]:
    """Rows 1 to 8 of the orthonormal DCT-II of 32 samples, (8, 32)."""
    k, n = np.arange(1, 9)[:, None], np.arange(_GRID)[None, :]
    basis: npt.NDArray[np.float64] = math.sqrt(2.0 / _GRID) * np.cos(np.pi * k * (2 * n + 1) / (2 * _GRID))
    return basis


def distance(a: Hashes, b: Hashes) -> npt.NDArray[np.uint8]:
    """Numbers of differing bits, element by element."""
    # numpy 1.26 has no bit count: add up pairs, nibbles, and bytes by a product.
    x = a ^ b
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((x * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def first_of_equals(contents: npt.NDArray[np.object_] | Hashes) -> npt.NDArray[np.bool_]:
    """Mark the elements that equal no earlier one."""
    first = np.zeros(len(contents), dtype=bool)
    first[np.unique(contents, return_index=True)[1]] = True
    return first


def first_of_near(hashes: Hashes, bits: int) -> npt.NDArray[np.bool_]:
    """Mark the hashes to keep: each one, in order, unless an earlier kept one is within ``bits``.

    No two kept hashes are within ``bits``, and each dropped one is near a kept one.
    """
    _check_bits(bits)
    stays = np.zeros(len(hashes), dtype=bool)
    if not len(hashes):
        return stays
    # Equal hashes, of which there may be many, have the same neighbours: their first decides for all.
    unique, first = np.unique(hashes, return_index=True)
    order = np.argsort(first)
    unique, first = unique[order], first[order]
    kept = np.ones(len(unique), dtype=bool)
    earlier, later = _near_pairs(unique, bits)
    for a, b in zip(earlier.tolist(), later.tolist(), strict=True):
        if kept[a]:
            kept[b] = False
    stays[first[kept]] = True
    return stays


def near_any(hashes: Hashes, others: Hashes, bits: int) -> npt.NDArray[np.bool_]:
    """Mark the hashes within ``bits`` of any of ``others``."""
    _check_bits(bits)
    near = np.zeros(len(hashes), dtype=bool)
    for _, index in _matches(np.unique(others), hashes, bits):
        near[index] = True
    return near


def _near_pairs(hashes: Hashes, bits: int) -> tuple[Indices, Indices]:
    """All pairs (i, j), i < j, within ``bits``, once each, sorted by j."""
    count = len(hashes)
    found = [i * count + j for i, j in ((a[a < b], b[a < b]) for a, b in _matches(hashes, hashes, bits))]
    pairs = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
    pairs = pairs[np.argsort(pairs % count, kind="stable")]
    return pairs // count, pairs % count


def _matches(queries: Hashes, hashes: Hashes, bits: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield indices (into queries, into hashes) of all pairs within ``bits``, each at least once."""
    if not len(queries) or not len(hashes):
        return
    for band in _bands(len(hashes), bits):
        values = band.of(hashes)
        order = np.argsort(values, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(values, minlength=1 << band.width))])
        wanted = band.of(queries)
        for flip in band.flips:
            low, high = starts[wanted ^ flip], starts[(wanted ^ flip) + 1]
            for query, position in _expand(low, high):
                index = order[position]
                near = distance(queries[query], hashes[index]) <= bits
                if near.any():
                    yield query[near], index[near]


@dataclass(frozen=True)
class _Band:
    """Bits ``shift`` to ``shift + width`` of a hash, and the differences to look up."""

    shift: int
    width: int
    flips: tuple[int, ...]

    def of(self, hashes: Hashes) -> Indices:
        return ((hashes >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1)).astype(np.int64)


def _bands(count: int, bits: int) -> list[_Band]:
    """The cheapest bands: wide ones have many near values to look up, narrow ones have full buckets."""

    def cost(number: int) -> float:
        width = 64 / number
        lookups = number * sum(math.comb(math.ceil(width), k) for k in range(bits // number + 1))
        return float(lookups * (1.0 + count / 2.0**width))

    number = min(range(math.ceil(64 / _MAX_BAND_BITS), 17), key=cost)
    edges = [round(64 * i / number) for i in range(number + 1)]
    return [_Band(low, high - low, _flips(high - low, bits // number)) for low, high in itertools.pairwise(edges)]


def _flips(width: int, radius: int) -> tuple[int, ...]:
    """All values of ``width`` bits with at most ``radius`` bits set."""
    return tuple(
        sum(1 << place for place in places)
        for number in range(radius + 1)
        for places in itertools.combinations(range(width), number)
    )


def _expand(low: Indices, high: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield (row, position) for each position in [low[row], high[row]), ``_CHUNK`` at a time."""
    filled = np.flatnonzero(high > low)
    low, sizes = low[filled], (high - low)[filled]
    ends = np.cumsum(sizes)
    start = 0
    while start < len(filled):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        count = sizes[start:stop]
        offsets = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        yield np.repeat(filled[start:stop], count), np.repeat(low[start:stop], count) + offsets
        start = stop


def _check_bits(bits: int) -> None:
    if not 0 <= bits <= MAX_BITS:
        raise ValueError(f"bits: got {bits}, expected 0 to {MAX_BITS}")
