"""Where the energy of a picture lies by spatial frequency: the measure of the denoising effect."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hfd.image.load import RgbArray
from hfd.metrics.distortion import require_pair

FloatArray = npt.NDArray[np.float64]

MIN_SIDE_PX = 8
"""The shorter side that a spectrum needs: below it the top octave would hold a single annulus."""

# BT.601, the luma that JPEG, WebP and AVIF files of 8-bit photographs code.
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
# Luma^2 per frequency: far above float64 rounding (1e-22), far below one grey level in one pixel (1e-5).
_EMPTY = 1e-12


def radial_power(x: RgbArray) -> FloatArray:
    """Radially averaged power spectrum of the BT.601 luma.

    The luma, less its window-weighted mean, is multiplied by a periodic Hann window along each side: without
    it the jump between opposite edges of the picture would leak over all frequencies. The squared DFT is
    divided by the window's energy, so that white noise of variance s^2 has power s^2 at every frequency.

    The average is over annuli of equal width in ``sqrt(fx^2 + fy^2)``, both in cycles/px, so the two
    directions count alike in a picture of any shape. With ``K = 2 (min(H, W) // 4)`` annuli, number ``k``
    holds ``[k, k + 1) / (2 K)``, the last one 0.5 itself too; number 0 is all but empty without the mean.
    The corners of the spectrum above 0.5 cycles/px, which exist only along diagonals, are left out.

    Args:
        x: uint8 (H, W, 3) sRGB.

    Returns:
        float64 (K,), non-negative, in squared grey levels; annulus ``k`` is centred at ``(k + 0.5) / (2 K)``
        cycles/px and ``K // 2`` begins at 0.25.

    Raises:
        ValueError: not uint8 (H, W, 3), or a side below `MIN_SIDE_PX`.
    """
    require_pair(x, x)
    height, width = x.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise ValueError(f"x: got {width} x {height} px, expected sides of at least {MIN_SIDE_PX} px")
    luma = x @ _LUMA_WEIGHTS
    window = np.outer(_hann(height), _hann(width))
    luma = (luma - np.average(luma, weights=window)) * window
    power = np.abs(np.fft.fft2(luma)) ** 2 / np.sum(window**2)

    num_annuli = 2 * (min(height, width) // 4)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    inside = frequency <= 0.5
    annulus = np.minimum((frequency[inside] * 2 * num_annuli).astype(np.intp), num_annuli - 1)
    # No annulus is empty: each is at least as wide as the spacing of frequencies along the shorter side.
    count = np.bincount(annulus, minlength=num_annuli)
    total = np.bincount(annulus, weights=power[inside], minlength=num_annuli)
    average: FloatArray = total / count
    return average


def top_octave_energy(reference: RgbArray, decoded: RgbArray) -> float:
    """Radial power of the decoded picture over the reference's, from 0.25 to 0.5 cycles/px.

    The sum of `radial_power` over the annuli of the top octave, decoded divided by reference. Averaging
    within an annulus first gives each frequency band the same say, where a sum over the plane would weigh
    the outermost ones most.

    Args:
        reference: uint8 (H, W, 3) sRGB.
        decoded: as the reference.

    Returns:
        1.0 is right; below 1 fine detail and grain are missing (the denoising effect), above 1 there is too
        much. Where the reference has nothing in the top octave (flat colour): 1.0 if the decoded picture has
        nothing either, else ``inf``.

    Raises:
        ValueError: see `require_pair` and `radial_power`.
    """
    require_pair(reference, decoded)
    expected, got = (_top_octave(x) for x in (reference, decoded))
    if expected < _EMPTY:
        return 1.0 if got < _EMPTY else math.inf
    return got / expected


def _top_octave(x: RgbArray) -> float:
    power = radial_power(x)
    return float(power[power.size // 2 :].sum())


def _hann(side_px: int) -> FloatArray:
    """Periodic Hann window: its DFT has exactly three terms, so it leaks to the next frequencies only."""
    window: FloatArray = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(side_px) / side_px)
    return window
