"""How far the decoded pixels are from the reference: PSNR and MS-SSIM, and the rate that was paid."""

from __future__ import annotations

import math

import numpy as np
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from hfd.image.load import RgbArray

MS_SSIM_MIN_SIDE_PX = 176
"""The shorter side that `ms_ssim` needs: torchmetrics asks for ``side // 16 > 10`` (5 scales, 11 taps)."""


def require_pair(reference: RgbArray, decoded: RgbArray) -> None:
    """Check that two pictures can be compared pixel by pixel.

    Raises:
        ValueError: one is not uint8 (H, W, 3) with H, W > 0, or their shapes differ.
    """
    for name, x in (("reference", reference), ("decoded", decoded)):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3 or x.size == 0:
            raise ValueError(f"{name}: got {x.dtype} {x.shape}, expected uint8 (H, W, 3)")
    if reference.shape != decoded.shape:
        raise ValueError(f"decoded: got {decoded.shape}, expected {reference.shape} as the reference")


def psnr(reference: RgbArray, decoded: RgbArray) -> float:
    """Peak signal-to-noise ratio in dB: ``10 log10(255^2 / MSE)``, the MSE over all pixels and channels.

    Args:
        reference: uint8 (H, W, 3) sRGB.
        decoded: as the reference.

    Returns:
        dB; ``inf`` for identical pictures.

    Raises:
        ValueError: see `require_pair`.
    """
    require_pair(reference, decoded)
    difference = reference.astype(np.int32) - decoded
    # Integers up to the mean: the sum is exact, so the result does not depend on the order of summation.
    mse = int(np.sum(difference * difference, dtype=np.int64)) / difference.size
    return math.inf if mse == 0 else 10.0 * math.log10(255.0**2 / mse)


def ms_ssim(reference: RgbArray, decoded: RgbArray) -> float | None:
    """Multi-scale structural similarity by torchmetrics: 5 scales, 11-tap Gaussian window, float32, RGB.

    Each colour channel is measured alone and the three results are averaged, as Wang et al.'s (2003) grey
    measure is carried over to colour by TensorFlow and pytorch-msssim. Negative contrast terms count as 0.
    At the coarsest scale torchmetrics keeps the reflected border, which moves the result by about 2e-4 on
    768 x 512 px photographs against implementations that crop it.

    Args:
        reference: uint8 (H, W, 3) sRGB.
        decoded: as the reference.

    Returns:
        In [0, 1], 1 for identical pictures. None where the shorter side is below `MS_SSIM_MIN_SIDE_PX`: the
        coarsest of the 5 scales would be smaller than the window, and fewer scales are another measure.

    Raises:
        ValueError: see `require_pair`.
    """
    require_pair(reference, decoded)
    if min(reference.shape[:2]) < MS_SSIM_MIN_SIDE_PX:
        return None
    # torchmetrics averages the channels of one image per scale, before the product: a batch keeps them apart.
    channels = [
        torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))[:, None]).to(torch.float32) / 255.0
        for x in (decoded, reference)
    ]
    with torch.inference_mode():
        per_channel = multiscale_structural_similarity_index_measure(
            channels[0], channels[1], data_range=1.0, reduction="none", normalize="relu"
        )
    return float(per_channel.mean())


def bpp(num_bytes: int, width: int, height: int) -> float:
    """Bits per pixel of a finished file, header included.

    Args:
        num_bytes: the length of the whole file.
        width: of the original picture, px.
        height: of the original picture, px.

    Raises:
        ValueError: a negative length or a side below 1.
    """
    if num_bytes < 0 or width < 1 or height < 1:
        raise ValueError(f"bpp: got {num_bytes} bytes for {width} x {height} px, expected a picture's")
    return 8.0 * num_bytes / (width * height)
