"""How sure a difference between two decoders is: distances over images drawn again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hfd.errors import DataError
from hfd.metrics.frechet import Features, OfCounts

Distance = Callable[[Features, Features], OfCounts]
ImageFeatures = Mapping[str, Features]
"""Image -> features (P, D) of its patches; P may be 0."""

COVERAGE = 0.95
MIN_PATCHES = 2
MIN_IMAGES = 2


@dataclass(frozen=True)
class Difference:
    """``value``: distance of one decoder less that of the other; ``low`` to ``high``: its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def is_lower(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0.0


@dataclass(frozen=True)
class Drawn:
    """A distance of a whole set (``value``) and of each draw from it, in order."""

    value: float
    draws: tuple[float, ...]

    def less(self, reference: Drawn) -> Difference:
        """This distance less another's of the same draws, and Efron's percentile interval of it."""
        differences = np.subtract(self.draws, reference.draws)
        low, high = np.quantile(differences, [(1.0 - COVERAGE) / 2.0, (1.0 + COVERAGE) / 2.0])
        return Difference(self.value - reference.value, float(low), float(high))


def drawn(distance: OfCounts, patches: Sequence[int], *, draws: int, seed: int = 0) -> Drawn:
    """A distance over images (or blocks of them) drawn again and again, as many as there are, with replacement.

    ``patches``: of each image, by which its draws are checked: those with fewer than ``MIN_PATCHES`` are drawn afresh.
    ``distance`` is given how often each image counts, float64 (I,). The draws depend on ``patches`` and the seed alone,
    so that distances of several decoders can be drawn apart and compared afterwards.

    Raises:
        DataError: fewer than ``MIN_IMAGES`` images that have patches at all (``reason="too-few"``): draws say nothing.
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


def of_images(distance: OfCounts, patches: Sequence[int]) -> OfCounts:
    """A distance of paired rows as one of images, each of which has so many of them."""
    return lambda counts: distance(np.repeat(counts, patches))


def paired_differences(
    distance: Distance,
    originals: ImageFeatures,
    decoders: Mapping[str, ImageFeatures],
    reference: ImageFeatures,
    *,
    draws: int,
    seed: int = 0,
) -> dict[str, Difference]:
    """``distance(original, decoder) - distance(original, reference)`` over whole images, and how far it may be off.

    A draw takes as many images as there are, with replacement, the same ones for all: patches of one image hang
    together, so images are what is drawn. ``distance`` is that of paired rows, as
    :func:`hfd.metrics.frechet.frechet_of_counts`.

    Raises:
        DataError: see `drawn`.
        ValueError: the images, or their patches, are not the same for all.
    """
    images = list(originals)
    patches = [len(originals[image]) for image in images]
    rows = np.concatenate(list(originals.values()))

    def of(features: ImageFeatures) -> Drawn:
        pairs = distance(rows, rows_of(images, features))
        return drawn(of_images(pairs, patches), patches, draws=draws, seed=seed)

    level = of(reference)
    return {name: of(features).less(level) for name, features in decoders.items()}


def rows_of(images: Sequence[str], features: ImageFeatures) -> Features:
    """Features (P, D) of all images, in their order. Raises :class:`ValueError` where they are others."""
    if set(features) != set(images):
        raise ValueError("features: got other images than the originals', expected the same")
    return np.concatenate([features[image] for image in images])
