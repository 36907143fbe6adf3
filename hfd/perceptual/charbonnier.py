"""The Charbonnier distance of pictures: an absolute error that is smooth at zero."""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-3
"""Error below which the distance is quadratic, as in LapSRN (Lai et al., arXiv 1704.03915)."""


def charbonnier(a: Tensor, b: Tensor) -> Tensor:
    """Mean over colours and pixels of sqrt((a - b)^2 + EPSILON^2), less EPSILON, (B,), for pictures (B, 3, H, W)."""
    distances: Tensor = ((a - b).square() + EPSILON**2).sqrt().mean(dim=(1, 2, 3)) - EPSILON
    return distances
