"""Start a Ray on this machine or attach to a cluster, and check that the configured workers fit."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from hfd.config import ClusterConfig
from hfd.errors import ConfigError
from pipelines.engine.workers import Nodes, describe_nodes, map_worker, training_workers

CONNECT_S = 20.0

START_S, ELASTIC_START_S = 600, 30
"""Time in which the resources of a training's workers must be free, with a fixed and with an elastic number."""

ENVIRONMENT = {
    # Ray's default from 2.64 on: a task without GPUs keeps the visible devices of its process.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # No packet tells that a host lost its power or its network. Ray then leaves tasks waiting until it tests the
    # connection, by default after 300 s and 120 s for an answer. Its servers refuse more than one test a minute.
    "RAY_grpc_client_keepalive_time_ms": "70000",
    "RAY_grpc_client_keepalive_timeout_ms": "60000",
}
"""Settings of Ray in this process where the user has set none; Ray reads them at its import."""

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@contextlib.contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Initialise Ray, and shut it down (or detach) afterwards; use one that the caller has initialised as it is.

    Raises :class:`ConfigError` where Ray does not start or answer, or is too small.
    """
    set_environment()
    import ray

    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            _initialise(config, stack)
            stack.callback(ray.shutdown)
            _silence()
        if config.wait is None:  # else each step waits for its own workers
            check_fits(config, nodes())
        yield


def set_environment() -> None:
    """Set Ray's settings before its import."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _initialise(config: ClusterConfig, stack: contextlib.ExitStack) -> None:
    import ray

    try:
        if config.kind == "local":
            _start(config, stack)
        else:
            os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(start_limit_s(config)))
            check_reachable(str(config.address))
            ray.init(address=config.address, **_QUIET)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "does not start on this machine" if config.kind == "local" else f"does not answer at {config.address}"
        brief = " ".join(str(error).split())[:200]
        raise ConfigError(f"cluster: Ray {where} ({brief}). Or use cluster.kind=inline") from error


def start_limit_s(config: ClusterConfig) -> int:
    """Return the time after which Ray gives up on a group of training workers, and tries one that fits.

    Just after a loss, Ray asks for a group of the former size, since it looks at the nodes every 20 s: a training with
    fewer workers must not wait for it. A fixed number waits for a node that returns within ``cluster.wait``.
    """
    return ELASTIC_START_S if config.is_elastic else START_S + int(config.wait_s or 0)


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


def check_fits(config: ClusterConfig, nodes: Nodes) -> None:
    """Raise :class:`ConfigError` where workers do not fit the nodes: Ray would wait for ever."""
    for wanted in (training_workers(config), map_worker(config, config.map_gpus)):
        fitting = wanted.fitting(nodes)
        if fitting < wanted.count:
            raise ConfigError(
                f"cluster.{wanted.setting}: got {wanted.text}, expected what fits the nodes ({describe_nodes(nodes)}): "
                f"{fitting} of these. Ask for less, attach to a larger cluster, or set cluster.wait for an autoscaler"
            )
