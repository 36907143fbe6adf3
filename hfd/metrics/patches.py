"""Patches of pictures for Frechet and kernel distances: the FID/256 protocol, for any patch size."""

from __future__ import annotations

import numpy as np

from hfd.errors import ConfigError
from hfd.image.load import RgbArray


def fid_patches(x: RgbArray, patch_px: int) -> RgbArray:
    """Cut a picture into a grid of patches, and the same grid shifted by half a patch.

    First the non-overlapping patches from the top left corner, then, if both sides reach ``1.5 patch_px``, those of the
    grid that begins at ``(patch_px / 2, patch_px / 2)``; each row by row. The rest at the right and bottom is dropped.
    Source: FID/256 of HiFiC, with ``patch_px`` 256.

    From uint8 (H, W, 3) sRGB. Returns uint8 (P, patch_px, patch_px, 3), a copy; P is 0 if a side is below ``patch_px``.

    Raises:
        ConfigError: ``patch_px`` is odd or below 2.
        ValueError: ``x`` is not uint8 (H, W, 3).
    """
    if patch_px < 2 or patch_px % 2:
        raise ConfigError(f"patch_px: got {patch_px}, expected an even number. Choose 256, 128 or 64.")
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
        raise ValueError(f"x: got {x.dtype} {x.shape}, expected uint8 (H, W, 3)")
    half_px = patch_px // 2
    # If a side is below 1.5 patch_px, the shifted grid has no whole patch.
    return np.concatenate([_grid(x, patch_px), _grid(x[half_px:, half_px:], patch_px)])


def _grid(x: RgbArray, patch_px: int) -> RgbArray:
    rows, columns = x.shape[0] // patch_px, x.shape[1] // patch_px
    whole = x[: rows * patch_px, : columns * patch_px]
    cells = whole.reshape(rows, patch_px, columns, patch_px, 3).swapaxes(1, 2)
    return cells.reshape(rows * columns, patch_px, patch_px, 3)
