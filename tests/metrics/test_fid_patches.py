"""The patch protocol against counts by hand and a double loop."""

from __future__ import annotations

import numpy as np
import pytest

from hfd.errors import ConfigError
from hfd.image.load import RgbArray
from hfd.metrics.patches import fid_patches


def _numbered(height: int, width: int) -> RgbArray:
    """Every pixel tells its row and column, so a misplaced patch shows."""
    row, column = np.mgrid[0:height, 0:width]
    return np.stack([row % 256, column % 256, row // 256 * 16 + column // 256], axis=-1).astype(np.uint8)


def _by_loops(x: RgbArray, patch_px: int) -> list[RgbArray]:
    height, width = x.shape[:2]
    half_px = patch_px // 2
    starts = [0]
    if min(height, width) >= 3 * half_px:
        starts.append(half_px)
    return [
        x[top : top + patch_px, left : left + patch_px]
        for start in starts
        for top in range(start, height - patch_px + 1, patch_px)
        for left in range(start, width - patch_px + 1, patch_px)
    ]


@pytest.mark.parametrize(
    ("height", "width", "patch_px", "num"),
    [
        (256, 256, 256, 1),
        (383, 600, 256, 2),  # one side short of 1.5 patches: no shifted grid
        (384, 384, 256, 2),
        (384, 383, 256, 1),
        (512, 768, 256, 2 * 3 + 1 * 2),
        (512, 768, 128, 4 * 6 + 3 * 5),
        (640, 640, 256, 4 + 4),  # the shifted grid has as many patches as fit, here as many as the first
        (33, 47, 10, 3 * 4 + 2 * 4),
    ],
)
def test_grid_and_shifted_grid(height: int, width: int, patch_px: int, num: int) -> None:
    x = _numbered(height, width)
    got = fid_patches(x, patch_px)
    assert got.shape == (num, patch_px, patch_px, 3)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.stack(_by_loops(x, patch_px)))


@pytest.mark.parametrize("shape", [(255, 256), (256, 255), (10, 10), (1, 3000)])
def test_a_side_below_the_patch_gives_none(shape: tuple[int, int]) -> None:
    assert fid_patches(_numbered(*shape), 256).shape == (0, 256, 256, 3)


def test_patches_are_a_copy() -> None:
    x = _numbered(64, 64)
    fid_patches(x, 32)[...] = 0
    np.testing.assert_array_equal(x, _numbered(64, 64))


@pytest.mark.parametrize("patch_px", [0, -2, 1, 127])
def test_an_odd_or_empty_patch_is_refused(patch_px: int) -> None:
    with pytest.raises(ConfigError, match=f"patch_px: got {patch_px}, expected an even number"):
        fid_patches(_numbered(64, 64), patch_px)


def test_only_rgb_bytes_are_taken() -> None:
    with pytest.raises(ValueError, match="x: got float64"):
        fid_patches(_numbered(64, 64).astype(np.float64), 32)
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
        fid_patches(_numbered(64, 64)[..., :2], 32)
