"""Duplicates: hashes of edited copies, and near pairs against a comparison of all pairs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from hfd.data.duplicates import (
    MAX_BITS,
    distance,
    first_of_equals,
    first_of_near,
    near_any,
    perceptual_hash,
)
from tests.support.pictures import photograph

U64 = st.integers(0, 2**64 - 1)


def hash_of(x: np.ndarray | Image.Image) -> int:
    found = perceptual_hash(Image.fromarray(x) if isinstance(x, np.ndarray) else x)
    assert found is not None
    return found


def bits_between(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def clustered(count: int, seed: int) -> np.ndarray:
    """Hashes of which many are a few bits from another one."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, max(1, count // 4), dtype=np.uint64)
    hashes = centres[rng.integers(0, len(centres), count)]
    for _ in range(6):
        flips = np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
        hashes = np.where(rng.random(count) < 0.6, hashes ^ flips, hashes)
    return hashes


def stays_by_trying_all(hashes: np.ndarray, bits: int) -> list[bool]:
    kept: list[int] = []
    stays = []
    for value in hashes.tolist():
        stays.append(all(bits_between(value, other) > bits for other in kept))
        if stays[-1]:
            kept.append(value)
    return stays


def reencoded(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_is_near_and_another_picture_is_far(seed: int) -> None:
    picture = Image.fromarray(photograph(300, 400, seed))
    value = hash_of(picture)
    copies = [
        picture.resize((200, 150), Image.Resampling.LANCZOS),
        picture.resize((800, 600), Image.Resampling.BICUBIC),
        reencoded(picture, "JPEG", quality=30),
        reencoded(picture, "WEBP", quality=50),
        ImageEnhance.Brightness(picture).enhance(0.9),
        picture.convert("L").convert("RGB"),
    ]
    assert max(bits_between(value, hash_of(copy)) for copy in copies) <= 4
    others = [hash_of(photograph(300, 400, seed + 100 + i)) for i in range(20)]
    assert min(bits_between(value, other) for other in others) > 2 * MAX_BITS
    assert bits_between(value, hash_of(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))) > MAX_BITS


def test_the_hash_is_that_of_the_definition() -> None:
    """Against a DCT written out as sums of cosines."""
    x = photograph(32, 32, 5)
    luma = np.asarray(Image.fromarray(x).convert("L"), dtype=np.float64)
    n = np.arange(32)
    coefficients = np.array(
        [
            [
                (luma * np.outer(np.cos(np.pi * i * (n + 0.5) / 32), np.cos(np.pi * j * (n + 0.5) / 32))).sum()
                for j in range(1, 9)
            ]
            for i in range(1, 9)
        ]
    )
    expected = sum(1 << k for k, bit in enumerate((coefficients > np.median(coefficients)).ravel()) if bit)
    assert hash_of(x) == expected and expected.bit_count() == 32


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_without_detail_has_no_hash(level: int) -> None:
    assert perceptual_hash(Image.new("RGB", (50, 40), (level, level, level))) is None


@given(st.lists(st.tuples(U64, U64), min_size=1, max_size=30))
def test_distances_are_counts_of_bits(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, dtype=np.uint64) for side in zip(*pairs, strict=True))
    assert distance(a, b).tolist() == [bits_between(x, y) for x, y in pairs]


@pytest.mark.parametrize("bits", range(MAX_BITS + 1))
@pytest.mark.parametrize("count", [1, 2, 300])
def test_kept_hashes_equal_a_search_over_all_pairs(bits: int, count: int) -> None:
    hashes = clustered(count, seed=bits)
    assert first_of_near(hashes, bits).tolist() == stays_by_trying_all(hashes, bits)


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(0, MAX_BITS))
def test_kept_hashes_among_hashes_that_share_most_bits(values: list[int], bits: int) -> None:
    hashes = np.array(values, dtype=np.uint64)
    assert first_of_near(hashes, bits).tolist() == stays_by_trying_all(hashes, bits)


@pytest.mark.parametrize("bits", range(MAX_BITS + 1))
def test_near_any_equals_a_search_over_all_pairs(bits: int) -> None:
    hashes, others = np.split(clustered(460, seed=1), [400])
    flips = np.repeat(np.array([0, 1, 3], dtype=np.uint64), 5)  # some that are near however few bits it takes
    others = np.concatenate([others, hashes[: len(flips)] ^ flips])
    expected = [min(bits_between(a, b) for b in others.tolist()) <= bits for a in hashes.tolist()]
    assert near_any(hashes, others, bits).tolist() == expected
    assert 0 < sum(expected) < 400


def test_nothing_is_near_to_nothing() -> None:
    none, some = np.empty(0, dtype=np.uint64), np.array([1, 2], dtype=np.uint64)
    assert first_of_near(none, 4).tolist() == [] and near_any(none, some, 4).tolist() == []
    assert near_any(some, none, 4).tolist() == [False, False]


@pytest.mark.parametrize("bits", [-1, MAX_BITS + 1])
def test_a_distance_out_of_range_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 8"):
        first_of_near(np.zeros(3, dtype=np.uint64), bits)


def test_very_many_equal_hashes_are_no_burden() -> None:
    """Compared pair by pair they would be five billion."""
    hashes = np.full(100_000, 12345, dtype=np.uint64)
    assert np.flatnonzero(first_of_near(hashes, 4)).tolist() == [0]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_the_first_of_equals(values: list[int]) -> None:
    expected = [value not in values[:i] for i, value in enumerate(values)]
    assert first_of_equals(np.array(values, dtype=np.uint64)).tolist() == expected
