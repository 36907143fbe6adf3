"""The engine on Ray: Ray Data for maps, a pool of actors for maps with a model, Ray Train for trainings."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hfd.config import ClusterConfig
from hfd.errors import HfdError
from pipelines.engine.actor_pool import ActorPool, DyingWorkersError, PoolSize, dying_workers, result_bytes, result_from
from pipelines.engine.base import MapJob, Worker
from pipelines.engine.devices import torch_threads
from pipelines.engine.ray_session import ELASTIC_START_S, START_S, nodes, ray_session
from pipelines.engine.waiting import wait_for, watched
from pipelines.engine.workers import Wanted, count_fitting, map_worker, training_workers

MAX_TASK_RETRIES = 2
BLOCKS_PER_CPU = 4

GROW_EVERY_S = 60.0
"""Time between two looks for nodes on which a training with missing workers continues with more."""


@contextlib.contextmanager
def ray_engine(config: ClusterConfig, say: Callable[[str], None]) -> Iterator[OnRay]:
    """Yield an engine on a Ray that this process starts (``local``) or attaches to."""
    with ray_session(config):
        yield OnRay(config, map_gpus=0.0, say=say)


@dataclass(frozen=True)
class OnRay:
    """Runs maps on Ray Data or actors, and trainings on Ray Train.

    ``map_gpus``: GPUs of each map worker. ``say`` gets a line when the engine waits for nodes.
    """

    config: ClusterConfig
    map_gpus: float
    say: Callable[[str], None] = lambda _line: None

    def with_gpus(self) -> OnRay:
        return replace(self, map_gpus=self.config.map_gpus)

    def map(self, job: MapJob) -> None:
        """Map on actors, or with Ray Data. If workers of Ray Data keep dying, actors map the remaining items."""
        if not job.items:
            return
        self._wait_for(map_worker(self.config, self.map_gpus))
        if job.pooled or job.load is not None:
            cpus, gpus = self.config.cpus_of_map, self.map_gpus
            fitting = max(1, count_fitting(nodes(), cpus, gpus))
            size = PoolSize(self.config.map_workers or fitting, cpus, gpus, self.config.map_threads)
            ActorPool(size, job).run()
            return
        done: set[int] = set()
        try:
            for index, result in self._results(job.work, job.items):
                done.add(index)
                job.on_done(result)
        except DyingWorkersError:
            if job.on_death is None:
                raise
            left = [item for index, item in enumerate(job.items) if index not in done]
            self.map(replace(job, items=left, pooled=True))

    def _results(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        import ray.data

        threads, cpus = self.config.map_threads, self.config.cpus_of_map

        def call(row: dict[str, Any]) -> dict[str, Any]:
            return {"index": row["index"], "result": result_bytes(lambda: work(pickle.loads(row["item"])), threads)}

        rows = [{"index": index, "item": pickle.dumps(item)} for index, item in enumerate(items)]
        with warnings.catch_warnings():
            # In the supported versions of Ray, below 2.64, only this deprecated option bounds retries.
            warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
            results = ray.data.from_items(rows, override_num_blocks=_num_blocks(len(rows), cpus)).map(
                call,
                num_cpus=cpus,
                num_gpus=self.map_gpus or None,
                concurrency=self.config.map_workers,
                max_retries=MAX_TASK_RETRIES,
            )
        with _deaths("cluster.map_workers"):
            for row in results.iter_rows():
                yield row["index"], result_from(row["result"])

    def _wait_for(self, wanted: Wanted) -> None:
        if self.config.wait_s is not None:
            wait_for(wanted, self.config.wait_s, self.say)

    def _watched(self, wanted: Wanted) -> contextlib.AbstractContextManager[None]:
        wait_s = self.config.wait_s
        return contextlib.nullcontext() if wait_s is None else watched(wanted, wait_s, self.say)

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        threads, gpus, strategy = self.config.train_threads, self.config.train_gpus, self.config.strategy
        least, most = self.config.train_workers_min, self.config.train_workers

        def loop(_: dict[str, Any]) -> None:
            import ray.train
            import ray.train.torch

            context = ray.train.get_context()
            device = str(ray.train.torch.get_device()) if gpus else "cpu"
            with torch_threads(threads):
                work(Worker(context.get_world_rank(), context.get_world_size(), device, strategy, most))

        wanted = training_workers(self.config)
        self._wait_for(wanted)
        scaling = ScalingConfig(
            # A range is elastic: Ray starts with the free workers, and restarts from the last checkpoint with more.
            num_workers=most if least is None else (least, most),
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": float(threads), **({"GPU": gpus} if gpus else {})},
            elastic_resize_monitor_interval_s=GROW_EVERY_S,
        )
        # Both limits: Ray counts workers that cannot start separately, and by default retries them for ever.
        restarts = self.config.train_restarts
        starts = restarts * START_S // ELASTIC_START_S if self.config.is_elastic else restarts
        failures = FailureConfig(max_failures=restarts, controller_failure_limit=starts)
        # The work writes its own checkpoints; nothing reads Ray's files after the run.
        with tempfile.TemporaryDirectory(prefix="hfd-ray-train-", ignore_cleanup_errors=True) as notes:
            run = RunConfig(name=f"{name}-{os.getpid()}", storage_path=notes, failure_config=failures)
            with self._watched(wanted), _ctrl_c(), _deaths("cluster.train_workers"):
                TorchTrainer(loop, train_loop_config={}, scaling_config=scaling, run_config=run).fit()


def _num_blocks(num_items: int, cpus: float) -> int:
    """Return enough blocks to balance the load. Ray Data leaves a CPU idle for about 0.2 s between blocks."""
    import ray

    return min(num_items, BLOCKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1.0) / cpus)))


@contextlib.contextmanager
def _deaths(setting: str) -> Iterator[None]:
    """Raise one line for workers that keep dying, and for a user's error that a worker could not write to a file (for
    example on a full disk). Other exceptions of the work pass unchanged."""
    from ray.exceptions import RayError, RayTaskError
    from ray.train import ControllerError, WorkerGroupError

    try:
        yield
    except (RayError, ControllerError, WorkerGroupError) as error:
        causes: list[BaseException] = [error]
        if isinstance(error, WorkerGroupError):
            causes = list(error.worker_failures.values())
            for cause in causes:
                own = getattr(cause, "_base_exc", cause)
                if isinstance(own, HfdError):
                    raise own from None
            if any(not isinstance(cause, RayError) for cause in causes):
                raise
        elif isinstance(error, ControllerError):
            causes = [error.controller_failure]
        if any(isinstance(cause, RayTaskError) for cause in causes):
            raise
        raise dying_workers(setting, causes[0]) from error


@contextlib.contextmanager
def _ctrl_c() -> Iterator[None]:
    """Restore Ctrl-C: Ray Train replaces its handler, exits the process, and never restores it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
