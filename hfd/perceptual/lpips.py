"""LPIPS (Zhang et al., arXiv 1801.03924), version 0.1, of features and, with AlexNet, of pictures, with gradients.

:mod:`hfd.perceptual.alexnet` and :mod:`hfd.perceptual.vgg16` have the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hfd.perceptual.networks import Features
from hfd.perceptual.weights import read_frozen

_EPSILON = 1e-10


def lpips_of_features(a: Features, b: Features, linear: Sequence[Tensor]) -> Tensor:
    """LPIPS (B,) of the features of two batches: squared differences of maps normalised to unit length per position,
    times ``linear`` (C_i,), averaged over positions and summed over maps."""
    means = []
    for one, other, weight in zip(a, b, linear, strict=True):
        difference = (_unit(one.float()) - _unit(other.float())).square()
        means.append((difference * weight.reshape(1, -1, 1, 1)).sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(means).sum(dim=0)


def _unit(h: Tensor) -> Tensor:
    return h / lengths(h, dim=1)


def lengths(h: Tensor, dim: int) -> Tensor:
    """Lengths of the vectors along a dimension, which stays with size 1; above 0."""
    # The square root of zero has no gradient: the epsilon inside gives it one, and changes no value above 1e-10.
    return (h.square().sum(dim=dim, keepdim=True) + _EPSILON**2).sqrt() + _EPSILON


class Lpips(nn.Module):
    """LPIPS of pictures (B, 3, H, W) in [-1, 1], at least 31 px a side: (B,) float32, 0 for equal ones, about 1 for
    unrelated ones."""

    linear: tuple[Tensor, ...]

    def __init__(self) -> None:
        super().__init__()
        self.network, self.linear = read_frozen("alexnet")

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return lpips_of_features(self.network(a), self.network(b), self.linear)
