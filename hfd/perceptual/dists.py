"""DISTS (Ding et al., arXiv 2004.07728): structure and texture similarity of two pictures' VGG16 features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.perceptual.networks import Features

_C = 1e-6
"""Added to numerators and denominators of both similarities."""

_HANN = (0.25, 0.5, 0.25)


def l2_pool(h: Tensor, window: tuple[int, int]) -> Tensor:
    """DISTS's pooling, without aliasing: the root of the Hann-weighted mean of squares in 3 x 3 cells, by the stride of
    ``window``."""
    channels = h.shape[1]
    along = h.new_tensor(_HANN)
    kernel = torch.outer(along, along).expand(channels, 1, 3, 3)
    return (F.conv2d(h.square(), kernel, stride=window[1], padding=1, groups=channels) + 1e-12).sqrt()


@dataclass(frozen=True)
class JointSums:
    """Sums over positions of a map of two pictures, x and y: x, y, x^2, y^2 and xy, (5, C) float64, over ``count``."""

    sums: Tensor
    count: int

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> JointSums:
        """Of maps (1, C, H, W)."""
        x, y = x.double(), y.double()
        products = (x, y, x.square(), y.square(), x * y)
        return cls(torch.stack([one.sum(dim=(0, 2, 3)) for one in products]), x.shape[2] * x.shape[3])

    def __add__(self, other: JointSums) -> JointSums:
        return JointSums(self.sums + other.sums, self.count + other.count)

    def similarities(self) -> tuple[Tensor, Tensor]:
        """Texture, of the means, and structure, of the covariance, (C,) each."""
        mean_x, mean_y, square_x, square_y, product = self.sums / self.count
        spreads = square_x - mean_x.square() + square_y - mean_y.square()
        texture = (2.0 * mean_x * mean_y + _C) / (mean_x.square() + mean_y.square() + _C)
        return texture, (2.0 * (product - mean_x * mean_y) + _C) / (spreads + _C)


def joint_sums(x: Tensor, y: Tensor, of_x: Features, of_y: Features) -> list[JointSums]:
    """Of pictures (1, 3, H, W) in [0, 1], which count as the first map, and of their features."""
    return [JointSums.of(one, other) for one, other in zip([x, *of_x], [y, *of_y], strict=True)]


def dists_of_sums(sums: Sequence[JointSums], alpha: Tensor, beta: Tensor) -> float:
    """1 - the weighted mean of the similarities of all channels; ``alpha``, ``beta``: of texture and structure, of the
    channels of all maps one after another."""
    texture, structure = (torch.cat(parts) for parts in zip(*(one.similarities() for one in sums), strict=True))
    weighted = (alpha.double() * texture + beta.double() * structure).sum()
    return float(1.0 - weighted / (alpha.double().sum() + beta.double().sum()))
