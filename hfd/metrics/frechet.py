"""Distances between sets of features: Frechet (Gaussian), from sums, and kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfd.errors import DataError

FloatArray = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]
Counts = npt.NDArray[np.float64]
OfCounts = Callable[[Counts], float]
"""A distance of paired rows as a function of the count of each pair, float64 (P,), whole, at least 2 in total."""

KERNEL_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class GaussianStats:
    """Sums of a set of features, which add up over sets.

    ``num``: number of vectors; ``sum``: float64 (D,); ``outer``: float64 (D, D), the sum of their outer products.
    """

    num: int
    sum: FloatArray
    outer: FloatArray

    @classmethod
    def of(cls, features: Features) -> GaussianStats:
        """Statistics of ``features``, float (P, D); P may be 0.

        Raises:
            ValueError: another shape.
            DataError: a value is not finite (``reason="not-finite"``).
        """
        rows = as_rows("features", features)
        return cls(num=len(rows), sum=rows.sum(axis=0), outer=rows.T @ rows)

    def __add__(self, other: GaussianStats) -> GaussianStats:
        if self.sum.shape != other.sum.shape:
            raise ValueError(f"features: got {other.sum.shape} beside {self.sum.shape}, expected one length")
        return GaussianStats(self.num + other.num, self.sum + other.sum, self.outer + other.outer)

    @property
    def mean(self) -> FloatArray:
        """float64 (D,). Raises DataError (``"too-few"``) of an empty set."""
        self._require(1)
        return self.sum / self.num

    @property
    def covariance(self) -> FloatArray:
        """float64 (D, D), unbiased (``num - 1``). Raises DataError (``"too-few"``) below two vectors."""
        self._require(2)
        mean = self.mean
        return (self.outer - self.num * np.outer(mean, mean)) / (self.num - 1)

    def _require(self, num: int) -> None:
        if self.num < num:
            raise DataError(
                f"features: got {self.num} vectors, expected at least {num}. Use more or larger pictures, or "
                "a smaller patch_px.",
                reason="too-few",
            )


def frechet_distance(a: GaussianStats, b: GaussianStats) -> float:
    """Squared 2-Wasserstein distance between the Gaussians of two sets.

    ``|mu_a - mu_b|^2 + tr A + tr B - 2 tr (sqrt(A) B sqrt(A))^(1/2)`` (Dowson and Landau 1982; Heusel et al.
    2017). ``sqrt(A) B sqrt(A)`` has the eigenvalues of ``A B`` but is symmetric, so that `eigh` gives real ones; no
    matrix is inverted, so that covariances of fewer vectors than dimensions need no ridge.

    At least 0; symmetric up to rounding. Biased upwards, more for smaller sets: compare only distances over equal
    numbers of vectors.

    Raises:
        DataError: fewer than two vectors (``reason="too-few"``).
        ValueError: lengths differ.
    """
    if a.sum.shape != b.sum.shape:
        raise ValueError(f"features: got lengths {a.sum.shape} and {b.sum.shape}, expected one length")
    covariance_a, covariance_b = a.covariance, b.covariance
    values, vectors = np.linalg.eigh(covariance_a)
    root_a = (vectors * np.sqrt(_without_noise(values))) @ vectors.T
    product = root_a @ covariance_b @ root_a
    # The product is symmetric only up to rounding, and eigvalsh reads one triangle.
    cross = np.sqrt(_without_noise(np.linalg.eigvalsh((product + product.T) / 2.0))).sum()
    spread = np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * cross
    return max(0.0, float(np.sum((a.mean - b.mean) ** 2) + spread))


def frechet_of_counts(a_features: Features, b_features: Features) -> OfCounts:
    """:func:`frechet_distance` of paired rows, float (P, D) each, as a function of the count of each pair.

    With centred rows X and Y scaled to covariances X'X and Y'Y, the eigenvalues of ``sqrt(A) B sqrt(A)`` are the
    squared singular values of X Y', a (P, P) matrix: fast if P < D. Row i counted c times equals row i times sqrt(c),
    so that a bootstrap draw computes only the distinct rows, two thirds of all.
    """
    a, b = as_pairs(a_features, b_features)
    a, b = a - a.mean(axis=0), b - a.mean(axis=0)  # the same shift, for less rounding

    def distance(counts: Counts) -> float:
        drawn = np.flatnonzero(counts)
        root = np.sqrt(counts[drawn] / (counts.sum() - 1.0))[:, None]
        mean_a, mean_b = (counts @ rows / counts.sum() for rows in (a, b))
        x, y = root * (a[drawn] - mean_a), root * (b[drawn] - mean_b)
        product = x @ y.T
        # Singular values as roots of eigenvalues: half the time of an SVD.
        cross = np.sqrt(_without_noise(np.linalg.eigvalsh(product.T @ product))).sum()
        return max(0.0, float(np.sum((mean_a - mean_b) ** 2) + np.sum(x**2) + np.sum(y**2) - 2.0 * cross))

    return distance


def kernel_distance(a_features: Features, b_features: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel of KID, ``(x.y / D + 1)^3``.

    Over all vectors, without the random subsets of KID (Binkowski et al. 2018), which only bound the cost: the result
    is deterministic, and its expectation independent of the number of vectors. Kernels are summed by blocks of 1024 x
    1024: memory is bounded, time grows with P^2.

    Features are float (P, D) and (Q, D), P, Q >= 2. About 0 (slightly below is possible) for two samples of one
    distribution. Paired sets, of pictures and their decoded versions, bias it downwards.

    Raises:
        DataError: fewer than two vectors (``reason="too-few"``) or values that are not finite.
        ValueError: other shapes, or lengths that differ.
    """
    a, b = as_rows("a_features", a_features), as_rows("b_features", b_features)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features: got lengths {a.shape[1]} and {b.shape[1]}, expected one length")
    if min(len(a), len(b)) < 2:
        raise DataError(
            f"features: got {len(a)} and {len(b)} vectors, expected at least 2 of each. Use more pictures.",
            reason="too-few",
        )
    within = sum((_kernel_sum(x, x) - float(_kernel_diagonals(x).sum())) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2.0 * _kernel_sum(a, b) / (len(a) * len(b)))


def kernel_of_counts(a_features: Features, b_features: Features) -> OfCounts:
    """:func:`kernel_distance` of paired rows, float (P, D) each, as a function of the count of each pair.

    Holds P x P kernel values; a call takes a few products with a vector.
    """
    a, b = as_pairs(a_features, b_features)
    within, diagonal = _kernel(a, a) + _kernel(b, b), _kernel_diagonals(a) + _kernel_diagonals(b)
    across = _kernel(a, b)

    def distance(counts: Counts) -> float:
        num = counts.sum()
        # Copies of a row form pairs with each other, but not with themselves.
        pairs = counts @ within @ counts - counts @ diagonal
        return float(pairs / (num * (num - 1)) - 2.0 * (counts @ across @ counts) / num**2)

    return distance


def _without_noise(eigenvalues: FloatArray) -> FloatArray:
    """Set eigenvalues within rounding of 0 to 0: square roots amplify them, 1e-16 to 1e-8, and there may be many."""
    floor = len(eigenvalues) * np.finfo(np.float64).eps * max(0.0, float(eigenvalues[-1]))
    return np.where(eigenvalues > floor, eigenvalues, 0.0)


def _kernel_sum(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for i in range(0, len(a), KERNEL_CHUNK):
        for j in range(0, len(b), KERNEL_CHUNK):
            total += float(_kernel(a[i : i + KERNEL_CHUNK], b[j : j + KERNEL_CHUNK]).sum())
    return total


def _kernel(a: FloatArray, b: FloatArray) -> FloatArray:
    values: FloatArray = (a @ b.T / a.shape[1] + 1.0) ** 3
    return values


def _kernel_diagonals(x: FloatArray) -> FloatArray:
    values: FloatArray = (np.einsum("pd,pd->p", x, x) / x.shape[1] + 1.0) ** 3
    return values


def as_pairs(a_features: Features, b_features: Features) -> tuple[FloatArray, FloatArray]:
    """Return paired rows as float64 (P, D). Raises ValueError for other shapes, and as :func:`as_rows`."""
    a, b = as_rows("a_features", a_features), as_rows("b_features", b_features)
    if a.shape != b.shape:
        raise ValueError(f"features: got {a.shape} and {b.shape}, expected pairs of rows")
    return a, b


def as_rows(name: str, features: Features) -> FloatArray:
    """Return features as float64 (P, D).

    Raises:
        ValueError: another shape.
        DataError: values that are not finite (``reason="not-finite"``).
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name}: got {features.shape}, expected float (P, D)")
    rows = np.asarray(features, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise DataError(
            f"{name}: got values that are not finite, expected numbers. Check the decoded pictures.",
            reason="not-finite",
        )
    return rows
