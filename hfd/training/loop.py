"""The training loop of both stages."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hfd.errors import TrainingError
from hfd.training.checkpoint import Checkpoints

CALIBRATION_STEPS = 20

EXPLODED = 100.0
"""A mean loss this many times the least one before has left what it had learned."""


class Task(Protocol):
    """What is trained: networks, optimisers and a loss. State lives here, the loop only drives it."""

    def losses(self, batch: Tensor, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars of one batch (b, pictures, 3, h, w) float32 in [0, 1]; ``"loss"`` is minimised."""

    def update(self, losses: Mapping[str, Tensor], *, step: int, lr_factor: float) -> Tensor:
        """Backward pass and optimiser step; returns the gradient norm before clipping."""

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...


class Loader(Protocol):
    """Endless batches from a global sample position on."""

    def batches(self, start: int = 0) -> Iterator[npt.NDArray[np.uint8]]: ...


@dataclass(frozen=True)
class LoopSettings:
    """``steps`` or ``budget_s``: exactly one is given. ``batch_size`` is global; ``world`` is the number of workers."""

    steps: int | None
    budget_s: float | None
    batch_size: int
    lr_final: float
    lr_decay_share: float
    warmup_steps: int
    checkpoint_every_s: float
    log_every_steps: int
    seed: int
    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class Listener:
    """Callbacks, all on rank 0: ``on_metrics(step, values)`` every so many steps, ``on_step(step, planned)``.

    ``planned`` is None until a wall-time budget has become a number of steps; at the last step it is known.
    """

    on_metrics: Callable[[int, dict[str, float]], None] = lambda _step, _values: None
    on_step: Callable[[int, int | None], None] = lambda _step, _planned: None


@dataclass(frozen=True)
class TrainResult:
    """``steps`` in all, ``steps_here`` since the last resume in ``seconds_here``; ``metrics`` of the last window."""

    steps: int
    steps_here: int
    seconds_here: float
    metrics: dict[str, float]


def train(
    task: Task,
    loader: Loader,
    settings: LoopSettings,
    checkpoints: Checkpoints,
    listener: Listener,
    device: torch.device,
) -> TrainResult:
    """Train until the budget is spent, from the newest checkpoint if there is one.

    A wall-time budget becomes a number of steps once, from the speed of the first ``CALIBRATION_STEPS``,
    and is written down in a checkpoint at that moment: from then on a run that is killed and resumed ends
    with the same weights as one that was not. Raises :class:`TrainingError` on a loss that is not finite or that
    has exploded.
    """
    step, planned = 0, settings.steps
    found = checkpoints.latest()
    if found is not None:
        step, state = found
        task.load_state(state["task"])
        planned = state["planned"]
    start, started, last_save = step, time.monotonic(), time.monotonic()
    window, durations, last_step = _Window(started, step), [], started
    for batch in loader.batches(start=step * settings.batch_size):
        if planned is not None and step >= planned:
            break
        progress = step / planned if planned else 0.0
        generator = seed_step(settings.seed, step, settings.rank)
        losses = task.losses(to_images(batch, device), progress=progress, generator=generator)
        norm = task.update(losses, step=step, lr_factor=lr_factor(settings, step, planned))
        step += 1
        window.add(losses, norm)
        if planned is None:
            durations.append(time.monotonic() - last_step)
            last_step = time.monotonic()

        plan_now = planned is None and step - start >= CALIBRATION_STEPS
        if plan_now:
            planned = start + plan_steps(settings, durations)
        listener.on_step(step, planned)
        log_now = step % settings.log_every_steps == 0 or step == planned
        save_now = plan_now or time.monotonic() - last_save >= settings.checkpoint_every_s
        if log_now or save_now:
            window.check(step, checkpoints)
        if log_now:
            values = window.close(settings, step, planned)
            if settings.rank == 0:
                listener.on_metrics(step, values)
        if save_now and settings.rank == 0:
            checkpoints.save(step, {"task": task.state(), "planned": planned})
            last_save = time.monotonic()
    if settings.rank == 0:
        checkpoints.save(step, {"task": task.state(), "planned": planned})
    return TrainResult(step, step - start, time.monotonic() - started, window.last)


def plan_steps(settings: LoopSettings, durations: Sequence[float]) -> int:
    """The number of steps that a wall-time budget allows, agreed on by all workers.

    ``durations``: seconds of the first steps. What they took is spent; the rest of the budget goes at their
    median, which warm-up, compilation or a hiccup of the machine hardly moves.
    """
    assert settings.budget_s is not None
    left_s = max(settings.budget_s - sum(durations), 0.0)
    planned = len(durations) + math.floor(left_s / statistics.median(durations))
    if settings.world > 1:
        shared = [planned]
        torch.distributed.broadcast_object_list(shared, src=0)
        planned = shared[0]
    return planned


def lr_factor(settings: LoopSettings, step: int, planned: int | None) -> float:
    """Linear warm-up, then 1, then a cosine to ``lr_final`` over the last ``lr_decay_share`` of the steps."""
    factor = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if planned is None or settings.lr_decay_share == 0.0:
        return factor
    decayed = (step - planned * (1.0 - settings.lr_decay_share)) / (planned * settings.lr_decay_share)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(decayed, 0.0), 1.0)))
    return factor * (settings.lr_final + (1.0 - settings.lr_final) * cosine)


def seed_step(seed: int, step: int, rank: int) -> torch.Generator:
    """Seed torch's global generators for a step, and return one for noise shared by all workers.

    What a step draws is a function of (seed, step, rank) alone, so no random state has to be saved.
    """
    torch.manual_seed(_hash(seed, step, rank))
    return torch.Generator().manual_seed(_hash(seed, step, -1))


def _hash(*numbers: int) -> int:
    digest = hashlib.sha256(",".join(str(number) for number in numbers).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def to_images(batch: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 (b, pictures, h, w, 3) -> float32 (b, pictures, 3, h, w) in [0, 1], a channels-last view."""
    host = torch.from_numpy(batch)
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True).permute(0, 1, 4, 2, 3).to(torch.float32).div_(255.0)


class _Window:
    """Losses since the last log line, kept on the device so that a step never waits for them."""

    def __init__(self, now: float, step: int) -> None:
        self._since, self._step = now, step
        self._rows: list[dict[str, Tensor]] = []
        self._least = math.inf
        self.last: dict[str, float] = {}

    def add(self, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        self._rows.append({**{name: value.detach() for name, value in losses.items()}, "grad_norm": norm.detach()})

    def check(self, step: int, checkpoints: Checkpoints) -> None:
        """Before a step is logged or saved: nothing that follows from a broken loss may be kept."""
        if not self._rows:
            return
        # A finite loss with a gradient that is not has spoilt the weights too, though no loss shows it yet.
        losses, norms = (torch.stack([row[name].float() for row in self._rows]) for name in ("loss", "grad_norm"))
        if not bool(torch.isfinite(torch.cat([losses, norms])).all()):
            problem = "a value or gradient that is not finite"
        elif float(losses.mean()) > EXPLODED * self._least:
            problem = (
                f"a mean of {float(losses.mean()):.3g}, over {EXPLODED:g} times the least before ({self._least:.3g}),"
            )
        else:
            return
        saved = checkpoints.latest()
        good = f"the checkpoint at step {saved[0]}" if saved else "no checkpoint yet"
        raise TrainingError(
            f"loss: got {problem} in the {len(self._rows)} steps up to step {step} "
            f"(last good: {good}). Try a smaller train.lr, a smaller train.grad_clip or train.precision=float32"
        )

    def close(self, settings: LoopSettings, step: int, planned: int | None) -> dict[str, float]:
        now = time.monotonic()
        means = {name: torch.stack([row[name].float() for row in self._rows]).mean() for name in self._rows[0]}
        values = {name: float(mean) for name, mean in means.items()}
        values["samples_per_s"] = (step - self._step) * settings.batch_size / max(now - self._since, 1e-9)
        values["lr_factor"] = lr_factor(settings, step - 1, planned)
        self._rows, self._since, self._step, self.last = [], now, step, values
        self._least = min(self._least, values["loss"])
        return values
