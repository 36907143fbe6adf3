"""Start a Ray on this machine or attach to a cluster, and check that the configured workers fit."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hfd.config import ClusterConfig
from hfd.errors import ConfigError

CONNECT_S = 20.0

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@contextlib.contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Initialise Ray, and shut it down (or detach) afterwards; use one that the caller has initialised as it is.

    Raises :class:`ConfigError` where Ray does not start or answer, or is too small.
    """
    # Ray's default from 2.64 on: a task without GPUs keeps the visible devices of its process.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            _initialise(config, stack)
            stack.callback(ray.shutdown)
            _silence()
        check_fits(config, nodes())
        yield


def _initialise(config: ClusterConfig, stack: contextlib.ExitStack) -> None:
    import ray

    try:
        if config.kind == "local":
            _start(config, stack)
        else:
            # The first import of torch on a node with a slow disk takes longer than Ray's default of one minute.
            os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
            check_reachable(str(config.address))
            ray.init(address=config.address, **_QUIET)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "does not start on this machine" if config.kind == "local" else f"does not answer at {config.address}"
        brief = " ".join(str(error).split())[:200]
        raise ConfigError(f"cluster: Ray {where} ({brief}). Or use cluster.kind=inline") from error


def check_reachable(address: str) -> None:
    """Raise ``OSError`` where no server listens; Ray itself would retry for more than seven minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():  # Ray resolves "auto" and the like on this machine, at once
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def _start(config: ClusterConfig, stack: contextlib.ExitStack) -> None:
    import ray

    # Socket paths have at most 107 bytes, of which Ray needs about 60.
    parent = os.environ.get("RAY_TMPDIR", "/tmp")
    files = stack.enter_context(tempfile.TemporaryDirectory(prefix="hfd-ray-", dir=parent, ignore_cleanup_errors=True))
    # Without an address, Ray would attach to any Ray that runs on this machine.
    ray.init(address="local", num_cpus=config.num_cpus, include_dashboard=False, _temp_dir=files, **_QUIET)


def _silence() -> None:
    """Turn off Ray's progress output, and its tracebacks of errors that are raised anyway."""
    import logging

    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def nodes() -> list[Mapping[str, float]]:
    """Return the resources of each living node of the cluster, such as ``{"CPU": 8.0, "GPU": 1.0}``."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_fits(config: ClusterConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise :class:`ConfigError` where workers do not fit the nodes: Ray would wait for ever."""
    workers = config.train_workers_min or config.train_workers
    wanted = (
        ("train_workers", workers, float(config.train_threads), config.train_gpus),
        ("map_threads" if config.map_cpus is None else "map_cpus", 1, config.cpus_of_map, config.map_gpus),
    )
    for name, count, cpus, gpus in wanted:
        fitting = count_fitting(nodes, cpus, gpus)
        if fitting < count:
            has = ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes)
            raise ConfigError(
                f"cluster.{name}: got {count} x ({cpus:g} CPU and {gpus:g} GPU), expected what fits the nodes "
                f"({has}): {fitting} of these. Ask for less or attach to a larger cluster"
            )


def count_fitting(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """Return the number of workers of this size that fit the nodes."""

    def on(node: Mapping[str, float]) -> int:
        by_cpu = int(node.get("CPU", 0.0) / cpus)
        return min(by_cpu, int(node.get("GPU", 0.0) / gpus)) if gpus else by_cpu

    return sum(map(on, nodes))
