"""Distances of paired sets as functions of the count of each image: what a bootstrap over images computes per draw.

What does not depend on the counts is computed once: products of rows for the Frechet distance, and kernel values summed
by pairs of images for the kernel distances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hfd.metrics.frechet import (
    KERNEL_CHUNK,
    Counts,
    Features,
    FloatArray,
    OfCounts,
    as_pairs,
    cubic_diagonal,
    cubic_kernel,
    frechet_of_moments,
    without_noise,
)

_Places = npt.NDArray[np.intp]

MOST_ROWS = 2.0
"""Largest number of rows for the products of rows, as a multiple of the number of features. Two thirds of the rows are
in a draw, so that these products are then about as large as the covariances (``benchmarks/metrics.py``)."""


def frechet_of_counts(a_features: Features, b_features: Features, patches: Sequence[int]) -> OfCounts:
    """:func:`hfd.metrics.frechet.frechet_distance` of paired rows, float (P, D) each, ``patches`` of each image."""
    a, b = as_pairs(a_features, b_features)
    a, b = a - a.mean(axis=0), b - a.mean(axis=0)  # the same shift, for less rounding
    of_rows = _frechet_by_products(a, b) if len(a) <= MOST_ROWS * a.shape[1] else _frechet_by_covariances(a, b)
    return lambda counts: of_rows(np.repeat(counts, patches))


def frechet_of_pairs(a_features: Features, b_features: Features) -> float:
    """:func:`hfd.metrics.frechet.frechet_distance` of at least two paired rows, float (P, D) each."""
    return frechet_of_counts(a_features, b_features, [len(a_features)])(np.ones(1))


def kernel_of_counts(a_features: Features, b_features: Features, patches: Sequence[int]) -> OfCounts:
    """:func:`hfd.metrics.frechet.kernel_distance` of paired rows, float (P, D) each, ``patches`` of each image."""
    a, b = as_pairs(a_features, b_features)
    within = sums_by_image(cubic_kernel, a, a, patches) + sums_by_image(cubic_kernel, b, b, patches)
    across = sums_by_image(cubic_kernel, a, b, patches)
    each = np.asarray(patches, np.float64)
    diagonal = np.zeros(len(each))
    np.add.at(diagonal, np.repeat(np.arange(len(each)), patches), cubic_diagonal(a) + cubic_diagonal(b))

    def distance(counts: Counts) -> float:
        num = float(counts @ each)
        # Copies of a row form pairs with each other, but not with themselves.
        pairs = counts @ within @ counts - counts @ diagonal
        return float(pairs / (num * (num - 1)) - 2.0 * (counts @ across @ counts) / num**2)

    return distance


def sums_by_image(
    kernel: Callable[[FloatArray, FloatArray], FloatArray], a: FloatArray, b: FloatArray, patches: Sequence[int]
) -> FloatArray:
    """Sum a kernel, (p, D) and (P, D) to (p, P), over the rows of each pair of images: float64 (I, I).

    Memory is bounded by ``KERNEL_CHUNK`` rows, or those of one image, times P.
    """
    sums = np.zeros((len(patches), len(patches)))
    ends = np.cumsum([0, *patches])
    known = np.flatnonzero(patches)  # reduceat would give an image without rows those of the next
    for images in _chunks(known, ends):
        values = kernel(a[ends[images[0]] : ends[images[-1] + 1]], b)
        rows = np.add.reduceat(values, ends[images] - ends[images[0]], axis=0)
        sums[np.ix_(images, known)] = np.add.reduceat(rows, ends[known], axis=1)
    return sums


def _chunks(images: _Places, ends: _Places) -> Iterator[_Places]:
    """Cut images, int (K,), into runs of about ``KERNEL_CHUNK`` rows, at least one image each."""
    numbers = ends[images] // KERNEL_CHUNK
    yield from (run for run in np.split(images, np.flatnonzero(np.diff(numbers)) + 1) if len(run))


def _frechet_by_products(a: FloatArray, b: FloatArray) -> OfCounts:
    """The distance by counts of rows, whose number is below that of features or a little above.

    With centred rows X and Y scaled to covariances X'X and Y'Y, the eigenvalues of ``sqrt(A) B sqrt(A)`` are the
    squared singular values of X Y', which follow from the products of all rows. Row i counted c times equals row i
    times sqrt(c), so that a draw computes only the distinct rows, two thirds of all.
    """
    products = a @ b.T
    squares = np.einsum("pd,pd->p", a, a) + np.einsum("pd,pd->p", b, b)

    def distance(counts: Counts) -> float:
        drawn, num = np.flatnonzero(counts), counts.sum()
        own = counts[drawn]
        mean_a, mean_b = counts @ a / num, counts @ b / num
        of_drawn = products[np.ix_(drawn, drawn)]
        by_row, by_column = of_drawn @ own / num, own @ of_drawn / num
        of_drawn -= by_row[:, None]
        of_drawn += own @ by_row / num - by_column
        root = np.sqrt(own / (num - 1.0))
        of_drawn *= root[:, None]
        of_drawn *= root
        # Singular values as roots of eigenvalues: half the time of an SVD.
        cross = np.sqrt(without_noise(np.linalg.eigvalsh(of_drawn.T @ of_drawn))).sum()
        means = mean_a @ mean_a + mean_b @ mean_b
        spread = (counts @ squares - num * means) / (num - 1.0)
        return max(0.0, float(np.sum((mean_a - mean_b) ** 2) + spread - 2.0 * cross))

    return distance


def _frechet_by_covariances(a: FloatArray, b: FloatArray) -> OfCounts:
    """The distance by counts of rows, for more rows than features."""

    def distance(counts: Counts) -> float:
        drawn, num = np.flatnonzero(counts), counts.sum()
        root = np.sqrt(counts[drawn] / (num - 1.0))[:, None]
        means = [counts @ rows / num for rows in (a, b)]
        x, y = (root * (rows[drawn] - mean) for rows, mean in zip((a, b), means, strict=True))
        return frechet_of_moments(means[0] - means[1], x.T @ x, y.T @ y)

    return distance
