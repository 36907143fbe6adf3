"""Multi-scale structural similarity, plane by plane; what depends on the original alone is computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.image.load import RgbArray

MIN_SIDE_PX = 176
"""Smallest shorter side: at the coarsest scale it has 11 px, the size of the window."""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, from the finest; the last one is that of the whole similarity (Wang et al. 2003)."""

_SIGMA_PX, _REACH_PX = 1.5, 5
_TAPS = [math.exp(-((offset / _SIGMA_PX) ** 2) / 2.0) for offset in range(-_REACH_PX, _REACH_PX + 1)]
_WINDOW = tuple(tap / sum(_TAPS) for tap in _TAPS)
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True, eq=False)
class Scale:
    """A plane of the original at one scale, float32 (h, w) in [0, 1], with its local ``mean`` and ``variance``."""

    plane: Tensor
    mean: Tensor
    variance: Tensor


Scales = Sequence[Sequence[Scale]]
"""Of each colour channel, from the finest scale."""


@torch.no_grad()
def scales_of(x: RgbArray) -> Scales:
    """Prepare an original, uint8 (H, W, 3), sides of at least ``MIN_SIDE_PX``: about 48 bytes a pixel."""
    return [[_scale(plane) for plane in _pyramid(x, channel)] for channel in range(3)]


@torch.no_grad()
def ms_ssim_of_scales(original: Scales, decoded: RgbArray) -> float:
    """Return the measure of :func:`hfd.metrics.distortion.ms_ssim` for a decoded version, uint8 (H, W, 3)."""
    values: list[float] = []
    for channel, scales in enumerate(original):
        terms = [
            _compare(scale, plane, last=index == len(WEIGHTS) - 1)
            for index, (scale, plane) in enumerate(zip(scales, _pyramid(decoded, channel), strict=True))
        ]
        values.append(math.prod(max(term, 0.0) ** weight for term, weight in zip(terms, WEIGHTS, strict=True)))
    return sum(values) / len(values)


def _pyramid(x: RgbArray, channel: int) -> list[Tensor]:
    plane = torch.from_numpy(np.ascontiguousarray(x[:, :, channel])).to(torch.float32) / 255.0
    planes = [plane]
    while len(planes) < len(WEIGHTS):
        planes.append(F.avg_pool2d(planes[-1][None, None], 2)[0, 0])
    # torchmetrics keeps the reflected border in the whole similarity, that of the coarsest scale.
    planes[-1] = F.pad(planes[-1][None, None], (_REACH_PX,) * 4, mode="reflect")[0, 0]
    return planes


def _scale(plane: Tensor) -> Scale:
    mean = _blurred(plane)
    return Scale(plane, mean, (_blurred(plane.square()) - mean.square()).clamp_(min=0.0))


def _compare(scale: Scale, plane: Tensor, *, last: bool) -> float:
    """Return the mean contrast of a plane or, at the last scale, its mean similarity."""
    other = _scale(plane)
    product = scale.mean * other.mean
    upper = (_blurred(scale.plane * plane) - product) * 2.0 + _C2
    found = upper / (scale.variance + other.variance + _C2)
    if last:
        found *= (2.0 * product + _C1) / (scale.mean.square() + other.mean.square() + _C1)
    return float(found.mean())


def _blurred(x: Tensor) -> Tensor:
    """Weight with the window, 11 px a side: (h, w) -> (h - 10, w - 10). One direction after the other."""
    for axis in (1, 0):
        length = x.shape[axis] - 2 * _REACH_PX
        total = x.narrow(axis, _REACH_PX, length) * _WINDOW[_REACH_PX]
        for start, tap in enumerate(_WINDOW):
            if start != _REACH_PX:
                total.add_(x.narrow(axis, start, length), alpha=tap)
        x = total
    return x
