"""Distances, distortions and Bjontegaard rates against the packages that others report with, on the same numbers."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hfd.image.load import RgbArray
from hfd.metrics.bd_rate import bd_rate
from hfd.metrics.distortion import ms_ssim, psnr
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from hfd.metrics.of_counts import frechet_of_counts, kernel_of_counts
from tests.support.pictures import photograph

FloatArray = npt.NDArray[np.float64]


def pair(num: int, dimension: int) -> tuple[FloatArray, FloatArray]:
    """Correlated, positive features as of a network, of pictures and of their distorted versions."""
    rng = np.random.default_rng(num + dimension)
    mixing = rng.normal(size=(dimension, dimension)) / dimension**0.5
    x = np.maximum(rng.normal(size=(num, dimension)) @ mixing + 0.3, 0.0)
    return x, np.maximum(0.9 * x + 0.2 * rng.normal(size=x.shape) @ mixing + 0.05, 0.0)


def frechet(x: FloatArray, y: FloatArray) -> float:
    return frechet_distance(GaussianStats.of(x), GaussianStats.of(y))


@pytest.mark.parametrize(("num", "dimension"), [(400, 32), (3000, 128), (700, 512)])
def test_frechet_distances_are_torch_fidelitys(num: int, dimension: int) -> None:
    from torch_fidelity import metric_fid as package

    x, y = pair(num, dimension)
    stats = [package.fid_features_to_statistics(torch.from_numpy(one)) for one in (x, y)]
    expected = package.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    assert frechet(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_of_counts(x, y, [1] * num)(np.ones(num)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("num", "dimension"), [(400, 32), (3000, 128)])
def test_frechet_distances_are_torchmetrics(num: int, dimension: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = pair(num, dimension)
    network = torch.nn.Flatten()  # "pictures" are features already
    network.num_features = dimension
    fid = FrechetInceptionDistance(feature=network, input_img_size=(dimension, 1, 1)).set_dtype(torch.float64)
    for one, real in ((x, True), (y, False)):
        fid.update(torch.from_numpy(one).reshape(num, dimension, 1, 1), real=real)
    assert frechet(x, y) == pytest.approx(float(fid.compute()), rel=1e-6)


def test_kernel_distances_are_torch_fidelitys() -> None:
    from torch_fidelity import metric_kid as package

    x, y = pair(300, 64)
    whole = package.kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=1, kid_subset_size=300, verbose=False
    )["kernel_inception_distance_mean"]
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-6)
    assert kernel_of_counts(x, y, [1] * 300)(np.ones(300)) == pytest.approx(whole, rel=1e-6)


def test_a_kernel_distance_over_all_is_the_mean_over_many_subsets() -> None:
    """KID is reported as the mean over 100 subsets; over unrelated sets, ours is its expectation."""
    from torch_fidelity import metric_kid as package

    x, y = pair(300, 64)[0], pair(301, 64)[1][:300]
    reported = package.kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=100, kid_subset_size=100, verbose=False
    )
    error = reported["kernel_inception_distance_std"] / 100**0.5
    assert abs(kernel_distance(x, y) - reported["kernel_inception_distance_mean"]) < 4 * error


def distorted(x: RgbArray, strength: float) -> RgbArray:
    noise = np.random.default_rng(1).normal(size=x.shape) * strength
    return np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)


def batch(x: RgbArray) -> torch.Tensor:
    return torch.tensor(x).permute(2, 0, 1)[None].double()


@pytest.mark.parametrize("strength", [1.0, 6.0, 40.0])
def test_psnr_is_torchmetrics(strength: float) -> None:
    from torchmetrics.image import PeakSignalNoiseRatio

    x = photograph(97, 130)
    y = distorted(x, strength)
    theirs = PeakSignalNoiseRatio(data_range=255.0).set_dtype(torch.float64)
    assert psnr(x, y) == pytest.approx(float(theirs(batch(y), batch(x))), rel=1e-6)  # theirs holds float32


@pytest.mark.parametrize("strength", [6.0, 40.0])
def test_ms_ssim_is_torchmetrics(strength: float) -> None:
    """Of a grey picture, their value; of a coloured one, the mean of their values of its channels."""
    from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

    def theirs(y: RgbArray, x: RgbArray) -> float:
        metric = MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0)
        return float(metric(batch(y).float() / 255.0, batch(x).float() / 255.0))

    x = photograph(192, 240)
    y = distorted(x, strength)
    grey, grey_y = (np.repeat(one[..., 1:2], 3, axis=2) for one in (x, y))
    assert ms_ssim(grey, grey_y) == pytest.approx(theirs(grey_y, grey), abs=1e-6)
    channels = [theirs(y[..., i : i + 1], x[..., i : i + 1]) for i in range(3)]
    assert ms_ssim(x, y) == pytest.approx(float(np.mean(channels)), abs=1e-6)


ANCHOR = ([0.12, 0.25, 0.45, 0.8, 1.3], [28.1, 30.2, 32.3, 34.6, 36.9])
TEST = ([0.1, 0.21, 0.4, 0.75], [28.6, 30.9, 33.1, 35.2])


def test_bd_rates_are_the_packages() -> None:
    import bjontegaard as package

    for (anchor, of_anchor), (test, of_test) in ((ANCHOR, TEST), (TEST, ANCHOR)):
        expected = package.bd_rate(
            anchor, of_anchor, test, of_test, method="pchip", require_matching_points=False, min_overlap=0
        )
        assert bd_rate(anchor, of_anchor, test, of_test) == pytest.approx(expected, rel=1e-9)


def test_bd_rates_without_overlap_are_refused_as_by_the_package() -> None:
    import bjontegaard as package

    apart = [value + 20.0 for value in TEST[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = package.bd_rate(*ANCHOR, TEST[0], apart, method="pchip", require_matching_points=False, min_overlap=0)
    assert math.isnan(theirs) and bd_rate(*ANCHOR, TEST[0], apart) is None
