"""Bootstrap intervals of the difference between two decoders: distances over resampled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from hfd.errors import DataError
from hfd.metrics.frechet import Features, OfCounts

ImageFeatures = Mapping[str, Features]
"""Image -> features (P, D) of its patches; P may be 0."""

COVERAGE = 0.95
MIN_PATCHES = 2
MIN_IMAGES = 2
MANY_IMAGES = 2000


@dataclass(frozen=True)
class Difference:
    """``value``: distance of one decoder less that of the other; ``low`` to ``high``: its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def is_lower(self) -> bool:
        """True if the whole interval lies below 0."""
        return self.high < 0.0


@dataclass(frozen=True)
class Drawn:
    """A distance of a whole set (``value``) and of each bootstrap draw from it, in order."""

    value: float
    draws: tuple[float, ...]

    def less(self, reference: Drawn) -> Difference:
        """This distance less another one of the same draws, with its interval."""
        low, high = percentile_interval(np.subtract(self.draws, reference.draws))
        return Difference(self.value - reference.value, low, high)

    def interval(self) -> tuple[float, float]:
        """The interval of the draws, moved so that their median lies on the value.

        A draw repeats images, which raises both distances: the draws spread about another value than the set's.
        """
        low, high = percentile_interval(np.asarray(self.draws) - np.median(self.draws))
        return self.value + low, self.value + high


def mean_interval(values: npt.NDArray[np.float64], *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of an image metric, float64 (I,), I >= ``MIN_IMAGES``: by bootstrap over images.

    Above ``MANY_IMAGES`` images it is that of a normal distribution.
    """
    num = len(values)
    if num > MANY_IMAGES:
        reach = NormalDist().inv_cdf(0.5 + COVERAGE / 2.0) * float(values.std(ddof=1)) / num**0.5
        return float(values.mean()) - reach, float(values.mean()) + reach
    taken = np.random.default_rng(seed).integers(0, num, (draws, num))
    return percentile_interval(values[taken].mean(axis=1))


def percentile_interval(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """Efron's percentile interval of bootstrap draws, at ``COVERAGE``."""
    low, high = np.quantile(values, [(1.0 - COVERAGE) / 2.0, (1.0 + COVERAGE) / 2.0])
    return float(low), float(high)


def drawn(distance: OfCounts, patches: Sequence[int], *, draws: int, seed: int = 0) -> Drawn:
    """Bootstrap a distance over images (or blocks of images): each draw takes as many, with replacement.

    ``distance`` maps the count of each image, float64 (I,), to a distance. ``patches``: the number of patches of each
    image; a draw with fewer than ``MIN_PATCHES`` is repeated. The draws depend on ``patches`` and the seed alone, so
    that distances of several decoders, computed apart, can be compared.

    Raises:
        DataError: fewer than ``MIN_IMAGES`` images have patches (``reason="too-few"``).
    """
    if np.count_nonzero(patches) < MIN_IMAGES:
        raise DataError(
            f"features: got fewer than {MIN_IMAGES} pictures with patches. Use more pictures or a smaller patch_px",
            reason="too-few",
        )
    rng, num = np.random.default_rng(seed), len(patches)
    values: list[float] = []
    while len(values) < draws:
        taken = rng.integers(0, num, num)
        if sum(patches[i] for i in taken) >= MIN_PATCHES:  # pictures may be too small for any
            values.append(distance(np.bincount(taken, minlength=num).astype(np.float64)))
    return Drawn(distance(np.ones(num)), tuple(values))


def rows_of(images: Sequence[str], features: ImageFeatures) -> Features:
    """Features (P, D) of all images, in their order. Raises :class:`ValueError` if ``features`` has other images."""
    if set(features) != set(images):
        raise ValueError("features: got other images than the originals', expected the same")
    return np.concatenate([features[image] for image in images])
