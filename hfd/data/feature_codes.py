"""Binary codes of features, and an index of them: few pairs of rows remain to be compared.

A bit of a code is the side of a random plane on which a row lies. Two rows at the angle a differ in each bit with the
probability a / pi (Charikar 2002), so that near rows have codes with few differing bits. faiss counts those in a
fraction of the time of a cosine. Codes are computed in integers: they are the same on any machine.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]
Features = npt.NDArray[np.float16]
"""(P, D): a row for each picture; half precision changes a cosine by less than 1e-3."""

Codes = npt.NDArray[np.uint8]
"""(P, BITS / 8)"""

BITS = 512
MISSED = 1e-6
"""Most probable share, among pairs on the limit, of those that are not found. Nearer pairs are missed less often."""

LEAST_COSINE = 0.7
"""Below it, codes tell near rows from others so badly that comparing all rows is as fast."""

_TERMS = 16
_LEVELS = 4095
_EXACT = 1 << 24
"""Sums of integers below it are exact in float32."""
_AT_ONCE = 2048
_QUERIES = 64
SHARD = 1 << 15
"""Codes that are compared while they lie in the processor's cache: 2 MiB."""


def feature_codes(features: Features) -> Codes:
    """Return the code of each row of finite values, (P, D) to (P, 64)."""
    planes = _planes(features.shape[1])
    levels = min(_LEVELS, (_EXACT - 1) // max(1, int(np.abs(planes).sum(axis=0).max())))
    codes = np.empty((len(features), BITS // 8), dtype=np.uint8)
    for start in range(0, len(features), _AT_ONCE):
        x = features[start : start + _AT_ONCE].astype(np.float32)
        largest = np.maximum(np.abs(x).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        codes[start : start + len(x)] = np.packbits(np.rint(x / largest * levels) @ planes >= 0, axis=1)
    return codes


def most_differing_bits(cosine: float) -> int:
    """Return the number of bits that codes of rows with this cosine exceed with a probability of at most ``MISSED``.

    The number of bits in which two codes differ has a binomial distribution.
    """
    share = math.acos(cosine) / math.pi
    beyond = 0.0
    for bits in range(BITS, 0, -1):
        beyond += math.comb(BITS, bits) * share**bits * (1 - share) ** (BITS - bits)
        if beyond > MISSED:
            return bits
    return 0


class CodeIndex:
    """Rows by their codes. What it finds depends on the codes alone, not on the number of threads."""

    def __init__(self, cosine: float) -> None:
        """Start empty. Raises :class:`ModuleNotFoundError` without faiss."""
        import faiss

        self._new_shard = functools.partial(faiss.IndexBinaryFlat, BITS)
        self._radius = most_differing_bits(cosine) + 1  # faiss finds distances below it
        self._shards: list[tuple[Rows, faiss.IndexBinaryFlat]] = []

    def add(self, rows: Rows, codes: Codes) -> None:
        """Add rows, (P,), by their codes, (P, 64)."""
        while len(rows):
            if not self._shards or self._shards[-1][1].ntotal == SHARD:
                self._shards.append((np.empty(SHARD, dtype=np.intp), self._new_shard()))
            numbers, shard = self._shards[-1]
            count = min(len(rows), SHARD - shard.ntotal)
            numbers[shard.ntotal : shard.ntotal + count] = rows[:count]
            shard.add(np.ascontiguousarray(codes[:count]))
            rows, codes = rows[count:], codes[count:]

    def candidates(self, codes: Codes) -> Iterator[tuple[Rows, Rows]]:
        """Yield, for some of the codes at a time, the positions of those with near codes, and the rows near any."""
        for numbers, shard in self._shards:
            for start in range(0, len(codes), _QUERIES):
                limits, _, found = shard.range_search(codes[start : start + _QUERIES], self._radius)
                if len(found):
                    yield start + np.flatnonzero(np.diff(limits)), numbers[np.unique(found)]


@functools.cache
def _planes(dimension: int) -> npt.NDArray[np.float32]:
    """Return normals of random planes, (D, BITS): integers from -8 to 8, nearly normal, from a hash of a fixed text."""
    bits = np.frombuffer(hashlib.shake_256(b"hfd near features").digest(dimension * BITS * _TERMS // 8), dtype=np.uint8)
    sums = np.unpackbits(bits).reshape(dimension, BITS, _TERMS).sum(axis=-1, dtype=np.int16)
    planes: npt.NDArray[np.float32] = (sums - _TERMS // 2).astype(np.float32)
    return planes
