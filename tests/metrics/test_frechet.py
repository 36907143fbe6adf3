"""Distances against closed forms and independent implementations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hfd.errors import DataError
from hfd.metrics import frechet, of_counts
from hfd.metrics.frechet import GaussianStats, cubic_kernel, frechet_distance, frechet_of_moments, kernel_distance
from hfd.metrics.of_counts import frechet_of_counts, kernel_of_counts, sums_by_image

FloatArray = npt.NDArray[np.float64]


def _features(num: int, dim: int, seed: int, *, shift: float = 0.0) -> FloatArray:
    """Correlated features, as of a network."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(num, dim)) @ rng.normal(size=(dim, dim)) / dim**0.5 + shift, -0.5)


def _given(mean: FloatArray, covariance: FloatArray, num: int = 100) -> GaussianStats:
    """Statistics of a set that has exactly this mean and this unbiased covariance."""
    return GaussianStats(num, num * mean, (num - 1) * covariance + num * np.outer(mean, mean))


def test_statistics_are_mean_and_unbiased_covariance() -> None:
    x = _features(50, 6, 0)
    stats = GaussianStats.of(x)
    assert stats.num == 50
    np.testing.assert_allclose(stats.mean, x.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(stats.covariance, np.cov(x, rowvar=False), atol=1e-12)


def test_statistics_are_float64_for_float32_features() -> None:
    x = (1000.0 + _features(5000, 3, 0)).astype(np.float32)
    stats = GaussianStats.of(x)
    assert stats.sum.dtype == stats.outer.dtype == np.float64
    np.testing.assert_allclose(stats.covariance, np.cov(x.astype(np.float64), rowvar=False), atol=1e-7)


def test_merging_is_associative_and_equals_the_whole() -> None:
    x = _features(60, 5, 1)
    a, b, c = (GaussianStats.of(part) for part in np.split(x, [7, 30]))
    whole = GaussianStats.of(x)
    for merged in ((a + b) + c, a + (b + c), c + a + b):
        assert merged.num == whole.num
        np.testing.assert_allclose(merged.sum, whole.sum, atol=1e-11)
        np.testing.assert_allclose(merged.outer, whole.outer, atol=1e-11)


def test_an_empty_set_is_neutral() -> None:
    whole = GaussianStats.of(_features(9, 4, 2))
    nothing = GaussianStats.of(np.zeros((0, 4), dtype=np.float32))
    merged = nothing + whole
    assert merged.num == 9
    np.testing.assert_array_equal(merged.outer, whole.outer)


@pytest.mark.parametrize("seed", range(5))
def test_frechet_distance_agrees_with_sqrtm(seed: int) -> None:
    from scipy.linalg import sqrtm

    x, y = _features(200, 12, seed), _features(150, 12, seed + 100, shift=0.3)
    a, b = GaussianStats.of(x), GaussianStats.of(y)
    root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False))
    expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(
        np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * np.real(root)
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_diagonal_gaussians() -> None:
    rng = np.random.default_rng(0)
    mean_a, mean_b = rng.normal(size=(2, 20))
    var_a, var_b = rng.uniform(0.1, 4.0, size=(2, 20))
    expected = np.sum((mean_a - mean_b) ** 2) + np.sum((np.sqrt(var_a) - np.sqrt(var_b)) ** 2)
    got = frechet_distance(_given(mean_a, np.diag(var_a)), _given(mean_b, np.diag(var_b)))
    assert got == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_singular_diagonal_gaussians() -> None:
    """Each has directions that the other lacks, and some are missing from both."""
    var_a = np.array([4.0, 0.0, 9.0, 0.0, 1.0] + [0.0] * 100)
    var_b = np.array([1.0, 1.0, 0.0, 0.0, 1.0] + [0.0] * 100)
    zero = np.zeros(105)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(105, 105)))[0]
    a = _given(zero, rotation @ np.diag(var_a) @ rotation.T)
    b = _given(zero, rotation @ np.diag(var_b) @ rotation.T)
    assert frechet_distance(a, b) == pytest.approx(1.0 + 1.0 + 9.0, rel=1e-6)


def test_frechet_distance_with_fewer_vectors_than_dimensions() -> None:
    """Against the sum of singular values of X Y', which never forms a D x D matrix."""
    x, y = _features(40, 300, 3), _features(30, 300, 4, shift=0.2)
    cx, cy = x - x.mean(axis=0), y - y.mean(axis=0)
    cross = np.linalg.svd(cx @ cy.T, compute_uv=False).sum() / np.sqrt(39 * 29)
    expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.sum(cx**2) / 39 + np.sum(cy**2) / 29
    got = frechet_distance(GaussianStats.of(x), GaussianStats.of(y))
    assert got == pytest.approx(expected - 2 * cross, rel=1e-7)


@pytest.mark.parametrize(("num", "dim"), [(500, 16), (20, 256)])
def test_the_distance_to_oneself_is_zero(num: int, dim: int) -> None:
    stats = GaussianStats.of(_features(num, dim, 5))
    distance = frechet_distance(stats, stats)
    assert 0.0 <= distance < 1e-6 * np.trace(stats.covariance)


def test_the_distance_is_translation_only_for_shifted_copies() -> None:
    x = _features(300, 8, 6)
    got = frechet_distance(GaussianStats.of(x), GaussianStats.of(x + 0.5))
    assert got == pytest.approx(8 * 0.25, rel=1e-8)


def test_too_few_vectors_are_named() -> None:
    one, two = GaussianStats.of(np.ones((1, 3))), GaussianStats.of(np.eye(3)[:2])
    with pytest.raises(DataError, match="got 1 vectors, expected at least 2") as caught:
        frechet_distance(two, one)
    assert caught.value.reason == "too-few"
    with pytest.raises(DataError, match="got 0 vectors, expected at least 1"):
        _ = GaussianStats.of(np.zeros((0, 3))).mean


def test_values_that_are_not_finite_are_named() -> None:
    x = np.ones((4, 3))
    x[2, 1] = np.nan
    with pytest.raises(DataError, match="not finite") as caught:
        GaussianStats.of(x)
    assert caught.value.reason == "not-finite"


def test_lengths_have_to_match() -> None:
    a, b = GaussianStats.of(_features(5, 3, 0)), GaussianStats.of(_features(5, 4, 0))
    with pytest.raises(ValueError, match="expected one length"):
        _ = a + b
    with pytest.raises(ValueError, match="expected one length"):
        frechet_distance(a, b)
    with pytest.raises(ValueError, match="expected one length"):
        kernel_distance(_features(5, 3, 0), _features(5, 4, 0))
    with pytest.raises(ValueError, match=r"expected float \(P, D\)"):
        GaussianStats.of(np.ones(3))


def test_kernel_distance_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd  # its import takes seconds

    x, y = _features(70, 9, 7), _features(70, 9, 8, shift=0.4)
    expected = float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y)))
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_agrees_with_loops_for_unequal_sets() -> None:
    x, y = _features(11, 5, 9), _features(7, 5, 10, shift=0.4)

    def k(u: FloatArray, v: FloatArray) -> float:
        return float((np.dot(u, v) / 5 + 1) ** 3)

    within_x = sum(k(x[i], x[j]) for i in range(11) for j in range(11) if i != j) / (11 * 10)
    within_y = sum(k(y[i], y[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    across = sum(k(u, v) for u in x for v in y) / (11 * 7)
    assert kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * across, rel=1e-10)


def test_kernel_distance_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _features(50, 6, 11), _features(37, 6, 12, shift=0.4)
    whole = kernel_distance(x, y)
    monkeypatch.setattr(frechet, "KERNEL_CHUNK", 8)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-10)


def test_kernel_distance_is_unbiased() -> None:
    rng = np.random.default_rng(13)
    draws = [kernel_distance(rng.normal(size=(20, 4)), rng.normal(size=(30, 4))) for _ in range(400)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 4 * error
    assert min(draws) < 0 < max(draws)


def test_kernel_distance_needs_two_vectors_each() -> None:
    with pytest.raises(DataError, match="got 5 and 1 vectors") as caught:
        kernel_distance(_features(5, 3, 0), _features(1, 3, 0))
    assert caught.value.reason == "too-few"


@pytest.mark.parametrize(("num", "dim"), [(40, 8), (9, 30), (30, 24), (14, 8)])
def test_distances_of_counts_are_those_of_repeated_rows(num: int, dim: int) -> None:
    """Of fewer rows than features and of more, with images of several rows, of one, and of none at both ends."""
    a, b = _features(num, dim, 1), _features(num, dim, 2, shift=0.3)
    patches = [0, num - 8, 0, 0, 5, 1, 2, 0]
    counts = np.array([3, 1, 2, 0, 2, 0, 3, 1])
    rows = np.repeat(np.arange(num), np.repeat(counts, patches))
    expected = frechet_distance(GaussianStats.of(a[rows]), GaussianStats.of(b[rows]))
    assert frechet_of_counts(a, b, patches)(counts.astype(float)) == pytest.approx(expected, rel=1e-6)
    expected = kernel_distance(a[rows], b[rows])
    assert kernel_of_counts(a, b, patches)(counts.astype(float)) == pytest.approx(expected, rel=1e-9)


def test_sums_by_image_do_not_depend_on_their_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _features(29, 6, 11), _features(29, 6, 12, shift=0.4)
    patches = [0, 3, 7, 0, 1, 16, 2, 0]
    ends = np.cumsum([0, *patches])
    whole = (a @ b.T / 6 + 1.0) ** 3
    expected = [[whole[ends[i] : ends[i + 1], ends[j] : ends[j + 1]].sum() for j in range(8)] for i in range(8)]
    for chunk in (1024, 8, 1):
        monkeypatch.setattr(of_counts, "KERNEL_CHUNK", chunk)
        np.testing.assert_allclose(sums_by_image(cubic_kernel, a, b, patches), expected, rtol=1e-12)


@pytest.mark.parametrize("missing", [0, 1, 5])
def test_covariances_are_compared_by_any_root(missing: int) -> None:
    """Features that never vary leave a covariance without a Cholesky factor: the square root serves then."""
    x, y = _features(200, 30, 3), _features(200, 30, 4, shift=0.2)
    x[:, :missing], y[:, :missing] = 0.25, 0.25
    covariances = [np.cov(rows.T) for rows in (x, y)]
    cross = np.linalg.svd(np.subtract(x, x.mean(0)) @ np.subtract(y, y.mean(0)).T, compute_uv=False).sum() / 199
    expected = sum(float(np.trace(one)) for one in covariances) - 2.0 * cross
    for first, second in (covariances, covariances[::-1]):
        assert frechet_of_moments(np.zeros(30), first, second) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("distance", [frechet_of_counts, kernel_of_counts])
def test_distances_of_counts_take_pairs_only(distance) -> None:
    with pytest.raises(ValueError, match="expected pairs of rows"):
        distance(_features(5, 3, 0), _features(4, 3, 0), [5])
