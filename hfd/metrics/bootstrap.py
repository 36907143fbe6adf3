"""How sure a difference between two decoders is: distances over images drawn again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfd.errors import DataError

Features = npt.NDArray[np.floating[Any]]
Distance = Callable[[Features, Features], float]

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


def paired_difference(
    distance: Distance,
    originals: Mapping[str, Features],
    ours: Mapping[str, Features],
    theirs: Mapping[str, Features],
    *,
    draws: int,
    seed: int = 0,
) -> Difference:
    """``distance(original, ours) - distance(original, theirs)`` over whole images, and how far it may be off.

    Each mapping: image -> features (P, D) of its patches, with the same images. A draw takes as many images as
    there are, with replacement, the same ones on both sides (Efron's percentile interval): patches of one image
    hang together, so images are what is drawn. With fewer images than ``MIN_IMAGES`` that have patches at all, a draw
    says nothing: raises :class:`DataError` (``reason="too-few"``).
    """
    images = list(originals)
    if sum(len(features) > 0 for features in originals.values()) < MIN_IMAGES:
        raise DataError(
            f"features: got fewer than {MIN_IMAGES} pictures with patches. Use more pictures or a smaller patch_px",
            reason="too-few",
        )

    def difference(chosen: npt.NDArray[np.intp]) -> float:
        names = [images[i] for i in chosen]
        reference, one, other = (np.concatenate([side[name] for name in names]) for side in (originals, ours, theirs))
        return distance(reference, one) - distance(reference, other)

    rng = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < draws:
        chosen = rng.integers(0, len(images), len(images))
        if sum(len(originals[images[i]]) for i in chosen) >= MIN_PATCHES:  # pictures may be too small for any
            values.append(difference(chosen))
    low, high = np.quantile(values, [(1.0 - COVERAGE) / 2.0, (1.0 + COVERAGE) / 2.0])
    return Difference(difference(np.arange(len(images))), float(low), float(high))
