"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Ema:
    """average <- d average + (1 - d) weights, d = min(decay, (1 + step) / (10 + step)) so that it starts quickly.

    Holds float32 copies on the weights' device; updates all of them in one fused call.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._parameters = [parameter.detach() for parameter in parameters]
        self._decay = decay
        self.averages = [parameter.clone().float() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        torch._foreach_lerp_(self.averages, self._parameters, 1.0 - decay)

    def load(self, averages: Sequence[Tensor]) -> None:
        for average, value in zip(self.averages, averages, strict=True):
            average.copy_(value)
