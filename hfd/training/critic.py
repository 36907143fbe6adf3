"""Settings of a critic's training, and the range of losses within which a critic is of use."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hfd.kinds import CriticKind, CriticLoss

CERTAIN = 0.15
"""Margin over the least possible loss below which a critic counts as diverged: it has won, and learns no more."""

RUNAWAY = 3.0
"""Factor over the loss of an untrained critic above which one counts as diverged: it is sure, and wrong."""


@dataclass(frozen=True)
class LossRange:
    """``least``: the loss of a critic that is always right and sure; ``untrained``: of one that cannot tell.

    ``certain``: the margin over ``least``.
    """

    least: float
    untrained: float
    certain: float = CERTAIN

    def problem(self, name: str, mean: float, advice: str) -> str | None:
        """Describe a mean loss over some steps outside of the range, with ``advice``; None within it."""
        lowest = self.least + self.certain
        if lowest <= mean <= RUNAWAY * self.untrained:  # False for NaN
            return None
        return (
            f"{name}: got a mean loss of {mean:.3g}, expected {lowest:.2f} to about {self.untrained:.2f}: it has "
            f"diverged. {advice}"
        )


@dataclass(frozen=True)
class CriticSettings:
    """``weight`` of the adversarial loss beside the others; ``label`` of real pictures, in (1/2, 1], for the
    cross-entropy; ``lr`` at factor 1; ``widths`` of the heads on VGG16's taps; ``steps`` for one of the sampler;
    ``kind``: heads on frozen features, or a network of ``channels`` on pictures."""

    weight: float
    label: float
    lr: float
    widths: tuple[int, ...]
    loss: CriticLoss = "cross-entropy"
    steps: int = 1
    kind: CriticKind = "features"
    channels: tuple[int, ...] = (64, 128, 256, 512)

    @property
    def loss_range(self) -> LossRange:
        """From the entropy of the label, or with hinge from the loss of margins that all hold."""
        if self.loss == "hinge":
            return LossRange(0.0, 2.0)
        rest = 1.0 - self.label
        entropy = -self.label * math.log(self.label) - (rest * math.log(rest) if rest > 0.0 else 0.0)
        return LossRange(entropy, 2.0 * math.log(2.0))
