"""CMMD: the maximum mean discrepancy of two sets of CLIP embeddings with a Gaussian kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hfd.metrics.blocks import BlockSums
from hfd.metrics.frechet import KERNEL_CHUNK, Counts, Features, FloatArray, OfCounts, as_pairs, as_rows
from hfd.metrics.of_counts import sums_by_image

SIGMA = 10.0
"""Width of the kernel ``exp(-|x - y|^2 / (2 sigma^2))``."""
SCALE = 1000.0
"""Factor of the reported value."""


def gaussian_distance(a_features: Features, b_features: Features) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel, times 1000: the biased estimate, at least 0.

    As CMMD (Jayasumana et al. 2024, with Gretton et al. 2012, equation 5). Features are float (P, D) and (Q, D), at
    least one row each. Kernels are summed by blocks, in float64; the published code sums in float32, which leaves an
    error of about 1e-4. Raises as :func:`hfd.metrics.frechet.kernel_distance`.
    """
    a, b = as_rows("a_features", a_features), as_rows("b_features", b_features)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features: got lengths {a.shape[1]} and {b.shape[1]}, expected one length")
    within = sum(_mean(x, x) for x in (a, b))
    return max(0.0, SCALE * (within - 2.0 * _mean(a, b)))


def gaussian_of_counts(a_features: Features, b_features: Features, patches: Sequence[int]) -> OfCounts:
    """:func:`gaussian_distance` of paired rows, float (P, D) each, ``patches`` of each image."""
    a, b = as_pairs(a_features, b_features)
    # One form of all kernel values: within both sets, less those across, in both directions.
    within = sums_by_image(_kernel, a, a, patches) + sums_by_image(_kernel, b, b, patches)
    values = within - 2.0 * sums_by_image(_kernel, a, b, patches)
    each = np.asarray(patches, np.float64)

    def distance(counts: Counts) -> float:
        return max(0.0, SCALE * float(counts @ values @ counts) / float(counts @ each) ** 2)

    return distance


def gaussian_of_blocks(blocks: Sequence[BlockSums]) -> OfCounts:
    """:func:`gaussian_distance` of all blocks together, as a function of their counts, float64 (B,).

    For embeddings of length 1 the kernel is ``exp(-1/s) exp(x.y / s)``, s = sigma^2, whose series' first two terms need
    only the sums and the sums of outer products. The rest is below 7e-4 for any two sets, and about 1e-4 of the value
    for sets of pictures. The blocks have embeddings of length 1.
    """
    nums = np.array([block.decoded.num for block in blocks], np.float64)
    sides = [[block.reference for block in blocks], [block.decoded for block in blocks]]

    def distance(counts: Counts) -> float:
        num = float(counts @ nums)
        first, second = (
            sum(
                sign * sum(count * getattr(stats, part) for count, stats in zip(counts, side, strict=True) if count)
                for sign, side in zip((1.0, -1.0), sides, strict=True)
            )
            for part in ("sum", "outer")
        )
        terms = np.sum((first / num) ** 2) / SIGMA**2 + np.sum((second / num) ** 2) / (2.0 * SIGMA**4)
        return float(SCALE * np.exp(-1.0 / SIGMA**2) * terms)

    return distance


def _mean(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for i in range(0, len(a), KERNEL_CHUNK):
        for j in range(0, len(b), KERNEL_CHUNK):
            total += float(_kernel(a[i : i + KERNEL_CHUNK], b[j : j + KERNEL_CHUNK]).sum())
    return total / (len(a) * len(b))


def _kernel(a: FloatArray, b: FloatArray) -> FloatArray:
    squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None, :] - 2.0 * a @ b.T
    values: FloatArray = np.exp(-squares / (2.0 * SIGMA**2))
    return values
