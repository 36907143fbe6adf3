"""Radial power spectra of pictures: the measure of the denoising effect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft2

from hfd.image.load import RgbArray
from hfd.metrics.distortion import require_pair

FloatArray = npt.NDArray[np.float64]

MIN_SIDE_PX = 8
"""Smallest shorter side: below it the top octave would be a single annulus."""

_KEPT_PIXELS = 1_048_576
"""Largest pictures for whose size the grid is kept, 12 bytes a pixel, for the next pictures of that size."""

# BT.601, as in JPEG, WebP and AVIF files of 8-bit photographs.
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
# Luma^2 per frequency: far above float64 rounding (1e-22), far below one grey level in one pixel (1e-5).
_EMPTY = 1e-12


def radial_power(x: RgbArray) -> FloatArray:
    """Radially averaged power spectrum of the BT.601 luma.

    A periodic Hann window along each side of the luma, less its window-weighted mean, prevents leakage from the jump
    between opposite edges. The squared DFT is divided by the window's energy: white noise of variance s^2 has power s^2
    at every frequency.

    The average is over annuli of equal width in ``sqrt(fx^2 + fy^2)``, both in cycles/px, so that the two directions
    count alike for any shape. With ``K = 2 (min(H, W) // 4)`` annuli, number ``k`` covers ``[k, k + 1) / (2 K)``, the
    last one includes 0.5. Frequencies above 0.5 cycles/px, which exist only along diagonals, are left out.

    From uint8 (H, W, 3) sRGB. Returns float64 (K,), non-negative, in squared grey levels; annulus ``k`` is centred at
    ``(k + 0.5) / (2 K)`` cycles/px and ``K // 2`` begins at 0.25.

    Raises:
        ValueError: not uint8 (H, W, 3), or a side below `MIN_SIDE_PX`.
    """
    require_pair(x, x)
    height, width = x.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise ValueError(f"x: got {width} x {height} px, expected sides of at least {MIN_SIDE_PX} px")
    grid = _grid_once(height, width) if height * width <= _KEPT_PIXELS else _grid(height, width)
    luma = x @ _LUMA_WEIGHTS
    luma = (luma - np.average(luma, weights=grid.window)) * grid.window
    spectrum = rfft2(luma)
    power = spectrum.real**2 + spectrum.imag**2
    power *= grid.copies / grid.energy
    # The last bin holds what lies outside.
    total = np.bincount(grid.annulus.ravel(), weights=power.ravel(), minlength=len(grid.count) + 1)[:-1]
    average: FloatArray = total / grid.count
    return average


@dataclass(frozen=True, eq=False)
class _Grid:
    """Constants that the spectra of all pictures of one size share.

    ``window``: (H, W), and its ``energy``. A real picture has each frequency and its opposite: half of the columns, W',
    are enough. ``copies`` (W',): 2 for columns that stand for two; ``annulus`` (H, W'): of each frequency, K outside
    all; ``count`` (K,): frequencies in each annulus.
    """

    window: FloatArray
    energy: float
    copies: FloatArray
    annulus: npt.NDArray[np.intp]
    count: FloatArray


def _grid(height: int, width: int) -> _Grid:
    window = np.outer(_hann(height), _hann(width))
    copies = np.full(width // 2 + 1, 2.0)
    copies[0] = 1.0
    if width % 2 == 0:
        copies[-1] = 1.0
    num_annuli = 2 * (min(height, width) // 4)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    annulus = np.minimum((frequency * 2 * num_annuli).astype(np.intp), num_annuli - 1)
    annulus[frequency > 0.5] = num_annuli
    # Each annulus is at least as wide as the frequency spacing along the shorter side: none is empty.
    weights = np.broadcast_to(copies, frequency.shape).ravel()
    count = np.bincount(annulus.ravel(), weights=weights, minlength=num_annuli + 1)[:-1].astype(np.float64)
    return _Grid(window, float(np.sum(window**2)), copies, annulus, count)


_grid_once = lru_cache(maxsize=2)(_grid)


def top_octave_energy(reference: RgbArray, decoded: RgbArray) -> float:
    """Radial power of the decoded picture over the reference's, from 0.25 to 0.5 cycles/px.

    The sum of `radial_power` over the annuli of the top octave, decoded divided by reference. Averages within annuli
    give each frequency band the same weight; a sum over the plane would weigh the outermost ones most.

    Both uint8 (H, W, 3) sRGB. 1.0 is ideal; below 1 fine detail and grain are missing (the denoising effect), above 1
    there is too much. If the top octave of the reference is empty (flat colour): 1.0 if that of the decoded picture is
    too, else ``inf``. Raises as :func:`require_pair` and :func:`radial_power`.
    """
    require_pair(reference, decoded)
    return energy_over(top_octave(reference), decoded)


def energy_over(expected: float, decoded: RgbArray) -> float:
    """:func:`top_octave_energy` over the :func:`top_octave` of the reference."""
    got = top_octave(decoded)
    if is_empty(expected):
        return 1.0 if is_empty(got) else math.inf
    return got / expected


def is_empty(power: float) -> bool:
    """Report if the top octave of a picture has nothing in it (flat colour)."""
    return power < _EMPTY


def top_octave(x: RgbArray) -> float:
    """Return the power of a picture, uint8 (H, W, 3), in its top octave, in squared grey levels."""
    power = radial_power(x)
    return float(power[power.size // 2 :].sum())


def _hann(side_px: int) -> FloatArray:
    """Periodic Hann window: its DFT has three terms, so that it leaks to the next frequencies only."""
    window: FloatArray = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(side_px) / side_px)
    return window
