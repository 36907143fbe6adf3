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
"""A distance as a function of the count of each image (or block of images), float64 (I,), whole."""

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

    ``|mu_a - mu_b|^2 + tr A + tr B - 2 tr (sqrt(A) B sqrt(A))^(1/2)`` (Dowson and Landau 1982; Heusel et al. 2017). No
    matrix is inverted, so that covariances of fewer vectors than dimensions need no ridge.

    At least 0; symmetric up to rounding. Biased upwards, more for smaller sets: compare only distances over equal
    numbers of vectors.

    Raises:
        DataError: fewer than two vectors (``reason="too-few"``).
        ValueError: lengths differ.
    """
    if a.sum.shape != b.sum.shape:
        raise ValueError(f"features: got lengths {a.sum.shape} and {b.sum.shape}, expected one length")
    return frechet_of_moments(a.mean - b.mean, a.covariance, b.covariance)


def frechet_of_moments(difference: FloatArray, covariance_a: FloatArray, covariance_b: FloatArray) -> float:
    """:func:`frechet_distance` from the difference of the means, float64 (D,), and the covariances, float64 (D, D).

    For any root R R' = A, the eigenvalues of ``R' B R`` are those of ``A B``, and `eigvalsh` gives real ones. R is the
    Cholesky factor of A, a fifth of the time of its square root, unless A is singular within rounding.
    """
    root = _root(covariance_a)
    product = root.T @ covariance_b @ root
    # The product is symmetric only up to rounding, and eigvalsh reads one triangle.
    cross = np.sqrt(without_noise(np.linalg.eigvalsh((product + product.T) / 2.0))).sum()
    spread = np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * cross
    return max(0.0, float(np.sum(difference**2) + spread))


def _root(covariance: FloatArray) -> FloatArray:
    """Return R, float64 (D, D), with R R' = ``covariance``."""
    try:
        factor: FloatArray = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        pass
    else:
        pivots = np.diagonal(factor) ** 2
        if pivots.min() > len(pivots) * np.finfo(np.float64).eps * pivots.max():
            return factor
    values, vectors = np.linalg.eigh(covariance)
    root: FloatArray = (vectors * np.sqrt(without_noise(values))) @ vectors.T
    return root


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
    within = sum((_kernel_sum(x, x) - float(cubic_diagonal(x).sum())) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2.0 * _kernel_sum(a, b) / (len(a) * len(b)))


def without_noise(eigenvalues: FloatArray) -> FloatArray:
    """Set eigenvalues within rounding of 0 to 0: square roots amplify them, 1e-16 to 1e-8, and there may be many."""
    floor = len(eigenvalues) * np.finfo(np.float64).eps * max(0.0, float(eigenvalues[-1]))
    return np.where(eigenvalues > floor, eigenvalues, 0.0)


def _kernel_sum(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for i in range(0, len(a), KERNEL_CHUNK):
        for j in range(0, len(b), KERNEL_CHUNK):
            total += float(cubic_kernel(a[i : i + KERNEL_CHUNK], b[j : j + KERNEL_CHUNK]).sum())
    return total


def cubic_kernel(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the kernel of KID between rows, float64 (P, Q)."""
    values: FloatArray = (a @ b.T / a.shape[1] + 1.0) ** 3
    return values


def cubic_diagonal(x: FloatArray) -> FloatArray:
    """Return the kernel of each row with itself, float64 (P,)."""
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
