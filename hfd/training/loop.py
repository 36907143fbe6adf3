"""The training loop of all tasks."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hfd.errors import HfdError
from hfd.training.background import BackgroundWriter
from hfd.training.checkpoint import Checkpoints
from hfd.training.metric_window import MetricWindow
from hfd.training.randomness import SampleRandomness, worker_randomness
from hfd.training.workers import Workers

CALIBRATION_STEPS = 20

Batch = npt.NDArray[np.uint8]


class Task(Protocol):
    """Networks, optimisers and losses of a training. The task holds the state; the loop drives it."""

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        """Compute scalar losses, means over a batch (b, pictures, 3, h, w) float32 in [0, 1]; minimise ``"loss"``."""

    def backward(self, losses: Mapping[str, Tensor], *, weight: float) -> None:
        """Accumulate the gradients of ``weight`` times the losses."""

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        """Context of a forward and backward pass; the ``last`` of a step averages gradients over the workers."""

    def update(self, *, step: int, lr_factor: float) -> Tensor:
        """Step the optimisers; return the gradient norm before clipping."""

    def state(self) -> dict[str, Any]:
        """Return the state with whole tensors, not copied. All workers call it together."""

    def load_state(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class Judging(Protocol):
    """A task that checks more of its losses than that they are finite."""

    def problem(self, means: Mapping[str, float]) -> str | None:
        """Describe a fault that the means of the losses over a window show, as a message; None: no fault."""


class Loader(Protocol):
    """Endless batches from a global sample position."""

    def batches(self, start: int = 0) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class LoopSettings:
    """Exactly one of ``steps`` and ``budget_s`` is set. ``batch_size`` is global; ``world``: number of workers.

    ``accumulate``: passes per step on each worker, each over a part of its samples. ``lr_drops``: as in
    :class:`hfd.config.TrainConfig`. ``checkpoint_every_s``: 0 saves at every step, and waits for each write.
    """

    steps: int | None
    budget_s: float | None
    batch_size: int
    lr_final: float
    lr_decay_share: float
    warmup_steps: int
    checkpoint_every_s: float
    log_every_steps: int
    seed: int
    accumulate: int = 1
    lr_drops: int | None = None
    rank: int = 0
    world: int = 1


def ignore_metrics(step: int, values: dict[str, float]) -> None:
    del step, values


@dataclass(frozen=True)
class Listener:
    """Callbacks: ``on_metrics(step, values)`` at each log on rank 0; ``on_step(step, planned)`` on all ranks.

    ``planned``: number of steps; None until it is computed from a wall-time budget, known at the last step.
    """

    on_metrics: Callable[[int, dict[str, float]], None] = ignore_metrics
    on_step: Callable[[int, int | None], None] = lambda _step, _planned: None


@dataclass(frozen=True)
class TrainResult:
    """``steps`` in total, ``steps_here`` since the resume, in ``seconds_here`` and ``cpu_s_here`` of this process's
    processor time; the last logged ``metrics``."""

    steps: int
    steps_here: int
    seconds_here: float
    metrics: dict[str, float]
    cpu_s_here: float


def train(
    task: Task,
    loader: Loader,
    settings: LoopSettings,
    checkpoints: Checkpoints,
    listener: Listener,
    device: torch.device,
) -> TrainResult:
    """Train until the budget is spent, from the newest checkpoint if there is one.

    The speed of the first ``CALIBRATION_STEPS`` turns a wall-time budget into a number of steps, which a checkpoint
    stores: from then on, an interrupted and resumed run ends with the same weights as an uninterrupted one. Raises
    :class:`TrainingError` if the loss is not finite or explodes; an :class:`HfdError` of one worker is raised on all.
    """
    workers = Workers(settings.rank, settings.world)
    step, planned = _resume(task, checkpoints, workers, settings.steps)
    start, started, cpu_started = step, time.monotonic(), time.process_time()
    window = MetricWindow(workers, started, step, task.problem if isinstance(task, Judging) else None)
    durations: list[float] = []
    last_step = started
    plan_now, last_save, saved_step = False, started, step
    listener_error: HfdError | None = None
    with (
        BackgroundWriter(checkpoints) as writer,
        contextlib.closing(_Feed(loader, step * settings.batch_size)) as feed,
    ):
        last_good = functools.partial(workers.first, writer.last_good)
        while planned is None or step < planned:
            batch, failure = feed.take()
            # A plan, on which the result depends, is stored at once.
            due = plan_now or _checkpoint_is_due(settings, writer, time.monotonic() - last_save)
            if workers.agree(due and step > saved_step, failure or listener_error or writer.error()):
                window.check(step, last_good)
                _save(task, writer, workers, step, planned)
                saved_step, last_save = step, time.monotonic()
            progress = step / planned if planned else 0.0
            losses = gradients(task, batch, settings, step, progress, device)
            norm = task.update(step=step, lr_factor=lr_factor(settings, step, planned))
            step += 1
            window.add(losses, norm)
            if planned is None:
                durations.append(time.monotonic() - last_step)
                last_step = time.monotonic()
            plan_now = planned is None and step - start >= CALIBRATION_STEPS
            if plan_now:
                planned = start + workers.first(functools.partial(plan_steps, settings, durations))
            listener_error = _notify(listener, step, planned)
            if step % settings.log_every_steps == 0 or step == planned:
                window.check(step, last_good)
                values = window.close(step, time.monotonic(), settings.batch_size)
                values["lr_factor"] = lr_factor(settings, step - 1, planned)
                if workers.is_first:
                    listener.on_metrics(step, values)
        if step > saved_step or step == 0:
            _save(task, writer, workers, step, planned)
        workers.agree(False, listener_error or writer.finish())
    cpu_s = time.process_time() - cpu_started
    return TrainResult(step, step - start, time.monotonic() - started, window.last, cpu_s)


def gradients(
    task: Task, batch: Batch, settings: LoopSettings, step: int, progress: float, device: torch.device
) -> dict[str, Tensor]:
    """Compute the gradients of a step in ``accumulate`` passes; return the weighted losses.

    Weights follow the number of samples, so that the mean over the workers is the mean over the global batch.
    """
    randomness = worker_randomness(settings.seed, step, settings.batch_size, settings.rank, settings.world)
    # The same number of passes on every worker: under FSDP each pass synchronises them.
    passes = min(settings.accumulate, settings.batch_size // settings.world)
    bounds = [len(batch) * i // passes for i in range(passes + 1)]
    total: dict[str, Tensor] = {}
    for begin, end in itertools.pairwise(bounds):
        images = to_images(batch[begin:end], device)
        weight = (end - begin) * settings.world / settings.batch_size
        with task.syncing(end == len(batch)):
            losses = task.losses(images, progress=progress, randomness=randomness.part(begin, end))
            task.backward(losses, weight=weight)
        for name, value in losses.items():
            total[name] = total.get(name, 0.0) + value.detach() * weight
    return total


def _resume(task: Task, checkpoints: Checkpoints, workers: Workers, steps: int | None) -> tuple[int, int | None]:
    """Load the newest checkpoint, the same on all workers; return its step and the planned steps."""
    found: tuple[int, dict[str, Any]] | None = None

    def newest() -> int | None:
        nonlocal found
        found = checkpoints.latest()
        return None if found is None else found[0]

    step = workers.first(newest)
    if step is None:
        return 0, steps
    here = found
    found = workers.together(lambda: here or checkpoints.read(step))
    task.load_state(found[1]["task"])
    planned: int | None = found[1]["planned"]
    return step, planned


def _checkpoint_is_due(settings: LoopSettings, writer: BackgroundWriter, since_last_s: float) -> bool:
    """A store that takes longer than the interval must not hold up the steps: the next checkpoint comes later then."""
    return settings.checkpoint_every_s == 0.0 or (since_last_s >= settings.checkpoint_every_s and not writer.busy)


def _save(task: Task, writer: BackgroundWriter, workers: Workers, step: int, planned: int | None) -> None:
    state = task.state()  # called by all workers, which gather shards
    if workers.is_first:
        writer.save(step, {"task": state, "planned": planned})


def _notify(listener: Listener, step: int, planned: int | None) -> HfdError | None:
    """Call the listener and return its error, for all workers to raise."""
    try:
        listener.on_step(step, planned)
    except HfdError as error:
        return error
    return None


class _Feed:
    """Batches of a loader, with errors as values, for all workers to raise."""

    def __init__(self, loader: Loader, start: int) -> None:
        self._batches = loader.batches(start=start)

    def take(self) -> tuple[Batch, HfdError | None]:
        try:
            return next(self._batches), None
        except HfdError as error:
            return np.empty(0, np.uint8), error

    def close(self) -> None:
        if isinstance(self._batches, Generator):
            self._batches.close()


def plan_steps(settings: LoopSettings, durations: Sequence[float]) -> int:
    """Compute the number of steps of a wall-time budget from the seconds of the first steps, ``durations``.

    The rest of the budget is divided by their median, which warm-up and compilation hardly change.
    """
    assert settings.budget_s is not None
    left_s = max(settings.budget_s - sum(durations), 0.0)
    return len(durations) + math.floor(left_s / statistics.median(durations))


def lr_factor(settings: LoopSettings, step: int, planned: int | None) -> float:
    """Linear warm-up, then 1, then a decay to ``lr_final`` over the last ``lr_decay_share`` of the steps.

    The decay is a cosine, or with ``lr_drops`` a staircase: that many drops by one factor, the first at its start.
    """
    factor = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if planned is None or settings.lr_decay_share == 0.0:
        return factor
    decayed = (step - planned * (1.0 - settings.lr_decay_share)) / (planned * settings.lr_decay_share)
    if settings.lr_drops is not None:
        # A little more than the quotient: rounding must not put a drop off by a step.
        done = min(max(math.floor(decayed * settings.lr_drops + 1e-9) + 1, 0), settings.lr_drops)
        return factor * float(settings.lr_final ** (done / settings.lr_drops))
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(decayed, 0.0), 1.0)))
    return factor * (settings.lr_final + (1.0 - settings.lr_final) * cosine)


def to_images(batch: Batch, device: torch.device) -> Tensor:
    """uint8 (b, pictures, h, w, 3) -> float32 (b, pictures, 3, h, w) in [0, 1], a channels-last view."""
    host = torch.from_numpy(batch)
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True).permute(0, 1, 4, 2, 3).to(torch.float32).div_(255.0)
