"""The patch protocol against counts by hand and a double loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hfd.errors import ConfigError
from hfd.image.load import RgbArray
from hfd.metrics.frechet import GaussianStats, frechet_distance
from hfd.metrics.patches import fid_patches
from tests.support.pictures import photograph


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


def unfolded(x: RgbArray, patch_px: int) -> RgbArray:
    """The patches of NeuralCompression's ``update_patch_fid``: pictures in [0, 1], unfolded, back to uint8."""
    picture = torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 255.0

    def grid(part: torch.Tensor) -> torch.Tensor:
        columns = torch.nn.functional.unfold(part, kernel_size=patch_px, stride=patch_px)
        return columns.permute(0, 2, 1).reshape(-1, 3, patch_px, patch_px)

    grids = [grid(picture)]
    if min(x.shape[:2]) >= 1.5 * patch_px:
        grids.append(grid(picture[:, :, patch_px // 2 :, patch_px // 2 :]))
    scaled = torch.cat(grids).mul(255.0).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("shape", [(512, 768), (768, 512), (300, 520), (383, 640), (384, 384), (1100, 700)])
def test_patches_are_those_of_neural_compression(shape: tuple[int, int]) -> None:
    x = photograph(*shape)
    np.testing.assert_array_equal(fid_patches(x, 256), unfolded(x, 256))


def test_fid_of_our_patches_is_that_of_neural_compression() -> None:
    """The same features of both patch sets, and torch-fidelity's distance, which NeuralCompression calls."""
    from torch_fidelity import metric_fid

    def features(patches: RgbArray) -> npt.NDArray[np.float64]:
        """Means of 4 x 4 cells, 48 for a patch."""
        return patches.reshape(len(patches), 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(len(patches), -1)

    originals = [photograph(160, 208, seed=seed) for seed in range(6)]
    decoded = [(x // 16 * 16).astype(np.uint8) for x in originals]
    theirs = [np.concatenate([features(unfolded(x, 32)) for x in side]) for side in (originals, decoded)]
    stats = [metric_fid.fid_features_to_statistics(torch.from_numpy(one)) for one in theirs]
    expected = metric_fid.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    sums = [
        sum(
            (GaussianStats.of(features(fid_patches(x, 32))) for x in side[1:]),
            GaussianStats.of(features(fid_patches(side[0], 32))),
        )
        for side in (originals, decoded)
    ]
    assert frechet_distance(*sums) == pytest.approx(expected, rel=1e-6)
