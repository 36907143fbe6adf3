"""DISTS (Ding et al., arXiv 2004.07728): structure and texture similarity of two pictures' VGG16 features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_C = 1e-6
"""Added to numerators and denominators of both similarities."""

_HANN = (0.25, 0.5, 0.25)

_CHUNK_CHANNELS = 4
"""Channels that are float64 at a time."""


def l2_pool(h: Tensor, window: tuple[int, int], rows: int = 1) -> Tensor:
    """DISTS's pooling, without aliasing: the root of the Hann-weighted mean of squares in 3 x 3 cells, by the stride of
    ``window``. ``rows``: of zeros, added above and below."""
    channels = h.shape[1]
    along = h.new_tensor(_HANN)
    kernel = torch.outer(along, along).expand(channels, 1, 3, 3)
    pooled = F.conv2d(h.square(), kernel, stride=window[1], padding=(rows, 1), groups=channels)
    return pooled.add_(1e-12).sqrt_()


@dataclass(frozen=True, eq=False)
class DistsMap:
    """DISTS's weights of the C channels of one map, ``alpha`` (C,) of texture and, where they are not zero, ``beta``
    (K,) of structure; ``channels``: their numbers."""

    alpha: Tensor
    beta: Tensor
    channels: Tensor

    @classmethod
    def of(cls, alpha: Tensor, beta: Tensor) -> DistsMap:
        channels = torch.nonzero(beta).flatten()
        return cls(alpha.double(), beta.double()[channels], channels)

    def view(self, h: Tensor) -> MapOfOne:
        """Prepare a map (1, C, H, W)."""
        h = h[0].flatten(1)
        sums = [part.double().sum(dim=1) for part in _chunks(h)]
        kept = h.index_select(0, self.channels)
        squares = [part.double().square().sum(dim=1) for part in _chunks(kept)]
        return MapOfOne(kept, torch.cat(sums), torch.cat(squares) if squares else h.new_zeros(0).double())


@dataclass(frozen=True, eq=False)
class MapOfOne:
    """A map of one picture: ``kept``: the channels whose structure counts, float32 (K, H * W); sums over positions, of
    all channels (C,), and of the squares of those kept (K,), float64."""

    kept: Tensor
    sums: Tensor
    squares: Tensor

    def products(self, other: MapOfOne) -> Tensor:
        """Sums of products with the map of another picture, (K,) float64."""
        pairs = zip(_chunks(self.kept), _chunks(other.kept), strict=True)
        found = [(one.double() * two.double()).sum(dim=1) for one, two in pairs]
        return torch.cat(found) if found else self.squares


@dataclass(frozen=True, eq=False)
class JointSums:
    """Sums over ``count`` positions of a map of two pictures, x and y, float64: of both (2, C), and of x^2, y^2 and xy
    (3, K)."""

    sums: Tensor
    products: Tensor
    count: int

    @classmethod
    def nothing(cls, weights: DistsMap) -> JointSums:
        """Of no positions."""
        return cls(torch.zeros(2, len(weights.alpha)).double(), torch.zeros(3, len(weights.beta)).double(), 0)

    @classmethod
    def of(cls, x: MapOfOne, y: MapOfOne) -> JointSums:
        products = torch.stack([x.squares, y.squares, x.products(y)])
        return cls(torch.stack([x.sums, y.sums]), products, x.kept.shape[1])

    def __add__(self, other: JointSums) -> JointSums:
        return JointSums(self.sums + other.sums, self.products + other.products, self.count + other.count)

    def weighted(self, weights: DistsMap) -> float:
        """Similarities of the means, texture, and by the covariance, structure: the sum over channels by weight."""
        mean_x, mean_y = self.sums / self.count
        texture = (2.0 * mean_x * mean_y + _C) / (mean_x.square() + mean_y.square() + _C)
        mean_x, mean_y = mean_x[weights.channels], mean_y[weights.channels]
        square_x, square_y, product = self.products / self.count
        spreads = square_x - mean_x.square() + square_y - mean_y.square()
        structure = (2.0 * (product - mean_x * mean_y) + _C) / (spreads + _C)
        return float((weights.alpha * texture).sum() + (weights.beta * structure).sum())


def _chunks(h: Tensor) -> list[Tensor]:
    return [h[start : start + _CHUNK_CHANNELS] for start in range(0, len(h), _CHUNK_CHANNELS)]


def dists_of_sums(sums: Sequence[JointSums], weights: Sequence[DistsMap]) -> float:
    """1 - the weighted mean of the similarities of all channels of all maps, of which the first is the picture's."""
    total = sum(float(one.alpha.sum() + one.beta.sum()) for one in weights)
    return 1.0 - sum(one.weighted(own) for one, own in zip(sums, weights, strict=True)) / total
