"""A Wasserstein-like distortion: the distance between the local statistics of two pictures' features.

After the Wasserstein distortion (Qiu et al., arXiv 2310.03629), which compares features as if each neighbourhood were
Gaussian, by local means and local standard deviations. A texture may be replaced by another of the same statistics, so
that the loss does not favour smooth pictures; unlike an adversarial loss it does not change during training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.perceptual.networks import Features

WINDOWS: tuple[tuple[int, ...], ...] = ((8, 16), (4, 8))
"""Sides of the neighbourhoods in each tap of VGG16, in cells of its map: 8 and 16 px of the picture."""

ENERGIES: tuple[float, ...] = (2.2, 7.1)
"""Mean squares of VGG16's two maps over crops of sharp photographs, to two digits (:func:`map_energies`).

They bring both taps to one scale. Energies of each channel in the picture at hand would give most weight to channels
that are almost silent in it, and a training would need about ten times the steps."""

_LEAST_VARIANCE = 1e-6
"""Variance below which a standard deviation has no useful gradient."""


def wasserstein_distortion(
    found: Features,
    wanted: Features,
    windows: Sequence[Sequence[int]] = WINDOWS,
    energies: Sequence[float] = ENERGIES,
) -> Tensor:
    """Return for each picture (B,), float32, at least 0, the mean over taps, window sizes, channels and positions of
    ((difference of local means)^2 + (difference of local standard deviations)^2) / energy of the tap.

    Square windows overlap by half, and their sides are even multiples of half the least; the maps are at least as
    large. ``wanted`` gets no gradient.
    """
    terms = []
    for one, other, sides, energy in zip(found, wanted, windows, energies, strict=True):
        f, g = (_Moments.of(h, min(sides) // 2) for h in (one, other.detach()))
        for side in sides:
            (mean_f, std_f), (mean_g, std_g) = f.statistics(side), g.statistics(side)
            squares = (mean_f - mean_g).square() + (std_f - std_g).square()
            terms.append(squares.mean(dim=(1, 2, 3)) / energy)
    return torch.stack(terms).mean(dim=0)


def map_energies(features: Features) -> tuple[float, ...]:
    """Return the mean square of each map, over pictures, channels and positions."""
    return tuple(float(h.float().square().mean()) for h in features)


@dataclass(frozen=True)
class _Moments:
    """Means of a map and of its square (B, C, H / cell, W / cell) over ``cell`` x ``cell`` positions, computed once;
    windows of all sizes are composed of them."""

    cell: int
    mean: Tensor
    square: Tensor

    @classmethod
    def of(cls, h: Tensor, cell: int) -> _Moments:
        return cls(cell, *cell_means(h, cell))

    def statistics(self, side: int) -> tuple[Tensor, Tensor]:
        """Means and standard deviations in ``side`` x ``side`` windows that overlap by half."""
        step = side // 2 // self.cell
        mean, square = (F.avg_pool2d(x, 2 * step, step) for x in (self.mean, self.square))
        return mean, (square - mean.square()).clamp(min=0.0).add(_LEAST_VARIANCE).sqrt()


def cell_means(h: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Means of a map (B, C, H, W) and of its square over cells, float32 (B, C, H // cell, W // cell)."""
    found: tuple[Tensor, Tensor] = _CellMeans.apply(h, cell)
    return found


class _CellMeans(torch.autograd.Function):
    """Of :func:`cell_means`.

    Autograd's own backward pass of the same two means takes several times as long: it goes over the map once for each
    operation, in float32. This one goes over it three times, in the map's own type.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, cell: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(h)
        ctx.cell = cell
        wide = h.float()
        return F.avg_pool2d(wide, cell), F.avg_pool2d(wide.square(), cell)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (h,) = ctx.saved_tensors
        of_mean, of_square = (_spread(gradient / ctx.cell**2, ctx.cell, h) for gradient in gradients)
        return of_mean.addcmul(h, of_square, value=2.0), None


def _spread(values: Tensor, cell: int, like: Tensor) -> Tensor:
    """Repeat a value per cell over its positions, and zeros over the rest, in the shape and type of ``like``."""
    whole = F.interpolate(values.to(like.dtype), scale_factor=cell, mode="nearest")
    rest = [size - covered for size, covered in zip(like.shape[2:], whole.shape[2:], strict=True)]
    return F.pad(whole, (0, rest[1], 0, rest[0])) if any(rest) else whole
