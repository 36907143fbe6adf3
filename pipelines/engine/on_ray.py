"""The engine on Ray: Ray Data for maps, a pool of actors where there is a model, Ray Train for trainings."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfd.config import ClusterConfig
from hfd.errors import ConfigError, HfdError
from pipelines.engine.actor_pool import DyingWorkersError, PoolSize, dying_workers, map_on_actors
from pipelines.engine.base import Worker
from pipelines.engine.devices import torch_threads

MAX_TASK_RETRIES = 2
BLOCKS_PER_CPU = 4
CONNECT_SECONDS = 20.0


@contextlib.contextmanager
def ray_engine(config: ClusterConfig) -> Iterator[OnRay]:
    """An engine on a Ray that is started here (``local``) or found (``attach``), and large enough."""
    with _session(config):
        check_fits(config, _nodes())
        yield OnRay(config, map_gpus=0.0)


@dataclass(frozen=True)
class OnRay:
    """Ray Data for maps (a few blocks of items a CPU), actors for maps with a model, Ray Train for trainings."""

    config: ClusterConfig
    map_gpus: float

    def with_gpus(self) -> OnRay:
        return OnRay(self.config, self.config.map_gpus)

    def map(
        self,
        work: Callable[[Any], Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        """Map with Ray Data; if workers keep dying, map the remaining items with a pool, which can name the killer."""
        done: set[int] = set()
        try:
            for index, result in self._results(work, items):
                done.add(index)
                on_done(result)
        except DyingWorkersError:
            if on_death is None:
                raise
            left = [item for index, item in enumerate(items) if index not in done]
            self.map_with_model(None, work, left, on_done, on_death)

    def map_with_model(
        self,
        load: Callable[[], Any] | None,
        work: Callable[..., Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        if items:
            cpus, gpus = self.config.cpus_of_map, self.map_gpus
            fitting = max(1, sum(_count_fitting(node, cpus, gpus) for node in _nodes()))
            size = PoolSize(self.config.map_workers or fitting, cpus, gpus, self.config.map_threads)
            map_on_actors(size, load, work, items, on_done, on_death)

    def _results(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        import ray.data

        if not items:
            return
        threads, cpus = self.config.map_threads, self.config.cpus_of_map

        def call(row: dict[str, Any]) -> dict[str, Any]:
            return {"index": row["index"], "result": _call(work, pickle.loads(row["item"]), threads)}

        rows = [{"index": index, "item": pickle.dumps(item)} for index, item in enumerate(items)]
        with warnings.catch_warnings():
            # Bounded retries have no other spelling before Ray 2.64, which this project does not accept.
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
                result = pickle.loads(row["result"])
                if isinstance(result, HfdError):
                    raise result
                yield row["index"], result

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

        scaling = ScalingConfig(
            # A range is elastic: Ray starts with what there is, and starts again, from the last checkpoint, with more.
            num_workers=most if least is None else (least, most),
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": float(threads), **({"GPU": gpus} if gpus else {})},
        )
        # Both are needed: Ray counts a worker that cannot start apart, and retries it for ever by default.
        restarts = self.config.train_restarts
        failures = FailureConfig(max_failures=restarts, controller_failure_limit=restarts)
        # Checkpoints are the work's own. Ray's notes on the run, which nothing reads again, go with it.
        with tempfile.TemporaryDirectory(prefix="hfd-ray-train-", ignore_cleanup_errors=True) as notes:
            run = RunConfig(name=f"{name}-{os.getpid()}", storage_path=notes, failure_config=failures)
            with _ctrl_c(), _deaths("cluster.train_workers"):
                TorchTrainer(loop, train_loop_config={}, scaling_config=scaling, run_config=run).fit()


def _num_blocks(num_items: int, cpus: float) -> int:
    """Enough for the load to even out. Between two blocks Ray Data leaves a CPU idle for about 0.2 s."""
    import ray

    return min(num_items, BLOCKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1.0) / cpus)))


def _call(work: Callable[[Any], Any], item: Any, threads: int) -> bytes:
    """A result, or the user's error, as bytes: Ray would wrap an exception in a traceback of its own."""
    try:
        with torch_threads(threads):
            return pickle.dumps(work(item))
    except HfdError as error:
        return pickle.dumps(error)


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
    """Ctrl-C as everywhere else: Ray Train takes it over, exits from deep inside, and never gives it back."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _session(config: ClusterConfig) -> Iterator[None]:
    """A Ray to work on, shut down (or detached from) afterwards; one that the caller started is left alone."""
    # Ray's own default from 2.64 on: a task without GPUs sees what its process saw.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            if config.kind == "local":
                _start(config, stack)
            else:
                # The first import of torch on a node with a slow disk outlasts Ray's own minute.
                os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
                check_reachable(str(config.address))
                ray.init(address=config.address, **_QUIET)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = (
                "does not start on this machine" if config.kind == "local" else f"does not answer at {config.address}"
            )
            raise ConfigError(f"cluster: Ray {where} ({_brief(error)}). Or use cluster.kind=inline") from error
        stack.callback(ray.shutdown)
        _quiet()
        yield


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def check_reachable(address: str) -> None:
    """Raise ``OSError`` where nobody listens: Ray itself would try for more than seven minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():  # "auto" and the like are looked up on this machine, at once
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def _start(config: ClusterConfig, stack: contextlib.ExitStack) -> None:
    import ray

    # Ray's sockets need a short path: at most 107 bytes, of which it takes about 60 itself.
    parent = os.environ.get("RAY_TMPDIR", "/tmp")
    files = stack.enter_context(tempfile.TemporaryDirectory(prefix="hfd-ray-", dir=parent, ignore_cleanup_errors=True))
    # Left out, an address would attach to whatever Ray happens to run on this machine.
    ray.init(address="local", num_cpus=config.num_cpus, include_dashboard=False, _temp_dir=files, **_QUIET)


def _quiet() -> None:
    import logging

    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train"):
        # What goes wrong is raised: as a line of its own, not as a traceback beside it.
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _nodes() -> list[Mapping[str, float]]:
    """What each living node of the cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_fits(config: ClusterConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Ray waits for ever for what a cluster does not have: refuse with the numbers.

    ``nodes``: the resources of each, such as ``{"CPU": 8.0, "GPU": 1.0}``. Raises :class:`ConfigError`.
    """
    workers = config.train_workers_min or config.train_workers
    wanted = (
        ("train_workers", workers, float(config.train_threads), config.train_gpus),
        ("map_threads" if config.map_cpus is None else "map_cpus", 1, config.cpus_of_map, config.map_gpus),
    )
    for name, count, cpus, gpus in wanted:
        fitting = sum(_count_fitting(node, cpus, gpus) for node in nodes)
        if fitting < count:
            has = ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes)
            raise ConfigError(
                f"cluster.{name}: got {count} x ({cpus:g} CPU and {gpus:g} GPU), expected what fits the nodes "
                f"({has}): {fitting} of these. Ask for less or attach to a larger cluster"
            )


def _count_fitting(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0.0) / cpus)
    return min(by_cpu, int(node.get("GPU", 0.0) / gpus)) if gpus else by_cpu


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
