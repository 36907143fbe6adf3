"""LPIPS's distances of maps for metrics: from the maps of an original at unit length, with few passes over memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hfd.perceptual.lpips import lengths

_CHUNK_VALUES = 2**19
"""Values of a map at a time: temporary values stay small, and in the processor's cache."""


@dataclass(frozen=True, eq=False)
class LinearTap:
    """LPIPS's weights of one tap that are not zero, (K,), and their channels; None: all of them."""

    weights: Tensor
    channels: Tensor | None

    @classmethod
    def of(cls, weights: Tensor) -> LinearTap:
        channels = torch.nonzero(weights).flatten()
        return cls(weights, None) if len(channels) == len(weights) else cls(weights[channels], channels)

    def unit(self, h: Tensor) -> Tensor:
        """A map (1, C, H, W) at unit length per position, of the channels that count, (K, H * W)."""
        return torch.cat([self._unit(part) for part in _parts(h)], dim=1)

    def total(self, unit: Tensor, h: Tensor) -> float:
        """Sum over positions of the distances of another map from the one of :meth:`unit`."""
        total, start = 0.0, 0
        for part in _parts(h):
            own = self._unit(part)
            squares = own.sub_(unit[:, start : start + own.shape[1]]).square_()
            total += float((self.weights @ squares).double().sum())
            start += own.shape[1]
        return total

    def _unit(self, part: Tensor) -> Tensor:
        scale = 1.0 / lengths(part, dim=0)
        return (part if self.channels is None else part.index_select(0, self.channels)) * scale


class MeanDistances:
    """Adds up the distances of each tap over the bands of a picture."""

    def __init__(self, linear: Sequence[LinearTap]) -> None:
        self._linear = linear
        self._totals, self._counts = [0.0] * len(linear), [0] * len(linear)

    def add(self, tap: int, unit: Tensor, h: Tensor) -> None:
        self._totals[tap] += self._linear[tap].total(unit, h)
        self._counts[tap] += unit.shape[1]

    def lpips(self) -> float:
        """The sum over taps of the means over positions."""
        return sum(total / count for total, count in zip(self._totals, self._counts, strict=True))


def _parts(h: Tensor) -> list[Tensor]:
    flat = h[0].flatten(1)
    size = max(1, _CHUNK_VALUES // flat.shape[0])
    return [flat[:, start : start + size] for start in range(0, flat.shape[1], size)]
