"""A training job that workers run and resume, shared by all training steps."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from hfd.config import TrainConfig
from hfd.data.loader import CropLoader
from hfd.errors import HfdError, TrainingError
from hfd.io.storage import Folder
from hfd.training.checkpoint import Checkpoints
from hfd.training.loop import Listener, LoopSettings, Task, TrainResult, ignore_metrics, train
from hfd.training.strategy import Parallelism
from hfd.training.tasks import OptimiserSettings
from hfd.training.workers import Workers
from pipelines.context import Context, Progress
from pipelines.engine.base import Worker
from pipelines.runs.step import Step
from pipelines.tracking import MetricLogger, WorkerLogger

PROGRESS_EVERY_S = 0.5

NOT_IN_KEY = {"checkpoint_every_s", "log_every_steps", "compile", "accumulate", "checkpoint_activations"}
"""Settings of a training that do not change its result."""


@dataclass(frozen=True)
class TrainJob:
    """A picklable training: ``build(worker)`` makes the task, ``finish(task, out, steps)`` writes the weights.

    ``on_step(task, step, planned)`` is called after every step: on the first worker, or on all where workers hold
    shares of the network.
    """

    crops: Folder
    out: Folder
    pictures: tuple[str, ...]
    seed: int
    settings: TrainConfig
    identity: dict[str, str]
    logger: WorkerLogger
    build: Callable[[Worker], Any]
    finish: Callable[[Any, Folder, int], None]
    on_step: Callable[[Any, int, int | None], None] = lambda _task, _step, _planned: None

    def __call__(self, worker: Worker) -> None:
        if self.out.exists("error.json"):
            return
        try:
            self._run(worker)
        except HfdError as error:
            # The same error would occur again: returning normally keeps the cluster from retrying. The first worker
            # receives the errors of the others.
            if worker.rank == 0:
                self._write_error(error)

    def _run(self, worker: Worker) -> None:
        loader = Workers(worker.rank, worker.world).together(lambda: self._loader(worker))
        task = self._task(worker)
        checkpoints = Checkpoints(self.out / "checkpoints", self.identity)
        with contextlib.ExitStack() as stack:
            logger = stack.enter_context(self.logger.open()) if worker.rank == 0 else None
            listener = self._listener(task, worker, logger)
            result = train(task, loader, self._loop(worker), checkpoints, listener, torch.device(worker.device))
        if worker.strategy == "fsdp" and worker.world > 1:
            task = self._gathered(task, worker)
        if worker.rank == 0:
            self.finish(task, self.out, result.steps)
            self.out.write("result.json", json.dumps(_result(result)).encode())

    def _loader(self, worker: Worker) -> CropLoader:
        return CropLoader(
            self.crops,
            "train",
            pictures=self.pictures,
            crop_px=self.settings.crop_px,
            batch_size=self.settings.batch_size,
            seed=self.seed,
            rank=worker.rank,
            world=worker.world,
        )

    def _task(self, worker: Worker) -> Task:
        # The same seed on every worker and restart, so that networks start from the same weights.
        torch.manual_seed(self.seed)
        try:
            task: Task = self.build(worker)
        except HfdError as error:
            if worker.world == 1:
                raise
            # Other workers may be waiting for this one: only its death ends their wait.
            self._write_error(error)
            raise RuntimeError(str(error)) from error
        return task

    def _write_error(self, error: HfdError) -> None:
        """Write an error to the file that the driver reads."""
        self.out.write("error.json", json.dumps({"kind": type(error).__name__, "message": str(error)}).encode())

    def _listener(self, task: Task, worker: Worker, logger: MetricLogger | None) -> Listener:
        heartbeat = Heartbeat(self.out)

        def on_step(step: int, planned: int | None) -> None:
            if worker.rank == 0:
                heartbeat(step, planned)
            if worker.rank == 0 or worker.strategy == "fsdp":
                self.on_step(task, step, planned)

        return Listener(on_metrics=logger.log_metrics if logger is not None else ignore_metrics, on_step=on_step)

    def _gathered(self, task: Task, worker: Worker) -> Task:
        """Return the unsharded task, on the first worker, so that the written files do not depend on sharding."""
        state = task.state()
        if worker.rank != 0:
            return task
        alone: Task = self.build(Worker(rank=0, world=1, device=worker.device))
        alone.load_state(state)
        return alone

    def _loop(self, worker: Worker) -> LoopSettings:
        settings = self.settings
        return LoopSettings(
            steps=settings.budget_steps,
            budget_s=settings.budget_s,
            batch_size=settings.batch_size,
            lr_final=settings.lr_final,
            lr_decay_share=settings.lr_decay_share,
            lr_drops=settings.lr_drops,
            warmup_steps=settings.warmup_steps,
            checkpoint_every_s=settings.checkpoint_every_s,
            log_every_steps=settings.log_every_steps,
            seed=self.seed,
            # With fewer workers than the maximum, each accumulates over more batches and needs no more memory.
            accumulate=math.ceil(settings.accumulate * (worker.most or worker.world) / worker.world),
            rank=worker.rank,
            world=worker.world,
        )


class Heartbeat:
    """Writes the step count to a file for the driver, which may be another process."""

    def __init__(self, out: Folder) -> None:
        self._out, self._last = out, 0.0

    def __call__(self, step: int, planned: int | None) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_EVERY_S and self._out.is_local:
            self._last = now
            path = self._out.path / "progress.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without fsync: its loss is harmless, and a step must not wait for the disk.
            temporary = path.with_name(".tmp-progress.json")
            temporary.write_text(json.dumps({"step": step, "planned": planned}))
            temporary.replace(path)


def run_training(context: Context, step: Step, job: TrainJob) -> dict[str, Any]:
    """Run a job on the context's engine and return the facts of its result. Raises the error that stopped it.

    ``result.json`` marks finished weights, so a run that is killed later does not train again.
    """
    job.out.delete("error.json")
    if not job.out.exists("result.json"):
        with (
            context.display.bar(step.name, "steps") as progress,
            _show_progress(job.out, progress),
            _prefer_worker_error(job.out),
        ):
            context.engine.train(job, name=f"{step.name}-{step.key}")
    if job.out.exists("error.json"):
        error = json.loads(job.out.read("error.json"))
        job.out.delete("error.json")
        raise TrainingError(f"{step.name}: {error['message']}")
    facts: dict[str, Any] = json.loads(job.out.read("result.json"))
    job.out.delete("progress.json")
    (Checkpoints(job.out / "checkpoints", job.identity)).clear()
    return facts


@contextlib.contextmanager
def _prefer_worker_error(out: Folder) -> Iterator[None]:
    """Ignore failures of other workers where a worker has written its error, which the caller raises."""
    try:
        yield
    except Exception:
        if not out.exists("error.json"):
            raise


@contextlib.contextmanager
def _show_progress(out: Folder, progress: Progress) -> Iterator[None]:
    """Show the progress of a training that may run in another process."""
    import threading

    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(PROGRESS_EVERY_S):
            with contextlib.suppress(OSError, ValueError):
                beat = json.loads((out.path / "progress.json").read_text())
                progress(beat["step"], beat["planned"])

    thread = threading.Thread(target=follow, name="hfd-progress", daemon=True)
    if out.is_local:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()


def optimiser_settings(settings: TrainConfig) -> OptimiserSettings:
    return OptimiserSettings(
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        grad_clip=settings.grad_clip,
        precision=settings.precision,
        beta2=settings.beta2,
    )


def parallelism(settings: TrainConfig, worker: Worker) -> Parallelism:
    """Return how a training distributes its network over its workers."""
    return Parallelism(worker.world, worker.strategy, settings.compile, settings.checkpoint_activations)


def _result(result: TrainResult) -> dict[str, Any]:
    seconds, steps = result.seconds_here, result.steps_here
    return {
        "steps": result.steps,
        "seconds_per_step": round(seconds / steps, 5) if steps else None,
        "cpu_s_per_step": round(result.cpu_s_here / steps, 5) if steps else None,  # of the first worker
        "last": {name: round(value, 6) for name, value in result.metrics.items()},
    }
