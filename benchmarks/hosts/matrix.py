"""Inject faults of the network and of whole hosts into each step: the fault matrix on several hosts.

    python -m benchmarks.hosts.matrix [--steps prepare,evaluate] [--faults vanish,latency] [--keep FOLDER]

Each host is a network namespace of this machine (``network.py``): a Ray head without CPUs, three Ray workers of one
CPU, SeaweedFS, and MLflow on PostgreSQL. ``hfd`` runs on the head, as a user starts it there; trainings have two
workers, on two hosts. First every step runs without faults; a cell then copies the outputs of the steps before its
own, starts the step, and injects the fault while the step is working:

    latency             all that a host sends waits 50 ms, until the step ends (a round trip: 100 ms)
    loss                2 % of the frames that a host sends are lost, until the step ends
    bandwidth           a host sends at most 4 Mbit/s, until the step ends
    partition-worker    the host of the busiest worker is cut off for 60 s
    partition-s3        the host of S3 is cut off for 20 s
    vanish              the host of the busiest worker is cut off and all of its processes are killed, at once
    join                a fourth worker joins

The verdicts ``same``, ``rerun`` and ``FAILED`` are those of ``benchmarks/faults/steps.py``. FAILED is printed with its
fault, and the exit code is 1. Needs root, iproute2, util-linux and TAP devices, since not every kernel has netem: see
``relay.py``. ``--keep`` keeps the logs of all hosts. Every end removes what was made, also Ctrl-C; after a killed run,
the next start does.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import ipaddress
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.parts import Store
from benchmarks.faults.steps import STEPS, Steps, chosen, run_matrix
from benchmarks.hosts.faults import FAULTS, JOINING, WORKERS, Cluster, Fault, breaking
from benchmarks.hosts.network import Host, Network, Plan, missing_for_hosts
from benchmarks.hosts.services import (
    HEAD_PORT,
    RayNode,
    environment_of,
    missing_services,
    storage,
    tracking,
)

HEAD, S3, MLFLOW = "head", "s3", "mlflow"
ADDRESSES = "10.77.0.0/24"
LOCK = Path("/run/hfd-hosts.lock")
FILES, FILES_PREFIX = "/var/tmp", "hfd-hosts-run-"
SETTINGS = ("cluster.train_workers=2",)


@dataclass(frozen=True)
class World:
    cluster: Cluster
    steps: Steps


def run_cell(world: World, step: str, fault: Fault) -> tuple[str, str]:
    """Run a cell; return its outcome, and a message if that is FAILED."""
    workspace = f"s3://tests/cells/{step}-{fault}"
    world.steps.copy_before(step, workspace)
    with breaking(world.cluster, fault) as act:
        running = world.steps.start(step, workspace)
        try:
            if not world.steps.when_at_work(running, workspace, step):
                return "FAILED", f"the step ended before the fault: {running.wait().err[-1500:]}"
            act()
            first = running.wait()
        finally:
            running.kill()
    return world.steps.verdict(step, workspace, first)


@contextlib.contextmanager
def world_of(plan: Plan, folder: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(plan, folder))
        hosts = {name: network.add(name) for name in (HEAD, S3, MLFLOW, *WORKERS)}
        s3 = stack.enter_context(storage(hosts[S3], folder / "s3"))
        environment = environment_of(s3)
        address = f"{hosts[HEAD].address}:{HEAD_PORT}"

        def worker(host: Host) -> RayNode:
            return RayNode(host, environment, cpus=1, head=address)

        # One after the other: Ray gives up what starts slowly.
        nodes = {HEAD: RayNode(hosts[HEAD], environment, cpus=0)}
        nodes[HEAD].wait_until_started()
        for name in WORKERS:
            nodes[name] = worker(hosts[name])
            nodes[name].wait_until_started()
        registry = stack.enter_context(tracking(hosts[MLFLOW], folder / "mlflow", s3))
        steps = Steps(Store(s3.environment), registry, address, environment, hosts[HEAD].enter, SETTINGS)
        steps.add_pictures(folder)
        yield World(Cluster(network, nodes, address, worker), steps)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Refuse a second matrix: each start removes the hosts of a killed one by their names."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("another matrix of hosts runs on this machine") from None
        yield


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """End as after Ctrl-C on SIGTERM and SIGHUP too; a further signal does not stop the removal."""

    def end(number: int, _: Any) -> None:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, end)
    yield


@contextlib.contextmanager
def folder_of(keep: Path | None) -> Iterator[Path]:
    """Yield a folder for the hosts' files outside ``/tmp``, which each host has for itself."""
    if keep is not None:
        if keep.exists() or keep.resolve().is_relative_to("/tmp"):
            raise SystemExit(f"--keep: got {keep}, expected a new folder that is not below /tmp")
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    for left in Path(FILES).glob(f"{FILES_PREFIX}*"):  # of a killed run
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=FILES_PREFIX, dir=FILES, ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # PostgreSQL runs as another user
        yield Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--keep", type=Path, help="a new folder for the hosts' files, which stays; not below /tmp")
    parser.add_argument(
        "--addresses", type=ipaddress.IPv4Network, default=ADDRESSES, help="a private range that is free"
    )
    options = parser.parse_args()
    steps, faults = chosen(options.steps, STEPS, "--steps"), chosen(options.faults, FAULTS, "--faults")
    if (missing := missing_for_hosts() or missing_services()) is not None:
        raise SystemExit(missing)
    plan = Plan("hfdh-", ipaddress.IPv4Network(options.addresses), (HEAD, S3, MLFLOW, *WORKERS, JOINING))
    with alone(), ended_by_signals(), folder_of(options.keep) as folder, world_of(plan, folder) as world:
        started = time.monotonic()
        world.steps.run_undisturbed(max(steps, key=STEPS.index))
        print(f"undisturbed: {time.monotonic() - started:.0f} s", flush=True)
        failed = run_matrix(steps, faults, partial(run_cell, world))
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
