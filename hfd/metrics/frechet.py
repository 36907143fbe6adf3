"""Distances between sets of features: Frechet (Gaussian), from statistics that add up, and kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfd.errors import DataError

FloatArray = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]

_KERNEL_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class GaussianStats:
    """What a Frechet distance needs of a set of features, as sums: the statistics of two sets add up.

    Attributes:
        num: number of feature vectors, at least 0.
        sum: float64 (D,), their sum.
        outer: float64 (D, D), the sum of their outer products.
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
        rows = _as_rows("features", features)
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
    2017). ``sqrt(A) B sqrt(A)`` has the eigenvalues of ``A B`` but is symmetric, so `eigh` serves: no complex
    leftovers, and no matrix is inverted, so covariances of fewer vectors than dimensions need no ridge.

    Args:
        a: statistics of at least two vectors; ``b`` alike, of the same length D.

    Returns:
        At least 0; symmetric up to rounding. The smaller the sets, the more the distance between two samples
        of one distribution exceeds 0: compare only distances over equally many vectors.

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
    # The product of three matrices is symmetric only up to rounding, and eigvalsh reads one triangle.
    cross = np.sqrt(_without_noise(np.linalg.eigvalsh((product + product.T) / 2.0))).sum()
    spread = np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * cross
    return max(0.0, float(np.sum((a.mean - b.mean) ** 2) + spread))


def kernel_distance(a_features: Features, b_features: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel of KID, ``(x.y / D + 1)^3``.

    Over all vectors, without KID's random subsets (Binkowski et al. 2018, whose subsets only bound the cost):
    the result is deterministic. Its expectation does not depend on the number of vectors. Kernels are summed
    by blocks of 1024 x 1024, so memory stays bounded while time grows with the square of P.

    Args:
        a_features: float (P, D), P >= 2.
        b_features: float (Q, D), Q >= 2.

    Returns:
        About 0 (a little below is possible) for two samples of one distribution, and larger the more they
        differ. Paired sets, a picture and its decoded version, pull it further below.

    Raises:
        DataError: fewer than two vectors (``reason="too-few"``) or values that are not finite.
        ValueError: other shapes, or lengths that differ.
    """
    a, b = _as_rows("a_features", a_features), _as_rows("b_features", b_features)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features: got lengths {a.shape[1]} and {b.shape[1]}, expected one length")
    if min(len(a), len(b)) < 2:
        raise DataError(
            f"features: got {len(a)} and {len(b)} vectors, expected at least 2 of each. Use more pictures.",
            reason="too-few",
        )
    within = sum((_kernel_sum(x, x) - _kernel_diagonal(x)) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2.0 * _kernel_sum(a, b) / (len(a) * len(b)))


def bootstrap_interval(
    reference_features: Sequence[Features],
    decoded_features: Sequence[Features],
    *,
    num_resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the Frechet distance over resampled pictures.

    Patches of one picture are not independent, so whole pictures are drawn, with replacement; a picture and
    its decoded version stay together. The statistics of a resample are the sum of the pictures' statistics,
    taken as one weighted product, so nothing of size D x D is kept per picture.

    A resample holds only some 63 % of the distinct pictures, and a Frechet distance depends on how many there
    are: with few pictures the interval lies off the distance itself, and may not even contain it. Read its
    width as the spread between samples, not its ends as bounds.

    Args:
        reference_features: one float (P_i, D) per picture; P_i may be 0.
        decoded_features: the same pictures in the same order, with the same P_i.
        num_resamples: at least 1. Each costs a decomposition or two of a matrix with min(P, D) rows.
        level: share of the resampled distances inside, in (0, 1).
        seed: of numpy's PCG64; the result depends on nothing else.

    Returns:
        (low, high). A resample that draws fewer than two vectors is drawn again.

    Raises:
        DataError: fewer than two pictures with patches (``reason="too-few"``), or values not finite.
        ValueError: the two sequences do not belong together, or an argument is out of range.
    """
    counts = [len(features) for features in reference_features]
    if counts != [len(features) for features in decoded_features]:
        raise ValueError("decoded_features: got other numbers of patches, expected the reference's")
    if num_resamples < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"bootstrap: got {num_resamples} resamples at level {level}, expected >= 1, in (0, 1)")
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"features: got {np.count_nonzero(counts)} pictures with patches, expected at least 2. "
            "Use more pictures or a smaller patch_px.",
            reason="too-few",
        )
    reference = _as_rows("reference_features", np.concatenate(list(reference_features)))
    decoded = _as_rows("decoded_features", np.concatenate(list(decoded_features)))
    rng = np.random.default_rng(seed)
    distances: list[float] = []
    while len(distances) < num_resamples:
        drawn = np.bincount(rng.integers(len(counts), size=len(counts)), minlength=len(counts))
        repeats = np.repeat(drawn, counts)
        if repeats.sum() >= 2:
            distances.append(_resampled_distance(reference, decoded, repeats))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(distances, [tail, 100.0 - tail])
    return float(low), float(high)


def _resampled_distance(a: FloatArray, b: FloatArray, repeats: npt.NDArray[np.intp]) -> float:
    """`frechet_distance` of (P, D) rows with row i of both counted ``repeats[i]`` times."""
    used = repeats > 0
    a, b, weights = a[used], b[used], repeats[used, None]
    num = int(weights.sum())
    if len(a) > a.shape[1]:
        stats = [GaussianStats(num, (weights * x).sum(axis=0), x.T @ (weights * x)) for x in (a, b)]
        return frechet_distance(stats[0], stats[1])
    # With A = X'X and B = Y'Y the cross term is the sum of the singular values of XY': P x P, not D x D.
    means = [(weights * x).sum(axis=0) / num for x in (a, b)]
    x, y = (np.sqrt(weights / (num - 1)) * (rows - mean) for rows, mean in zip((a, b), means, strict=True))
    cross = float(np.linalg.svd(x @ y.T, compute_uv=False).sum())
    shift = float(np.sum((means[0] - means[1]) ** 2))
    return max(0.0, shift + float(np.sum(x**2)) + float(np.sum(y**2)) - 2.0 * cross)


def _without_noise(eigenvalues: FloatArray) -> FloatArray:
    """Set to 0 what rounding alone can make of a zero eigenvalue, of either sign.

    Square roots blow it up (1e-16 becomes 1e-8), and with fewer vectors than dimensions there are hundreds.
    """
    floor = len(eigenvalues) * np.finfo(np.float64).eps * max(0.0, float(eigenvalues[-1]))
    return np.where(eigenvalues > floor, eigenvalues, 0.0)


def _kernel_sum(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for i in range(0, len(a), _KERNEL_CHUNK):
        for j in range(0, len(b), _KERNEL_CHUNK):
            block = a[i : i + _KERNEL_CHUNK] @ b[j : j + _KERNEL_CHUNK].T
            total += float(np.sum((block / a.shape[1] + 1.0) ** 3))
    return total


def _kernel_diagonal(x: FloatArray) -> float:
    return float(np.sum((np.einsum("pd,pd->p", x, x) / x.shape[1] + 1.0) ** 3))


def _as_rows(name: str, features: Features) -> FloatArray:
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name}: got {features.shape}, expected float (P, D)")
    rows = np.asarray(features, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise DataError(
            f"{name}: got values that are not finite, expected numbers. Check the decoded pictures.",
            reason="not-finite",
        )
    return rows
