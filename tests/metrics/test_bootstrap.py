"""Differences between decoders and their bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from hfd.errors import DataError
from hfd.metrics.bootstrap import Difference, drawn, rows_of
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from hfd.metrics.of_counts import frechet_of_counts, kernel_of_counts


def of_means(a: np.ndarray, b: np.ndarray, patches: list[int]):
    def distance(counts: np.ndarray) -> float:
        rows = np.repeat(counts, patches)
        return float(abs(rows @ (a - b).mean(axis=1)) / rows.sum())

    return distance


def frechet_of_rows(a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance(GaussianStats.of(a), GaussianStats.of(b))


def difference(distance, originals, ours, theirs, **options) -> Difference:
    patches, rows = [len(one) for one in originals.values()], np.concatenate(list(originals.values()))
    one, other = (
        drawn(distance(rows, rows_of(list(originals), features), patches), patches, **options)
        for features in (ours, theirs)
    )
    return one.less(other)


def pictures(num: int, patches: int, dim: int, damage: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Features of pictures that differ among themselves; ``damage`` shrinks them towards nothing."""
    rng = np.random.default_rng(seed)
    return {str(i): (1 - damage) * (rng.normal(size=dim) + 0.5 * rng.normal(size=(patches, dim))) for i in range(num)}


@pytest.mark.parametrize(
    ("distance", "plainly"), [(frechet_of_counts, frechet_of_rows), (kernel_of_counts, kernel_distance)]
)
def test_interval_is_that_of_a_plain_loop(distance, plainly) -> None:
    originals, ours, theirs = (pictures(7, 3, 2, damage) for damage in (0.0, 0.2, 0.5))
    found = difference(distance, originals, ours, theirs, draws=50, seed=3)
    rng = np.random.default_rng(3)
    values = []
    for _ in range(50):
        names = [str(i) for i in rng.integers(0, 7, 7)]
        reference, one, other = (np.concatenate([side[n] for n in names]) for side in (originals, ours, theirs))
        values.append(plainly(reference, one) - plainly(reference, other))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    whole = [np.concatenate(list(side.values())) for side in (originals, ours, theirs)]
    assert found.value == pytest.approx(plainly(whole[0], whole[1]) - plainly(whole[0], whole[2]))


@pytest.mark.parametrize("distance", [frechet_of_counts, kernel_of_counts])
def test_less_damage_is_surely_lower_and_the_same_is_not(distance) -> None:
    originals, mild, strong = (pictures(20, 6, 5, damage) for damage in (0.0, 0.1, 0.6))
    found, again = (difference(distance, originals, decoder, strong, draws=60) for decoder in (mild, strong))
    assert found.is_lower and found.low < found.value < 0
    assert again == Difference(0.0, 0.0, 0.0) and not again.is_lower
    assert not difference(distance, originals, strong, mild, draws=60).is_lower


def test_other_pictures_are_refused() -> None:
    originals = pictures(3, 2, 3, 0.0)
    with pytest.raises(ValueError, match="other images"):
        difference(of_means, originals, {"0": originals["0"]}, originals, draws=5)


def test_pictures_without_patches_are_drawn_and_count_nothing() -> None:
    sides = [pictures(3, 4, 3, damage) for damage in (0.0, 0.1, 0.5)]
    for side in sides:
        side["small"] = np.empty((0, 3))
    found = difference(of_means, sides[0], sides[1], sides[2], draws=200)
    assert np.isfinite([found.low, found.high]).all()


def test_one_picture_has_no_interval() -> None:
    one = pictures(1, 4, 3, 0.0)
    with pytest.raises(DataError, match="fewer than 2 pictures with patches") as caught:
        difference(of_means, one, one, one, draws=5)
    assert caught.value.reason == "too-few"
