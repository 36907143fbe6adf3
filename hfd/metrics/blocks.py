"""Distances from sums over blocks of images, for sets too large for memory.

The Frechet distance needs only sums, which add up over blocks: it equals that of all patches, up to rounding. The
kernel distance, which would need about D^3 / 6 sums, is the mean of the blocks' unbiased estimates, as in KID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfd.metrics.frechet import (
    Counts,
    Features,
    FloatArray,
    GaussianStats,
    OfCounts,
    frechet_distance,
    kernel_distance,
)

KERNEL_ROWS = 4096
"""Largest number of patches for the kernel distance of a block: those of its first images.

Pairs of a picture and its decoded version bias the estimate by about -2 / P times the excess of their kernel value over
that of unrelated patches, which vanishes with the number of patches P.
"""

ADDED_ROWS = 1024
"""Fewest rows per addition: a D x D sum for each image alone would take longer than its product."""


@dataclass(frozen=True, eq=False)
class BlockSums:
    """Sums of the paired sets of one block; ``kernel``: their kernel distance, None below two patches."""

    reference: GaussianStats
    decoded: GaussianStats
    kernel: float | None

    def to_arrays(self) -> dict[str, FloatArray]:
        """As float64 arrays for a file; of outer products the upper triangle."""
        kernel = np.nan if self.kernel is None else self.kernel
        arrays = {"kernel": np.array([kernel]), "num": np.array([float(self.decoded.num)])}
        for name, stats in (("reference", self.reference), ("decoded", self.decoded)):
            arrays |= {f"{name}_sum": stats.sum, f"{name}_outer": _packed(stats.outer)}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray]) -> BlockSums:
        num, kernel = int(arrays["num"][0]), float(arrays["kernel"][0])
        reference, decoded = (
            GaussianStats(num, arrays[f"{name}_sum"], _unpacked(arrays[f"{name}_outer"], len(arrays[f"{name}_sum"])))
            for name in ("reference", "decoded")
        )
        return cls(reference, decoded, None if np.isnan(kernel) else kernel)


class BlockCollector:
    """Adds up pairs of feature sets, float (P, D) each, image by image."""

    def __init__(self, dimension: int) -> None:
        nothing = GaussianStats(0, np.zeros(dimension), np.zeros((dimension, dimension)))
        self._reference, self._decoded = nothing, nothing
        self._waiting: list[tuple[Features, Features]] = []
        self._kept: list[tuple[Features, Features]] = []
        self._num_kept = 0

    def add(self, reference: Features, decoded: Features) -> None:
        if reference.shape != decoded.shape:
            raise ValueError(f"features: got {reference.shape} and {decoded.shape}, expected pairs of rows")
        if not len(decoded):
            return
        self._waiting.append((reference, decoded))
        if sum(len(rows) for rows, _ in self._waiting) >= ADDED_ROWS:
            self._add_waiting()
        room = KERNEL_ROWS - self._num_kept
        if room > 0:
            self._kept.append((reference[:room].copy(), decoded[:room].copy()))
            self._num_kept += min(room, len(decoded))

    def sums(self) -> BlockSums:
        self._add_waiting()
        kernel = None
        if self._num_kept > 1:
            kernel = kernel_distance(*(np.concatenate(side) for side in zip(*self._kept, strict=True)))
        return BlockSums(self._reference, self._decoded, kernel)

    def _add_waiting(self) -> None:
        if self._waiting:
            reference, decoded = (np.concatenate(side) for side in zip(*self._waiting, strict=True))
            self._reference += GaussianStats.of(reference)
            self._decoded += GaussianStats.of(decoded)
            self._waiting = []


def frechet_of_blocks(blocks: Sequence[BlockSums]) -> OfCounts:
    """:func:`frechet_distance` of all blocks together, as a function of their counts, float64 (B,)."""
    nums = np.array([block.decoded.num for block in blocks], np.float64)
    dimension = len(blocks[0].decoded.sum)
    sides = [
        (np.stack([stats.sum for stats in side]), np.stack([_packed(stats.outer) for stats in side]))
        for side in ([block.reference for block in blocks], [block.decoded for block in blocks])
    ]
    places = _places(dimension)

    def distance(counts: Counts) -> float:
        num = round(float(counts @ nums))
        a, b = (GaussianStats(num, counts @ sums, (counts @ outers)[places]) for sums, outers in sides)
        return frechet_distance(a, b)

    return distance


def kernel_of_blocks(blocks: Sequence[BlockSums]) -> OfCounts:
    """Mean of the blocks' kernel distances, as a function of their counts; ignores blocks without one."""
    values = np.array([0.0 if block.kernel is None else block.kernel for block in blocks])
    known = np.array([block.kernel is not None for block in blocks], np.float64)

    def distance(counts: Counts) -> float:
        return float(counts @ values / (counts @ known)) if counts @ known else float("nan")

    return distance


def _packed(outer: FloatArray) -> FloatArray:
    upper: FloatArray = outer[np.triu_indices(len(outer))]
    return upper


def _unpacked(upper: FloatArray, dimension: int) -> FloatArray:
    whole: FloatArray = upper[_places(dimension)]
    return whole


def _places(dimension: int) -> npt.NDArray[np.int32]:
    """Return, for each element of a symmetric matrix (D, D), its place among those of the upper triangle."""
    rows, columns = np.triu_indices(dimension)
    places = np.empty((dimension, dimension), np.int32)
    places[rows, columns] = places[columns, rows] = np.arange(len(rows), dtype=np.int32)
    return places
