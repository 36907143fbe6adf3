"""Spectra against closed forms: white noise, single waves, filters of known transfer function."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from hfd.image.load import RgbArray
from hfd.metrics.spectrum import radial_power, top_octave_energy

FloatArray = npt.NDArray[np.float64]


def _grey(luma: FloatArray) -> RgbArray:
    assert luma.min() >= 0
    assert luma.max() <= 255, "clipping would spoil the closed form"
    return np.repeat(np.rint(luma).astype(np.uint8)[..., None], 3, axis=2)


def _white(height: int, width: int, *, std: float = 20.0, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(height, width)) * std


def _wave(height: int, width: int, *, fy: float = 0.0, fx: float = 0.0, amplitude: float = 50.0) -> FloatArray:
    row, column = np.mgrid[0:height, 0:width]
    return amplitude * np.sin(2 * np.pi * (fy * row + fx * column) + 0.3)


@pytest.mark.parametrize("shape", [(256, 256), (192, 320), (131, 257), (9, 8)])
def test_the_number_of_annuli_follows_the_shorter_side(shape: tuple[int, int]) -> None:
    power = radial_power(_grey(127.5 + _white(*shape)))
    assert power.shape == (2 * (min(shape) // 4),)
    assert power.dtype == np.float64
    assert np.all(power > 0)


@pytest.mark.parametrize("shape", [(32, 48), (33, 47), (40, 31), (9, 8), (8, 9)])
def test_every_frequency_of_the_whole_plane_counts_once(shape: tuple[int, int]) -> None:
    luma = np.rint(127.5 + _white(*shape))
    height, width = shape
    window = np.outer(*(np.sin(np.pi * np.arange(side) / side) ** 2 for side in shape))
    plane = (luma - (luma * window).sum() / window.sum()) * window
    power = np.abs(np.fft.fft2(plane)) ** 2 / (window**2).sum()
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    found = radial_power(_grey(luma))
    for k, value in enumerate(found):
        lower, upper = k / (2 * len(found)), (k + 1) / (2 * len(found))
        ring = (frequency >= lower) & ((frequency < upper) | (frequency == 0.5) & (upper == 0.5))
        assert value == pytest.approx(power[ring].mean(), rel=1e-9), k


@pytest.mark.parametrize("shape", [(256, 256), (192, 320)])
def test_white_noise_has_its_variance_at_every_frequency(shape: tuple[int, int]) -> None:
    power = radial_power(_grey(127.5 + _white(*shape)))
    assert np.mean(power[4:]) == pytest.approx(20.0**2 + 1 / 12, rel=0.02)
    low, high = np.array_split(power[4:], 2)
    assert low.mean() == pytest.approx(high.mean(), rel=0.1)


def test_luma_is_bt601() -> None:
    noise = np.rint(127.5 + _white(128, 128)).astype(np.uint8)
    grey_power = radial_power(np.repeat(noise[..., None], 3, axis=2))
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        x = np.zeros((128, 128, 3), dtype=np.uint8)
        x[..., channel] = noise
        np.testing.assert_allclose(radial_power(x), weight**2 * grey_power, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("fy", "fx"), [(0.0, 0.3), (0.3, 0.0), (0.18, 0.24)])
@pytest.mark.parametrize("shape", [(160, 160), (120, 240)])
def test_a_wave_lies_in_the_annulus_of_its_frequency(shape: tuple[int, int], fy: float, fx: float) -> None:
    power = radial_power(_grey(127.5 + _wave(*shape, fy=fy, fx=fx)))
    annulus = int(0.30001 * 2 * power.size)
    assert abs(int(np.argmax(power)) - annulus) <= 1
    assert power[annulus - 1 : annulus + 2].sum() > 0.98 * power.sum()


def test_edges_do_not_leak_into_the_top_octave() -> None:
    # Half a period across: the opposite edges differ most, which an unwindowed DFT takes for a step.
    x = _grey(127.5 + _wave(256, 256, fx=0.5 / 256, amplitude=100.0))
    power = radial_power(x)
    assert power[power.size // 2 :].max() < 0.5, "no more than the rounding to whole grey levels"
    assert power[1] > 1e4


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.5])
def test_white_noise_scaled_by_a_has_energy_a_squared(scale: float) -> None:
    noise = _white(256, 200, std=15.0)
    got = top_octave_energy(_grey(127.5 + noise), _grey(127.5 + scale * noise))
    assert got == pytest.approx(scale**2, rel=5e-3)


def test_a_difference_in_low_frequencies_leaves_one() -> None:
    base = 127.5 + _white(256, 256, std=15.0)
    changed = base + _wave(256, 256, fx=0.02, fy=0.01, amplitude=30.0)
    reference, decoded = _grey(base), _grey(changed)
    assert radial_power(decoded)[:16].sum() > 5 * radial_power(reference)[:16].sum()
    assert top_octave_energy(reference, decoded) == pytest.approx(1.0, abs=5e-3)


def _binomial(fy: FloatArray, fx: FloatArray) -> FloatArray:
    """Transfer function of [1 2 1] / 4 along both sides."""
    return np.cos(np.pi * fy) ** 2 * np.cos(np.pi * fx) ** 2


def _horizontal_box(fy: FloatArray, fx: FloatArray) -> FloatArray:
    """Transfer function of [1 1 1] / 3 along rows."""
    return (1 + 2 * np.cos(2 * np.pi * fx)) / 3 + 0 * fy


@pytest.mark.parametrize("transfer", [_binomial, _horizontal_box])
@pytest.mark.parametrize("shape", [(256, 256), (200, 320)])
def test_a_blur_gives_the_ratio_its_transfer_function_predicts(
    transfer: Callable[[FloatArray, FloatArray], FloatArray], shape: tuple[int, int]
) -> None:
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")
    noise = _white(*shape, std=25.0)
    blurred = np.fft.ifft2(np.fft.fft2(noise) * transfer(fy, fx)).real
    got = top_octave_energy(_grey(127.5 + noise), _grey(127.5 + blurred))

    # The mean of |H|^2 over the directions of a circle, then over radii: polar quadrature, no DFT grid.
    radius, angle = np.meshgrid(
        np.linspace(0.25, 0.5, 400), np.linspace(0, 2 * np.pi, 720, endpoint=False), indexing="ij"
    )
    predicted = np.mean(transfer(radius * np.sin(angle), radius * np.cos(angle)) ** 2)
    rounding = (1 / 12) / 25.0**2
    assert got == pytest.approx(predicted + rounding, rel=0.05)


def test_identical_pictures_have_energy_one() -> None:
    x = _grey(127.5 + _white(64, 96))
    assert top_octave_energy(x, x) == 1.0


def test_a_flat_reference_has_no_top_octave() -> None:
    flat = np.full((64, 64, 3), 77, dtype=np.uint8)
    assert top_octave_energy(flat, flat + 10) == 1.0
    dot = flat.copy()
    dot[32, 32] += 1
    assert top_octave_energy(flat, dot) == math.inf
    assert top_octave_energy(dot, flat) == pytest.approx(0.0, abs=1e-12)


def test_pictures_too_small_or_unlike_are_refused() -> None:
    x = _grey(127.5 + _white(64, 64))
    with pytest.raises(ValueError, match="at least 8 px"):
        radial_power(x[:7])
    with pytest.raises(ValueError, match="decoded: got"):
        top_octave_energy(x, x[:, :60])
