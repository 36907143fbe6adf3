"""The engine on Ray: Ray Data for maps, Ray Train for trainings. The only home of ``ray``."""

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
from pipelines.cluster import Worker, torch_threads

MAX_TASK_RETRIES = 2
MAX_TRAIN_RESTARTS = 3
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
    """Ray Data for maps (a few blocks of items a CPU), Ray Train for trainings."""

    config: ClusterConfig
    map_gpus: float

    def with_gpus(self) -> OnRay:
        return OnRay(self.config, self.config.map_gpus)

    def map(self, work: Callable[[Any], Any], items: Sequence[Any], on_done: Callable[[Any], None]) -> None:
        import ray.data

        if not items:
            return
        threads = self.config.map_threads

        def call(row: dict[str, Any]) -> dict[str, Any]:
            return {"result": _call(work, pickle.loads(row["item"]), threads)}

        rows = [{"item": pickle.dumps(item)} for item in items]
        with warnings.catch_warnings():
            # Bounded retries have no other spelling before Ray 2.64, which this project does not accept.
            warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
            results = ray.data.from_items(rows, override_num_blocks=_num_blocks(len(rows), threads)).map(
                call,
                num_cpus=threads,
                num_gpus=self.map_gpus or None,
                concurrency=self.config.map_workers,
                max_retries=MAX_TASK_RETRIES,
            )
        with _deaths("cluster.map_workers"):
            for row in results.iter_rows():
                result = pickle.loads(row["result"])
                if isinstance(result, HfdError):
                    raise result
                on_done(result)

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        threads, gpus = self.config.train_threads, self.config.train_gpus

        def loop(_: dict[str, Any]) -> None:
            import ray.train
            import ray.train.torch

            context = ray.train.get_context()
            device = str(ray.train.torch.get_device()) if gpus else "cpu"
            with torch_threads(threads):
                work(Worker(context.get_world_rank(), context.get_world_size(), device))

        scaling = ScalingConfig(
            num_workers=self.config.train_workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": float(threads), **({"GPU": gpus} if gpus else {})},
        )
        # Both are needed: Ray counts a worker that cannot start apart, and retries it for ever by default.
        failures = FailureConfig(max_failures=MAX_TRAIN_RESTARTS, controller_failure_limit=MAX_TRAIN_RESTARTS)
        # Checkpoints are the work's own. Ray's notes on the run, which nothing reads again, go with it.
        with tempfile.TemporaryDirectory(prefix="hfd-ray-train-", ignore_cleanup_errors=True) as notes:
            run = RunConfig(name=f"{name}-{os.getpid()}", storage_path=notes, failure_config=failures)
            with _ctrl_c(), _deaths("cluster.train_workers"):
                TorchTrainer(loop, train_loop_config={}, scaling_config=scaling, run_config=run).fit()


def _num_blocks(num_items: int, threads: int) -> int:
    """Enough for the load to even out. Between two blocks Ray Data leaves a CPU idle for about 0.2 s."""
    import ray

    return min(num_items, BLOCKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1.0)) // threads))


def _call(work: Callable[[Any], Any], item: Any, threads: int) -> bytes:
    """A result, or the user's error, as bytes: Ray would wrap an exception in a traceback of its own."""
    try:
        with torch_threads(threads):
            return pickle.dumps(work(item))
    except HfdError as error:
        return pickle.dumps(error)


@contextlib.contextmanager
def _deaths(setting: str) -> Iterator[None]:
    """One line for workers that keep dying; an exception that the work itself raised passes as it is."""
    from ray.exceptions import RayError, RayTaskError
    from ray.train import ControllerError, WorkerGroupError

    try:
        yield
    except (RayError, ControllerError, WorkerGroupError) as error:
        causes: list[BaseException] = [error]
        if isinstance(error, WorkerGroupError):
            causes = list(error.worker_failures.values())
            if any(not isinstance(cause, RayError) for cause in causes):
                raise
        elif isinstance(error, ControllerError):
            causes = [error.controller_failure]
        if any(isinstance(cause, RayTaskError) for cause in causes):
            raise
        raise HfdError(
            f"{setting}: its worker processes do not start or keep dying ({type(causes[0]).__name__}), mostly for want "
            "of memory. Ask for fewer, or give the machine more, then run the same command again"
        ) from error


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
                _knock(str(config.address))
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


def _knock(address: str) -> None:
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
    wanted = (
        ("train_workers", config.train_workers, float(config.train_threads), config.train_gpus),
        ("map_threads", 1, float(config.map_threads), config.map_gpus),
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
