"""LPIPS with AlexNet as a metric of pictures of any size: in bands of rows, exactly."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hfd.image.load import RgbArray
from hfd.perceptual.inference import Layers, bands_of, for_inference, normalised
from hfd.perceptual.networks import FrozenFeatures
from hfd.perceptual.unit_distances import LinearTap, MeanDistances
from hfd.perceptual.weights import read_frozen

LEAST_SIDE_PX = 31
"""Smaller pictures would leave AlexNet's last maps empty."""

BAND_PIXELS = 2**19
"""Pixels of a band: about 150 MB."""

BandUnits = list[Tensor | None]
"""Of each tap, the rows that a band of the original completes, as :meth:`LinearTap.unit`; None: none."""


@dataclass(frozen=True, eq=False)
class _Lpips:
    network: FrozenFeatures
    linear: tuple[LinearTap, ...]

    def taps(self, x: RgbArray, band_pixels: int) -> Iterator[list[Tensor | None]]:
        layers = Layers(self.network.layers, list(self.network.convs))
        bands = bands_of(x.shape[0], x.shape[1], band_pixels)
        for rows in bands:
            yield list(layers(normalised(self.network, x[rows]), last=rows is bands[-1]))


@lru_cache(maxsize=1)
def _lpips() -> _Lpips:
    network, linear = read_frozen("alexnet")
    return _Lpips(for_inference(copy.deepcopy(network)), tuple(LinearTap.of(weights) for weights in linear))


def lpips(original: RgbArray, decoded: RgbArray, *, band_pixels: int = BAND_PIXELS) -> float:
    """LPIPS of two pictures, uint8 (H, W, 3) of one size, at least 31 px a side; on the CPU in float32. Lower is
    better."""
    return lpips_of_units(lpips_units(original, band_pixels=band_pixels), decoded, band_pixels=band_pixels)


@torch.no_grad()
def lpips_units(original: RgbArray, *, band_pixels: int = BAND_PIXELS) -> Iterator[BandUnits]:
    """Yield the features of an original at unit length, by bands; in a list, for any number of its decoded versions:
    29 bytes a pixel."""
    module = _lpips()
    for maps in module.taps(original, band_pixels):
        yield [None if h is None else tap.unit(h) for tap, h in zip(module.linear, maps, strict=True)]


@torch.no_grad()
def lpips_of_units(units: Iterable[BandUnits], decoded: RgbArray, *, band_pixels: int = BAND_PIXELS) -> float:
    """:func:`lpips` from :func:`lpips_units` of the original, with the same bands."""
    module = _lpips()
    distances = MeanDistances(module.linear)
    for own, maps in zip(units, module.taps(decoded, band_pixels), strict=True):
        for index, (unit, h) in enumerate(zip(own, maps, strict=True)):
            if unit is not None and h is not None:
                distances.add(index, unit, h)
    return distances.lpips()
