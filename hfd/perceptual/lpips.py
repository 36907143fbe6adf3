"""LPIPS (Zhang et al., arXiv 1801.03924), version 0.1 with AlexNet: the perceptual distance of two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from hfd.image.load import RgbArray
from hfd.perceptual.inference import features_of
from hfd.perceptual.networks import Features
from hfd.perceptual.weights import read_frozen

LEAST_SIDE_PX = 31
"""Smaller pictures would leave AlexNet's last maps empty."""

_EPSILON = 1e-10


def lpips_of_features(a: Features, b: Features, linear: Sequence[Tensor]) -> Tensor:
    """LPIPS (B,) of the features of two batches: squared differences of maps normalised to unit length per position,
    times ``linear`` (C_i,), averaged over positions and summed over maps."""
    maps = lpips_maps(a, b, linear)
    return torch.stack([distances.mean(dim=(1, 2)) for distances in maps]).sum(dim=0)


def lpips_maps(a: Features, b: Features, linear: Sequence[Tensor]) -> list[Tensor]:
    """The distances before averaging: of each map, at its positions, (B, H_i, W_i) float32."""
    return unit_maps([_unit(one.float()) for one in a], b, linear)


def unit_maps(units: Features, b: Features, linear: Sequence[Tensor]) -> list[Tensor]:
    """:func:`lpips_maps` from the features of the first batch at unit length."""
    maps = []
    for one, other, weight in zip(units, b, linear, strict=True):
        difference = (one - _unit(other.float())).square()
        maps.append((difference * weight.reshape(1, -1, 1, 1)).sum(dim=1))
    return maps


def _unit(h: Tensor) -> Tensor:
    # The square root of zero has no gradient: the epsilon inside gives it one, and changes no value above 1e-10.
    return h / ((h.square().sum(dim=1, keepdim=True) + _EPSILON**2).sqrt() + _EPSILON)


class Lpips(nn.Module):
    """LPIPS of pictures (B, 3, H, W) in [-1, 1], at least 31 px a side: (B,) float32, 0 for equal ones, about 1 for
    unrelated ones."""

    linear: tuple[Tensor, ...]

    def __init__(self) -> None:
        super().__init__()
        self.network, self.linear = read_frozen("alexnet")

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return lpips_of_features(self.network(a), self.network(b), self.linear)


@lru_cache(maxsize=1)
def _lpips() -> Lpips:
    return Lpips()


def lpips(original: RgbArray, decoded: RgbArray) -> float:
    """LPIPS of two pictures, uint8 (H, W, 3) of one size, at least 31 px a side; on the CPU in float32. Lower is
    better."""
    return lpips_of_units(lpips_units(original), decoded)


@torch.no_grad()
def lpips_units(original: RgbArray) -> Features:
    """Return the features of an original at unit length, for any number of its decoded versions: 42 bytes a pixel."""
    return [_unit(one) for one in features_of(_lpips().network, _batch(original))]


@torch.no_grad()
def lpips_of_units(units: Features, decoded: RgbArray) -> float:
    """:func:`lpips` from :func:`lpips_units` of the original."""
    module = _lpips()
    maps = unit_maps(units, features_of(module.network, _batch(decoded)), module.linear)
    return float(torch.stack([distances.mean(dim=(1, 2)) for distances in maps]).sum(dim=0))


def _batch(x: RgbArray) -> Tensor:
    return torch.tensor(x).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1.0
