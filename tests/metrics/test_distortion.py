"""PSNR against its formula, MS-SSIM against another implementation, and bpp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as other_ms_ssim

from hfd.image.load import RgbArray
from hfd.metrics.distortion import MS_SSIM_MIN_SIDE_PX, bpp, ms_ssim, psnr


def _noise(height: int, width: int, seed: int = 0) -> RgbArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _colourful(height: int, width: int) -> RgbArray:
    """Smooth colours that differ between channels, so that mixing channels up shows."""
    row, column = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(row / 9.0 + column / 23.0),
        np.cos(column / 7.0),
        np.sin(row / 31.0) * np.cos(column / 5.0),
    ]
    return np.rint(127.5 + 100.0 * np.stack(waves, axis=-1)).astype(np.uint8)


def _distorted(x: RgbArray, strengths: tuple[float, float, float]) -> RgbArray:
    noise = np.random.default_rng(1).normal(size=x.shape) * np.array(strengths)
    return np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)


def test_psnr_of_a_constant_offset() -> None:
    reference = np.full((5, 7, 3), 100, dtype=np.uint8)
    assert psnr(reference, reference + 4) == pytest.approx(20 * math.log10(255 / 4), abs=1e-12)
    # Negative differences must not wrap around in uint8.
    assert psnr(reference + 4, reference) == psnr(reference, reference + 4)


def test_psnr_averages_over_all_channels() -> None:
    reference = np.zeros((4, 4, 3), dtype=np.uint8)
    decoded = reference.copy()
    decoded[:, :, 1] = 255
    assert psnr(reference, decoded) == pytest.approx(10 * math.log10(3))


def test_psnr_of_identical_pictures_is_infinite() -> None:
    x = _noise(8, 8)
    assert psnr(x, x) == math.inf


def test_psnr_of_black_and_white_is_zero() -> None:
    black = np.zeros((300, 300, 3), dtype=np.uint8)
    assert psnr(black, np.full_like(black, 255)) == 0.0


@pytest.mark.parametrize("strengths", [(8.0, 8.0, 8.0), (40.0, 4.0, 15.0)])
def test_ms_ssim_agrees_with_pytorch_msssim(strengths: tuple[float, float, float]) -> None:
    reference = _colourful(192, 256)
    decoded = _distorted(reference, strengths)
    tensors = [torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32)) for x in (decoded, reference)]
    expected = float(other_ms_ssim(tensors[0], tensors[1], data_range=255.0))
    got = ms_ssim(reference, decoded)
    assert got is not None
    assert expected < 0.99
    assert got == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("shape", [(192, 256), (177, 301), (401, 176)])
@pytest.mark.parametrize("strengths", [(8.0, 8.0, 8.0), (40.0, 4.0, 15.0)])
def test_ms_ssim_is_torchmetrics_in_double_precision(
    shape: tuple[int, int], strengths: tuple[float, float, float]
) -> None:
    """In single precision torchmetrics is farther from it."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    reference = _colourful(*shape)
    decoded = _distorted(reference, strengths)
    channels = [torch.from_numpy(x.transpose(2, 0, 1)[:, None] / 255.0) for x in (decoded, reference)]
    expected = multiscale_structural_similarity_index_measure(
        channels[0], channels[1], data_range=1.0, reduction="none", normalize="relu"
    )
    assert expected.dtype == torch.float64
    assert ms_ssim(reference, decoded) == pytest.approx(float(expected.mean()), rel=2e-6)


def test_ms_ssim_of_identical_pictures_is_one() -> None:
    x = _colourful(176, 200)
    assert ms_ssim(x, x) == pytest.approx(1.0, abs=1e-6)


def test_ms_ssim_falls_with_distortion_and_stays_a_number() -> None:
    reference = _colourful(192, 192)
    mild = ms_ssim(reference, _distorted(reference, (5.0, 5.0, 5.0)))
    strong = ms_ssim(reference, _distorted(reference, (50.0, 50.0, 50.0)))
    inverted = ms_ssim(reference, 255 - reference)
    assert mild is not None
    assert strong is not None
    # Negative covariance would be NaN under the fractional exponents.
    assert inverted is not None
    assert 0.0 <= inverted < strong < mild < 1.0


def test_ms_ssim_needs_176_px_a_side() -> None:
    assert MS_SSIM_MIN_SIDE_PX == 176
    for shape in ((175, 400), (400, 175)):
        x = _noise(*shape)
        assert ms_ssim(x, x) is None
    smallest = _noise(176, 176)
    assert ms_ssim(smallest, smallest) == pytest.approx(1.0, abs=1e-6)


def test_bpp_counts_bits_of_the_whole_file() -> None:
    assert bpp(1000, 80, 100) == 1.0
    assert bpp(0, 1, 1) == 0.0


@pytest.mark.parametrize("arguments", [(-1, 8, 8), (10, 0, 8), (10, 8, 0)])
def test_bpp_refuses_nonsense(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="bpp: got"):
        bpp(*arguments)


@pytest.mark.parametrize("metric", [psnr, ms_ssim])
def test_pictures_that_do_not_belong_together_are_refused(metric: object) -> None:
    assert callable(metric)
    x = _noise(200, 200)
    with pytest.raises(ValueError, match=r"decoded: got \(200, 199, 3\), expected \(200, 200, 3\)"):
        metric(x, x[:, :-1])
    with pytest.raises(ValueError, match="reference: got float32"):
        metric(x.astype(np.float32), x)
    with pytest.raises(ValueError, match=r"reference: got uint8 \(200, 200\)"):
        metric(x[:, :, 0], x[:, :, 0])
