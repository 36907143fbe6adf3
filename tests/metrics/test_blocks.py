"""Sums over blocks of images add up to the sums of all images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfd.metrics import blocks as blocks_module
from hfd.metrics.blocks import BlockCollector, BlockSums, frechet_of_blocks, kernel_of_blocks
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance


def features(num: int, dim: int = 4, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    """As a ReLU6's averages are: between 0 and 6, with means far from 0."""
    rng = np.random.default_rng(seed)
    return (3.0 + shift + 0.3 * rng.normal(size=(num, dim))).clip(0, 6).astype(np.float32)


def block_of(*images: tuple[np.ndarray, np.ndarray], dim: int = 4) -> BlockSums:
    taker = BlockCollector(dim)
    for reference, decoded in images:
        taker.add(reference, decoded)
    return taker.sums()


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) >= 2), st.integers(1, 20))
def test_blocks_add_up_to_the_whole_however_they_are_cut(sizes: list[int], added_rows: int) -> None:
    total = sum(sizes)
    reference, decoded = features(total, seed=1), features(total, shift=0.5, seed=2)
    ends = np.cumsum([0, *sizes])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "_ADDED_ROWS", added_rows)
        found = [block_of((reference[a:b], decoded[a:b])) for a, b in itertools.pairwise(ends)]
        together = block_of(*((reference[a:b], decoded[a:b]) for a, b in itertools.pairwise(ends)))
    whole = frechet_distance(GaussianStats.of(reference), GaussianStats.of(decoded))
    assert frechet_of_blocks(found)(np.ones(len(found))) == pytest.approx(whole, rel=1e-6, abs=1e-9)
    assert frechet_of_blocks([together])(np.ones(1)) == pytest.approx(whole, rel=1e-6, abs=1e-9)
    assert together.kernel == pytest.approx(kernel_distance(reference, decoded), rel=1e-9, abs=1e-12)


def test_a_block_that_counts_twice_is_its_images_twice() -> None:
    one, two = (features(30, seed=1), features(30, 4, 0.4, 2)), (features(40, seed=3), features(40, 4, 0.4, 4))
    distance = frechet_of_blocks([block_of(one), block_of(two)])
    sides = [np.concatenate([one[i], one[i], two[i]]) for i in (0, 1)]
    expected = frechet_distance(*(GaussianStats.of(side) for side in sides))
    assert distance(np.array([2.0, 1.0])) == pytest.approx(expected, rel=1e-9)


def test_many_sums_lose_no_digits_that_count() -> None:
    """Means of ten standard deviations, a thousand blocks: the covariance is that of two passes over everything."""
    rows = features(20_000, seed=5)
    total = GaussianStats.of(rows[:20])
    for start in range(20, len(rows), 20):
        total += GaussianStats.of(rows[start : start + 20])
    np.testing.assert_allclose(total.covariance, np.cov(rows.T.astype(np.float64)), rtol=1e-10, atol=1e-12)


def test_the_kernel_distance_is_the_mean_of_the_blocks() -> None:
    pairs = [(features(300, seed=i), features(300, 4, 0.3, 100 + i)) for i in range(8)]
    found = [block_of(pair) for pair in pairs]
    each = [kernel_distance(*pair) for pair in pairs]
    distance = kernel_of_blocks(found)
    assert distance(np.ones(8)) == pytest.approx(np.mean(each))
    assert distance(np.array([3.0, 1, 0, 0, 0, 0, 0, 0])) == pytest.approx((3 * each[0] + each[1]) / 4)
    whole = kernel_distance(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    assert distance(np.ones(8)) == pytest.approx(whole, rel=0.05)


def test_a_block_keeps_so_many_rows_for_its_kernel_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "KERNEL_ROWS", 10)
    reference, decoded = features(16, seed=1), features(16, 4, 0.3, 2)
    found = block_of((reference[:7], decoded[:7]), (reference[7:], decoded[7:]))
    assert found.kernel == pytest.approx(kernel_distance(reference[:10], decoded[:10]), rel=1e-12)
    assert found.decoded.num == 16


def test_blocks_without_two_patches_have_no_kernel_distance_and_count_nothing() -> None:
    empty, one = block_of(), block_of((features(1, seed=1), features(1, seed=2)))
    full = block_of((features(50, seed=3), features(50, 4, 0.2, 4)))
    assert empty.kernel is None and one.kernel is None and one.decoded.num == 1
    assert kernel_of_blocks([empty, one, full])(np.ones(3)) == full.kernel
    assert np.isnan(kernel_of_blocks([empty, one])(np.ones(2)))


def test_sums_come_back_from_a_file_as_they_were() -> None:
    for block in (block_of((features(9, seed=1), features(9, 4, 0.2, 2))), block_of()):
        back = BlockSums.from_arrays(block.to_arrays())
        assert back.kernel == block.kernel
        for name in ("reference", "decoded"):
            mine, theirs = getattr(block, name), getattr(back, name)
            assert theirs.num == mine.num and np.array_equal(theirs.sum, mine.sum)
            np.testing.assert_allclose(theirs.outer, mine.outer, rtol=1e-14)


def test_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="expected pairs of rows"):
        BlockCollector(4).add(features(3), features(2))
