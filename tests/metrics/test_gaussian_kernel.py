"""CMMD against torch-fidelity's estimate with the same kernel, and from sums of blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from hfd.errors import DataError
from hfd.metrics import gaussian_kernel
from hfd.metrics.blocks import BlockCollector, BlockSums
from hfd.metrics.gaussian_kernel import SCALE, SIGMA, gaussian_distance, gaussian_of_blocks, gaussian_of_counts

FloatArray = npt.NDArray[np.float64]


def embeddings(num: int, seed: int = 0, shift: float = 0.3) -> tuple[FloatArray, FloatArray]:
    """Vectors of length 1 around one direction, and versions of them, as of pictures."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 24)) + 1.5 * np.random.default_rng(9).normal(size=24)
    y = x + shift * rng.normal(size=x.shape) + 0.2 * shift
    first, second = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, y))
    return first, second


def test_it_is_the_biased_estimate_of_torch_fidelity() -> None:
    from torch_fidelity.metric_kid import kernel_rbf, mmd2

    a, b = embeddings(70)
    kernels = [kernel_rbf(x, y, kid_kernel_rbf_sigma=SIGMA) for x, y in ((a, a), (a, b), (b, b))]
    expected = SCALE * mmd2(*kernels, mmd_est="biased")
    assert expected > 0.005
    assert gaussian_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert gaussian_of_counts(a, b, [1] * 70)(np.ones(70)) == pytest.approx(expected, rel=1e-9)


def test_it_agrees_with_loops_for_unequal_sets() -> None:
    a, b = embeddings(9)[0], embeddings(6, seed=1)[1]

    def mean(one: FloatArray, other: FloatArray) -> float:
        return float(np.mean([[np.exp(-np.sum((u - v) ** 2) / 200.0) for v in other] for u in one]))

    expected = 1000.0 * (mean(a, a) + mean(b, b) - 2.0 * mean(a, b))
    assert gaussian_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_it_does_not_depend_on_the_blocks_of_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = embeddings(50)
    whole = gaussian_distance(a, b)
    monkeypatch.setattr(gaussian_kernel, "KERNEL_CHUNK", 7)
    assert gaussian_distance(a, b) == pytest.approx(whole, rel=1e-9)


def test_counts_are_repeated_rows_and_equal_sets_are_at_no_distance() -> None:
    a, b = embeddings(30)
    patches, counts = [4, 0, 11, 15], np.array([2, 1, 0, 3])
    rows = np.repeat(np.arange(30), np.repeat(counts, patches))
    expected = gaussian_distance(a[rows], b[rows])
    assert gaussian_of_counts(a, b, patches)(counts.astype(float)) == pytest.approx(expected, rel=1e-8)
    assert gaussian_distance(a, a) == 0.0


def blocks_of(a: FloatArray, b: FloatArray, ends: list[int]) -> list[BlockSums]:
    found = []
    for first, last in zip([0, *ends], [*ends, len(a)], strict=True):
        taker = BlockCollector(a.shape[1])
        taker.add(a[first:last], b[first:last])
        found.append(taker.sums())
    return found


@pytest.mark.parametrize("shift", [0.1, 0.3, 2.0])
def test_sums_of_blocks_give_the_value_of_all_rows(shift: float) -> None:
    """The series ends after the second term; how rows are divided changes nothing."""
    a, b = embeddings(90, shift=shift)
    blocks = blocks_of(a, b, [11, 40])
    found = gaussian_of_blocks(blocks)(np.ones(3))
    assert found == pytest.approx(gaussian_distance(a, b), rel=3e-4)
    assert found == pytest.approx(gaussian_of_blocks(blocks_of(a, b, [70]))(np.ones(2)), rel=1e-10)
    rows = np.concatenate([np.arange(11), np.arange(11), np.arange(40, 90)])
    twice = gaussian_of_blocks(blocks)(np.array([2.0, 0.0, 1.0]))
    assert twice == pytest.approx(gaussian_distance(a[rows], b[rows]), rel=3e-4)


def test_features_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one length"):
        gaussian_distance(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(DataError, match="not finite"):
        gaussian_distance(np.full((3, 2), np.nan), np.ones((3, 2)))
