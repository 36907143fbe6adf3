"""The search for near features, against a plain loop over all pairs in exact arithmetic, and with an index."""

from __future__ import annotations

import hashlib
import math
import sys
from fractions import Fraction

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binom

from hfd.data import near_features
from hfd.data.feature_codes import BITS, LEAST_COSINE, MISSED, CodeIndex, feature_codes, most_differing_bits
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


def many_features(num: int, seed: int) -> npt.NDArray[np.float16]:
    """Rows like those of the network, every third made from another, with cosines on both sides of 0.85."""
    rng = np.random.default_rng(seed)
    rows = rng.exponential(size=(num, 1280)) * (rng.random((num, 1280)) < 0.5)
    copies = num // 3
    share = rng.uniform(0.3, 0.6, (copies, 1))
    rows[-copies:] = (1 - share) * rows[:copies] + share * rows[copies : 2 * copies]
    return rows[rng.permutation(num)].astype(np.float16)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(near_features, "INDEX_FROM", 0)
    return monkeypatch


@pytest.mark.parametrize("cosine", [LEAST_COSINE, 0.85, 0.95])
def test_the_index_keeps_the_rows_that_the_search_of_all_pairs_keeps(cosine: float) -> None:
    rows, others = many_features(900, 1), many_features(300, 2)
    others[:100] = rows[:100]
    found = []
    for least in (0, len(rows) + 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(near_features, "INDEX_FROM", least)
            patch.setattr(near_features, "INDEX_BLOCK", 100)
            kept = first_of_near_features(rows, np.arange(len(rows)), cosine)
            found.append((kept.tolist(), near_any_features(rows, np.arange(len(rows)), others, cosine).tolist()))
    assert found[0] == found[1]
    assert 100 <= sum(found[0][1]) < 900 and (cosine > 0.9 or sum(found[0][0]) < 890)


def test_the_index_depends_on_no_order_of_arrival_and_no_number_of_threads(indexed: pytest.MonkeyPatch) -> None:
    rows = many_features(600, 3)
    order = np.random.default_rng(4).permutation(len(rows))
    before, results = faiss.omp_get_max_threads(), []
    try:
        for threads, block, stored in ((1, 512, order), (4, 512, order), (2, 37, np.arange(len(rows)))):
            faiss.omp_set_num_threads(threads)
            indexed.setattr(near_features, "INDEX_BLOCK", block)
            # ``stored``: the places of the rows in memory, as they arrived; they are compared in one order.
            places = np.empty_like(stored)
            places[stored] = np.arange(len(rows))
            results.append(first_of_near_features(rows[stored], places, 0.85).tolist())
    finally:
        faiss.omp_set_num_threads(before)
    assert results[0] == results[1] == results[2] and not all(results[0])


def test_dropped_rows_are_near_kept_ones_even_if_codes_say_nothing(indexed: pytest.MonkeyPatch) -> None:
    """Rows of few values, of which many have equal codes: only cosines may drop one."""
    rows = features(200, 6, 5)
    kept = first_of_near_features(rows, np.arange(200), 0.95)
    near = [any(is_near(rows[row], rows[other], 0.95) for other in np.flatnonzero(kept[:row])) for row in range(200)]
    assert all(is_one for stays, is_one in zip(kept, near, strict=True) if not stays) and not all(kept)
    indexed.setattr("hfd.data.feature_codes.MISSED", -1.0)  # any two codes are near
    assert first_of_near_features(rows, np.arange(200), 0.95).tolist() == _loop(rows, 0.95)


def _loop(rows: npt.NDArray[np.float16], cosine: float) -> list[bool]:
    kept: list[int] = []
    for row in range(len(rows)):
        if not any(is_near(rows[row], rows[other], cosine) for other in kept):
            kept.append(row)
    return [row in kept for row in range(len(rows))]


def test_codes_differ_in_the_share_of_bits_that_the_angle_gives() -> None:
    rng = np.random.default_rng(6)
    for cosine in (0.3, 0.7, 0.85, 0.95):
        a, b = rng.normal(size=(2, 200, 1280))
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        b -= (a * b).sum(axis=1, keepdims=True) * a
        b /= np.linalg.norm(b, axis=1, keepdims=True)
        b = cosine * a + math.sqrt(1 - cosine**2) * b
        x, y = (np.unpackbits(feature_codes(rows.astype(np.float16)), axis=1) for rows in (a, b))
        differing = (x != y).sum(axis=1)
        expected = BITS * math.acos(cosine) / math.pi
        assert abs(differing.mean() - expected) < 5 * math.sqrt(expected / 200)
        assert differing.max() <= most_differing_bits(cosine)


@pytest.mark.parametrize("cosine", [0.0, 0.7, 0.85, 0.95, 0.999])
def test_pairs_on_the_limit_are_missed_with_the_stated_probability(cosine: float) -> None:
    share, most = math.acos(cosine) / math.pi, most_differing_bits(cosine)
    assert binom.sf(most, BITS, share) <= MISSED < binom.sf(most - 1, BITS, share)
    assert most_differing_bits(np.nextafter(1.0, 0.0)) <= most


def test_codes_are_those_of_sums_of_integers_and_keep_their_values() -> None:
    """float32 sums are exact whatever their order: rows and parts of a block give the same codes; a fixed digest."""
    rows = many_features(30, 7)
    codes = feature_codes(rows)
    assert codes.shape == (30, BITS // 8) and codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, np.concatenate([feature_codes(row[None]) for row in rows]))
    np.testing.assert_array_equal(codes, feature_codes(2 * rows))
    ramp = (np.arange(1280)[None] * np.array([[1], [3]]) % 64).astype(np.float16)
    raw = np.frombuffer(hashlib.shake_256(b"hfd near features").digest(1280 * BITS * 2), dtype=">u2").tolist()
    planes = np.array([value.bit_count() - 8 for value in raw]).reshape(1280, BITS)
    np.testing.assert_array_equal(feature_codes(ramp), np.packbits(ramp.astype(np.int64) @ planes >= 0, axis=1))
    assert feature_codes(ramp)[:, :6].tobytes().hex() == "b341befb78829043befb3a8a"


def test_an_index_of_more_than_one_shard(indexed: pytest.MonkeyPatch) -> None:
    rows = many_features(100, 8)
    codes = feature_codes(rows)
    indexed.setattr("hfd.data.feature_codes.SHARD", 32)
    index = CodeIndex(0.999)
    index.add(np.arange(1000, 1070), codes[:70])
    index.add(np.arange(1070, 1100), codes[70:])
    found = {(int(at), int(row)) for some in (codes[i : i + 1] for i in range(100)) for positions, rows_near in
             index.candidates(some) for at in positions for row in rows_near}  # fmt: skip
    assert found == {(0, row) for row in range(1000, 1100)}


def test_few_rows_and_low_limits_need_no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows = many_features(40, 9)
    first_of_near_features(rows, np.arange(40), 0.85)
    monkeypatch.setattr(near_features, "INDEX_FROM", 0)
    first_of_near_features(rows, np.arange(40), LEAST_COSINE - 0.01)
    with pytest.raises(ModuleNotFoundError, match="faiss"):
        first_of_near_features(rows, np.arange(40), 0.85)
