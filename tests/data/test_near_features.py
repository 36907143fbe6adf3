"""The search for near features, against a plain loop over all pairs in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hfd.data import near_features
from hfd.data.near_features import THUMBNAIL_PX, first_of_near_features, near_any_features, thumbnail
from tests.support.pictures import photograph


def features(num: int, dimension: int, seed: int, grid: int = 4) -> npt.NDArray[np.float16]:
    """Rows of few values, so that many are near and some lie on the limit."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, grid, (num, dimension)).astype(np.float16)
    rows[:, 0] += 1  # no row of zeros
    return rows


def is_near(a: npt.NDArray[np.float16], b: npt.NDArray[np.float16], cosine: float) -> bool:
    """Compare squares of rational numbers: no rounding at all."""
    x, y = ([Fraction(float(value)) for value in row] for row in (a, b))
    dot = sum((p * q for p, q in zip(x, y, strict=True)), Fraction(0))
    lengths = sum((p * p for p in x), Fraction(0)) * sum((q * q for q in y), Fraction(0))
    return dot >= 0 and dot * dot >= Fraction(cosine) ** 2 * lengths


@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([0.7, 0.85, 0.95]), st.integers(1, 50))
def test_the_kept_rows_are_those_of_a_loop_over_all_pairs(seed: int, num: int, cosine: float, block: int) -> None:
    rows, order = features(num, 6, seed), np.random.default_rng(seed).permutation(num)
    expected: list[int] = []
    for row in order:
        if not any(is_near(rows[row], rows[other], cosine) for other in expected):
            expected.append(int(row))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_features, "BLOCK", block)
        patch.setattr(near_features, "PAIRS_AT_ONCE", 3)
        kept = first_of_near_features(rows, order, cosine)
        others = features(5, 6, seed + 1)
        near = near_any_features(rows, order, others, cosine)
    assert order[kept].tolist() == expected
    assert near.tolist() == [any(is_near(rows[row], other, cosine) for other in others) for row in order]


def test_a_pair_on_the_limit_is_near_in_whatever_order_its_products_add_up() -> None:
    """(3, 4) and (1, 0) have the cosine 0.6; with 1,278 zeros and in any place of the row."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = np.zeros((2, 1280), dtype=np.float16)
        i, j = rng.permutation(1280)[:2]
        rows[0, [i, j]] = 3, 4
        rows[1, i] = 1
        assert first_of_near_features(rows, np.arange(2), 0.6).tolist() == [True, False]
        assert first_of_near_features(rows, np.arange(2), np.nextafter(0.6, 1.0)).tolist() == [True, True]


def test_no_rows_and_wrong_limits() -> None:
    rows = features(3, 4, 0)
    assert first_of_near_features(rows, np.arange(0), 0.9).tolist() == []
    assert near_any_features(rows, np.arange(3), rows[:0], 0.9).tolist() == [False] * 3
    for cosine in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(ValueError, match="expected a value between 0 and 1"):
            first_of_near_features(rows, np.arange(3), cosine)


def test_progress_counts_rows() -> None:
    seen: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_features, "BLOCK", 4)
        first_of_near_features(features(10, 3, 0), np.arange(9), 0.9, lambda *counts: seen.append(counts))
    assert seen == [(0, 9), (4, 9), (8, 9), (9, 9)]


def test_a_thumbnail_is_the_whole_picture_and_a_flat_one_has_none() -> None:
    picture = Image.fromarray(photograph(90, 300, seed=1))
    x = thumbnail(picture)
    assert x is not None and x.shape == (THUMBNAIL_PX, THUMBNAIL_PX, 3) and x.dtype == np.uint8
    means = np.asarray(picture).mean(axis=(0, 1))
    np.testing.assert_allclose(x.mean(axis=(0, 1)), means, atol=1.0)
    assert thumbnail(Image.new("RGB", (300, 200), (200, 90, 3))) is None
