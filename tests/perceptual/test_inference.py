"""Features of frozen networks for metrics, against the networks' own forward passes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from hfd.perceptual import inference
from hfd.perceptual.alexnet import lpips_units
from hfd.perceptual.dists import l2_pool
from hfd.perceptual.inference import GRID_PX, MAX_POOL, Layers, RowPool, bands_of, normalised
from hfd.perceptual.networks import Features, FrozenFeatures
from hfd.perceptual.vgg16 import L2_POOL, build_vgg16
from hfd.perceptual.weights import read_frozen
from tests.support.vgg16 import random_vgg16

TOLERANCE = 1e-5
needs_nnpack = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this torch has no NNPACK")


def alexnet() -> FrozenFeatures:
    return read_frozen("alexnet")[0]


def vgg16() -> FrozenFeatures:
    return build_vgg16(random_vgg16(), "where").network


def picture(height: int, width: int) -> torch.Tensor:
    return 2.0 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) - 1.0


@torch.no_grad()
def features_of(network: FrozenFeatures, x: torch.Tensor, pool: RowPool = MAX_POOL) -> Features:
    """Of a whole picture (1, 3, H, W) in [-1, 1]."""
    taps = Layers(network.layers, list(network.convs), pool)((x - network.mean) / network.std, last=True)
    return [tap for tap in taps if tap is not None]


def differences(found: Features, expected: Features) -> list[float]:
    """Of each map, relative to its norm."""
    assert [one.shape for one in found] == [one.shape for one in expected]
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(31, 31), (64, 97), (130, 75)])
def test_features_are_those_of_alexnet(height: int, width: int) -> None:
    x = picture(height, width)
    assert max(differences(features_of(alexnet(), x), alexnet()(x))) < TOLERANCE


@torch.no_grad()
def test_features_are_those_of_vgg16_with_either_pooling() -> None:
    x, network = picture(37, 50), vgg16()
    assert max(differences(features_of(network, x), network(x))) < TOLERANCE
    assert max(differences(features_of(network, x, L2_POOL), network(x, l2_pool))) < TOLERANCE


@torch.no_grad()
@needs_nnpack
def test_the_transforms_are_used() -> None:
    """Their rounding is another than that of direct sums."""
    x = picture(64, 64)
    assert max(differences(features_of(alexnet(), x), alexnet()(x))) > 0.0


@torch.no_grad()
def test_without_nnpack_they_are_the_networks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "has_nnpack", lambda: False)
    x = picture(64, 64)
    assert max(differences(features_of(alexnet(), x), alexnet()(x))) == 0.0


SIZES = [(31, 33), (64, 97), (131, 77), (200, 333), (97, 64)]


def in_bands(network: FrozenFeatures, x: np.ndarray, band_pixels: int, pool: RowPool) -> Features:
    bands, layers = bands_of(x.shape[0], x.shape[1], band_pixels), Layers(network.layers, list(network.convs), pool)
    maps: list[list[torch.Tensor]] = [[] for _ in network.widths]
    for rows in bands:
        for own, rows_of_tap in zip(maps, layers(normalised(network, x[rows]), last=rows is bands[-1]), strict=True):
            if rows_of_tap is not None:
                own.append(rows_of_tap)
    return [torch.cat(own, dim=2) for own in maps]


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("band_pixels", [1, 5000, 15000])
def test_bands_have_each_position_of_the_whole_picture_once(height: int, width: int, band_pixels: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = torch.tensor(x).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    network = alexnet()
    assert max(differences(in_bands(network, x, band_pixels, MAX_POOL), network(whole))) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("band_pixels", [1, 3500])
def test_bands_of_vgg16_with_either_pooling(band_pixels: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (77, 53, 3), dtype=np.uint8)
    whole = torch.tensor(x).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    network = vgg16()
    assert max(differences(in_bands(network, x, band_pixels, MAX_POOL), network(whole))) < TOLERANCE
    assert max(differences(in_bands(network, x, band_pixels, L2_POOL), network(whole, l2_pool))) < TOLERANCE


@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 5), (4000, 6000), (16, 65535), (40000, 20)])
@pytest.mark.parametrize("band_pixels", [1, 5000, 2**19])
def test_bands_cover_every_row_once_and_are_bounded(height: int, width: int, band_pixels: int) -> None:
    bands = bands_of(height, width, band_pixels)
    assert [row for rows in bands for row in range(height)[rows]] == list(range(height))
    most = max(rows.stop - rows.start for rows in bands)
    assert most <= GRID_PX or most * width <= band_pixels


def test_they_have_no_gradient() -> None:
    (units,) = lpips_units(np.zeros((64, 64, 3), np.uint8))
    assert [one is None or one.requires_grad for one in units] == [False] * 5


@needs_nnpack
@pytest.mark.integration
def test_a_fresh_process_prepares_nnpack_first() -> None:
    """Other tests have prepared it in this one."""
    code = (
        "import numpy as np\nfrom hfd.perceptual.alexnet import lpips\n"
        "x = np.zeros((64, 64, 3), np.uint8)\nprint(lpips(x, x))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0.0\n", done.stderr
