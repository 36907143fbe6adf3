"""How sure a difference between two decoders is: distances over images drawn again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

    A draw takes as many images as there are, with replacement, the same ones for all (Efron's percentile interval):
    patches of one image hang together, so images are what is drawn. ``distance`` is that of paired rows, as
    :func:`hfd.metrics.frechet.frechet_of_counts`.

    Raises:
        DataError: fewer than ``MIN_IMAGES`` images that have patches at all (``reason="too-few"``): draws say nothing.
        ValueError: the images, or their patches, are not the same for all.
    """
    images = list(originals)
    patches = [len(originals[image]) for image in images]
    if np.count_nonzero(patches) < MIN_IMAGES:
        raise DataError(
            f"features: got fewer than {MIN_IMAGES} pictures with patches. Use more pictures or a smaller patch_px",
            reason="too-few",
        )
    rows = np.concatenate(list(originals.values()))
    distances = {name: distance(rows, _rows(images, features)) for name, features in decoders.items()}
    of_reference = distance(rows, _rows(images, reference))

    def differences(drawn: npt.NDArray[np.intp]) -> list[float]:
        counts = np.repeat(np.bincount(drawn, minlength=len(images)), patches).astype(np.float64)
        level = of_reference(counts)
        return [of_decoder(counts) - level for of_decoder in distances.values()]

    rng = np.random.default_rng(seed)
    values: list[list[float]] = []
    while len(values) < draws:
        drawn = rng.integers(0, len(images), len(images))
        if sum(patches[i] for i in drawn) >= MIN_PATCHES:  # pictures may be too small for any
            values.append(differences(drawn))
    quantiles = np.quantile(values, [(1.0 - COVERAGE) / 2.0, (1.0 + COVERAGE) / 2.0], axis=0)
    whole = differences(np.arange(len(images)))
    return {
        name: Difference(value, float(low), float(high))
        for name, value, low, high in zip(distances, whole, *quantiles, strict=True)
    }


def _rows(images: list[str], features: ImageFeatures) -> Features:
    if set(features) != set(images):
        raise ValueError("features: got other images than the originals', expected the same")
    return np.concatenate([features[image] for image in images])
