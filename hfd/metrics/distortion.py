"""Distortion of decoded pixels (PSNR, MS-SSIM) and the rate of a file."""

from __future__ import annotations

import math

import numpy as np

from hfd.image.load import RgbArray
from hfd.metrics.ms_ssim import MIN_SIDE_PX, ms_ssim_of_scales, scales_of

MS_SSIM_MIN_SIDE_PX = MIN_SIDE_PX
"""Smallest shorter side for `ms_ssim`."""


def require_pair(reference: RgbArray, decoded: RgbArray) -> None:
    """Raise ValueError unless both pictures are uint8 (H, W, 3), H, W > 0, of one shape."""
    for name, x in (("reference", reference), ("decoded", decoded)):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3 or x.size == 0:
            raise ValueError(f"{name}: got {x.dtype} {x.shape}, expected uint8 (H, W, 3)")
    if reference.shape != decoded.shape:
        raise ValueError(f"decoded: got {decoded.shape}, expected {reference.shape} as the reference")


def psnr(reference: RgbArray, decoded: RgbArray) -> float:
    """Peak signal-to-noise ratio, dB: ``10 log10(255^2 / MSE)``, the MSE over all pixels and channels.

    ``inf`` for identical pictures. Both uint8 (H, W, 3) sRGB. Raises as :func:`require_pair`.
    """
    require_pair(reference, decoded)
    difference = reference.astype(np.int32) - decoded
    # Integers: the sum is exact and independent of the order of summation.
    mse = int(np.sum(difference * difference, dtype=np.int64)) / difference.size
    return math.inf if mse == 0 else 10.0 * math.log10(255.0**2 / mse)


def ms_ssim(reference: RgbArray, decoded: RgbArray) -> float | None:
    """Multi-scale structural similarity, as torchmetrics: 5 scales, 11-tap Gaussian window, float32, RGB.

    The mean over the three colour channels, as TensorFlow and pytorch-msssim extend the grey measure of Wang et al.
    (2003). Negative contrast terms count as 0. At the coarsest scale torchmetrics keeps the reflected border, which
    changes the result against implementations that crop it: on photographs by up to 4.9e-3 (at JPEG
    quality 5). Compare values of one implementation only.

    Both uint8 (H, W, 3) sRGB. In [0, 1], 1 for identical pictures; None if the shorter side is below
    ``MS_SSIM_MIN_SIDE_PX``: the coarsest of the 5 scales would be smaller than the window, and fewer scales are another
    measure. Raises as :func:`require_pair`.
    """
    require_pair(reference, decoded)
    if min(reference.shape[:2]) < MS_SSIM_MIN_SIDE_PX:
        return None
    return ms_ssim_of_scales(scales_of(reference), decoded)


def bpp(num_bytes: int, width: int, height: int) -> float:
    """Bits per pixel of a whole file, for the original's sides in px. Raises ValueError if a value is impossible."""
    if num_bytes < 0 or width < 1 or height < 1:
        raise ValueError(f"bpp: got {num_bytes} bytes for {width} x {height} px, expected a picture's")
    return 8.0 * num_bytes / (width * height)
