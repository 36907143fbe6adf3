"""Power-function averages of the weights, and averages of other widths computed from their snapshots.

EDM2 (Karras et al., arXiv 2312.02696), section 3 and appendix C. An average of exponent g after t steps weighs step
tau by (g + 1) tau^g / t^(g + 1); its width, as a share of t, is ``sigma_rel``. Snapshots of two averages from a
training approximate an average of any width by least squares, so that the width is chosen after training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@functools.cache
def exponent_of(sigma_rel: float) -> float:
    """Solve sigma_rel^2 = (g + 1) / ((g + 2)^2 (g + 3)) for the exponent g.

    ``sigma_rel`` is in (0, 0.28]; 0.2887 (g = 0) is the mean of all steps.
    """
    a = sigma_rel**-2.0
    return float(np.roots([1.0, 7.0, 16.0 - a, 12.0 - a]).real.max())


class PowerEma:
    """One average per width: average <- b average + (1 - b) weights, b = (1 - 1/t)^(g + 1), at the t-th update.

    Holds float32 copies on the weights' device and updates each average in one fused call.
    """

    def __init__(self, parameters: Sequence[Tensor], sigma_rels: Sequence[float]) -> None:
        self._parameters = [parameter.detach() for parameter in parameters]
        self.averages = {sigma_rel: [value.clone().float() for value in self._parameters] for sigma_rel in sigma_rels}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after step ``step``, counted from 0."""
        for sigma_rel, average in self.averages.items():
            keep = (1.0 - 1.0 / (step + 1)) ** (exponent_of(sigma_rel) + 1.0)
            torch._foreach_lerp_(average, self._parameters, 1.0 - keep)

    def state(self) -> dict[str, list[Tensor]]:
        return {repr(sigma_rel): [value.clone() for value in average] for sigma_rel, average in self.averages.items()}

    def load(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        for sigma_rel, average in self.averages.items():
            for value, saved in zip(average, state[repr(sigma_rel)], strict=True):
                value.copy_(saved)


@dataclass(frozen=True)
class Profile:
    """An average of width ``sigma_rel`` after ``step`` updates."""

    step: int
    sigma_rel: float


def combine(snapshots: Sequence[Profile], wanted: Profile) -> list[float]:
    """Factors, of sum 1, of the combination of snapshots nearest to ``wanted`` in the L2 norm of the profiles.

    ``wanted.step`` is at most the last snapshot's. Exact if ``wanted`` is one of the snapshots. EDM2 leaves the sum
    free; with few snapshots that scales all weights: by 6 % with 8 of each average and a width of 0.25.
    """
    gram = np.array([[_inner(a, b) for b in snapshots] for a in snapshots])
    # Snapshots of a long run are nearly dependent; the pseudo-inverse drops directions below float64 rounding.
    inverse = np.linalg.pinv(gram, rcond=1e-12)
    free, ones = inverse @ [_inner(a, wanted) for a in snapshots], inverse.sum(axis=1)
    return [float(value) for value in free + ones * (1.0 - free.sum()) / ones.sum()]


def _inner(a: Profile, b: Profile) -> float:
    """The integral of p_a(tau) p_b(tau) over their common steps."""
    g, h = exponent_of(a.sigma_rel), exponent_of(b.sigma_rel)
    ratio_a, ratio_b = min(1.0, b.step / a.step), min(1.0, a.step / b.step)
    shared = min(a.step, b.step)
    overlap: float = ratio_a ** (g + 1.0) * ratio_b ** (h + 1.0) / shared
    return (g + 1.0) * (h + 1.0) / (g + h + 1.0) * overlap
