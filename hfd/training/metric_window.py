"""Losses since the last log, and the check that they are finite and have not exploded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hfd.errors import TrainingError
from hfd.training.workers import Workers

EXPLODED = 100.0
"""Factor over the lowest mean loss at which a training counts as diverged."""

SMALL = 1e-3
"""Lower losses than this do not count as the least: a mean squared error of 0.1 in [-1, 1] is no explosion of another.

Distillation begins with almost none, where the student has the teacher's weights."""

Judge = Callable[[Mapping[str, float]], str | None]
"""The means of a window's losses -> a message about their fault, None if there is none."""


class MetricWindow:
    """Collects losses on the device, so that no step waits for them; means are over all workers."""

    def __init__(self, workers: Workers, now: float, step: int, judge: Judge | None = None) -> None:
        self._workers, self._judge = workers, judge
        self._since, self._step = now, step
        self._rows: list[dict[str, Tensor]] = []
        self._least = math.inf
        self.last: dict[str, float] = {}

    def add(self, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        """Add losses whose mean over the workers is the mean over the global batch."""
        self._rows.append({**losses, "grad_norm": norm.detach()})

    def check(self, step: int, last_good: Callable[[], int | None]) -> None:
        """Check the losses before a log or checkpoint. Raises :class:`TrainingError` on all workers.

        ``last_good`` returns the step of the newest checkpoint.
        """
        if not self._rows:
            return
        means = self._means()
        wrong = None if self._judge is None else self._judge(means)
        if wrong is not None:
            raise TrainingError(f"{wrong} (up to step {step}; last good: {_good(last_good)})")
        # A gradient that is not finite breaks the weights before any loss shows it.
        if not all(math.isfinite(means[name]) for name in ("loss", "grad_norm")):
            problem = "a value or gradient that is not finite"
        elif means["loss"] > EXPLODED * max(self._least, SMALL):
            problem = f"a mean of {means['loss']:.3g}, over {EXPLODED:g} times the least before ({self._least:.3g}),"
        else:
            return
        raise TrainingError(
            f"loss: got {problem} in the {len(self._rows)} steps up to step {step} "
            f"(last good: {_good(last_good)}). "
            "Try a smaller train.lr, a smaller train.grad_clip or train.precision=float32"
        )

    def close(self, step: int, now: float, batch_size: int) -> dict[str, float]:
        """Return the means, with ``samples_per_s``, and begin the next window."""
        values = self._means()
        values["samples_per_s"] = (step - self._step) * batch_size / max(now - self._since, 1e-9)
        self._rows, self._since, self._step, self.last = [], now, step, values
        self._least = min(self._least, values["loss"])
        return values

    def _means(self) -> dict[str, float]:
        names = list(self._rows[0])
        rows = torch.stack([torch.stack([row[name].float() for name in names]) for row in self._rows])
        # A sum of finite numbers of any size stays finite in float64.
        means = self._workers.mean(rows.to("cpu", torch.float64).mean(dim=0))
        return dict(zip(names, means.tolist(), strict=True))


def _good(last_good: Callable[[], int | None]) -> str:
    saved = last_good()
    return f"the checkpoint at step {saved}" if saved is not None else "no checkpoint yet"
