"""Where work runs: in this process, or on Ray. The only home of ``ray``.

Both engines call the same functions on the same items with the same number of torch threads, so what comes
out does not depend on which was used.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hfd.config import ClusterConfig
from hfd.errors import ConfigError, HfdError

MAX_TASK_RETRIES = 2
MAX_TRAIN_RESTARTS = 3


@dataclass(frozen=True)
class Resources:
    """What each task of a map is given: ``threads`` of torch (and logical CPUs) and ``gpus``."""

    threads: int
    gpus: float


@dataclass(frozen=True)
class Worker:
    """A training worker's place: ``device`` is ``cpu`` or ``cuda:0``."""

    rank: int
    world: int
    device: str


class Engine(Protocol):
    """Runs maps and trainings."""

    def with_gpus(self) -> Engine:
        """The same engine, whose maps get the GPUs of ``cluster.map_gpus``."""

    def map(self, work: Callable[[Any], Any], items: Sequence[Any], on_done: Callable[[Any], None]) -> None: ...

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        """Call ``work`` once for each training worker; it must take up where a killed one stopped."""


@contextlib.contextmanager
def engine(config: ClusterConfig) -> Iterator[Engine]:
    """The engine of a run, ready when the block starts. Raises :class:`ConfigError` when it is too small."""
    if config.kind == "inline":
        yield Inline(config)
        return
    with _ray_session(config):
        _check_fits(config)
        yield OnRay(config, Resources(config.map_threads, 0.0))


@dataclass(frozen=True)
class Inline:
    """Everything in this process, one item after another."""

    config: ClusterConfig

    def with_gpus(self) -> Inline:
        return self

    def map(self, work: Callable[[Any], Any], items: Sequence[Any], on_done: Callable[[Any], None]) -> None:
        with torch_threads(self.config.map_threads):
            for item in items:
                on_done(work(item))

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        del name
        with torch_threads(self.config.train_threads):
            work(Worker(rank=0, world=1, device=_device(self.config.train_gpus)))


@dataclass(frozen=True)
class OnRay:
    """Ray Data for maps (one block an item, streamed), Ray Train for trainings."""

    config: ClusterConfig
    resources: Resources

    def with_gpus(self) -> OnRay:
        return replace(self, resources=replace(self.resources, gpus=self.config.map_gpus))

    def map(self, work: Callable[[Any], Any], items: Sequence[Any], on_done: Callable[[Any], None]) -> None:
        import ray.data

        if not items:
            return
        threads = self.resources.threads

        def call(row: dict[str, Any]) -> dict[str, Any]:
            return {"result": _call(work, pickle.loads(row["item"]), threads)}

        rows = [{"item": pickle.dumps(item)} for item in items]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            call,
            num_cpus=threads,
            num_gpus=self.resources.gpus or None,
            concurrency=self.config.map_workers,
            max_retries=MAX_TASK_RETRIES,
        )
        for row in results.iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, HfdError):
                raise result
            on_done(result)

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        threads = self.config.train_threads

        def loop(_: dict[str, Any]) -> None:
            import ray.train
            import ray.train.torch

            context = ray.train.get_context()
            with torch_threads(threads):
                device = str(ray.train.torch.get_device())
                work(Worker(context.get_world_rank(), context.get_world_size(), device))

        resources = {
            "CPU": float(threads),
            **({"GPU": self.config.train_gpus} if self.config.train_gpus else {}),
        }
        TorchTrainer(
            loop,
            train_loop_config={},
            scaling_config=ScalingConfig(
                num_workers=self.config.train_workers,
                use_gpu=self.config.train_gpus > 0,
                resources_per_worker=resources,
            ),
            run_config=RunConfig(
                name=f"{name}-{os.getpid()}", failure_config=FailureConfig(max_failures=MAX_TRAIN_RESTARTS)
            ),
        ).fit()


def _call(work: Callable[[Any], Any], item: Any, threads: int) -> bytes:
    """A result, or the user's error, as bytes: Ray would wrap an exception in a traceback of its own."""
    try:
        with torch_threads(threads):
            return pickle.dumps(work(item))
    except HfdError as error:
        return pickle.dumps(error)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch limited to ``count`` threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(gpus: float) -> str:
    import torch

    if not gpus:
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(f"cluster.train_gpus: got {gpus}, expected 0. This machine has no CUDA device")
    return "cuda:0"


@contextlib.contextmanager
def _ray_session(config: ClusterConfig) -> Iterator[None]:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            # Left out, an address would attach to whatever Ray happens to run on this machine.
            address="local" if config.kind == "local" else config.address,
            num_cpus=config.num_cpus if config.kind == "local" else None,
            include_dashboard=False if config.kind == "local" else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = config.address or "local"
        raise ConfigError(
            f"cluster.address: no Ray answers at {where} ({' '.join(str(error).split())[:200]})"
        ) from error
    try:
        _quiet_data()
        yield
    finally:
        ray.shutdown()


def _quiet_data() -> None:
    import logging

    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _check_fits(config: ClusterConfig) -> None:
    """Ray waits for ever for what a cluster does not have: refuse with the numbers."""
    import ray

    have = ray.cluster_resources()
    needs = {
        "train_workers x train_threads": ("CPU", config.train_workers * config.train_threads),
        "map_threads": ("CPU", config.map_threads),
        "train_workers x train_gpus": ("GPU", config.train_workers * config.train_gpus),
        "map_gpus": ("GPU", config.map_gpus),
    }
    for name, (resource, amount) in needs.items():
        if amount > have.get(resource, 0.0):
            raise ConfigError(
                f"cluster.{name}: got {amount:g} {resource}, expected at most {have.get(resource, 0.0):g}, "
                "what the cluster has. Ask for less or attach to a larger one"
            )
