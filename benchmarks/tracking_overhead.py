"""Measure the cost of tracking for a training step: real work on one thread, with logging off and on alternately.

Blocks of steps alternate (off, on, on, off, ...), so that changes of the machine's speed affect both. Two results:

* ``on/off``: the median, over pairs of neighbouring blocks, of the ratio of wall times. A block outlasts the
  interval at which metrics are sent, so that it includes sending. On a busy machine its quartiles are
    wider than the effect.
* ``bound``: the seconds inside ``log_metrics`` plus the processor time of all other threads of the process
  (sending all metrics, and sampling the machine), over the wall time of the steps. It is the cost of
    logging if no core were free, and does not depend on other programs.

    python -m benchmarks.tracking_overhead [--pairs 6] [--steps 120] [--metrics 6] [--every 1]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.tracking import StepRun, TrackingSettings, parent_run


def matmul_size(seconds: float) -> int:
    """Return the side of a square float32 product that takes about ``seconds`` on this machine."""
    x = torch.randn(1024, 1024)
    x @ x
    started = time.perf_counter()
    for _ in range(5):
        x @ x
    return int(1024 * (seconds / ((time.perf_counter() - started) / 5)) ** (1 / 3))


@dataclass
class Block:
    """Sums over one block of steps, in seconds."""

    steps: list[float]
    inside: float = 0.0
    others: float = 0.0


def block(x: torch.Tensor, first: int, options: argparse.Namespace, run: StepRun | None) -> Block:
    """Run a block of steps; with a ``run``, log after each and drain the queue after the last."""
    done = Block([])
    cpu, own = time.process_time(), time.thread_time()
    for step in range(first, first + options.steps):
        started = time.perf_counter()
        x @ x
        if run is not None and step % options.every == 0:
            metrics = {f"train/metric{i}": float(step + i) for i in range(options.metrics)}
            called = time.perf_counter()
            run.log_metrics(step, metrics)
            done.inside += time.perf_counter() - called
        done.steps.append(time.perf_counter() - started)
    if run is not None:
        run.flush()  # not timed as a step, but its processor time counts in ``others``
    done.others = (time.process_time() - cpu) - (time.thread_time() - own)
    return done


def measure(name: str, settings: TrackingSettings, x: torch.Tensor, options: argparse.Namespace) -> None:
    """Print the cost of logging to ``settings``, relative to a step without."""
    off: list[Block] = []
    on: list[Block] = []
    with parent_run(settings, name=name) as parent, parent.child("train") as run:
        block(x, 0, options, run)  # the first connection of the background thread
        for pair in range(1, options.pairs + 1):
            for logged in (False, True) if pair % 2 else (True, False):
                (on if logged else off).append(block(x, pair * options.steps, options, run if logged else None))
    ratios = [sum(b.steps) / sum(a.steps) for a, b in zip(off, on, strict=True)]
    steps, wall = options.pairs * options.steps, sum(sum(b.steps) for b in on)
    bound = sum(b.inside + b.others for b in on) / wall
    plain, timed = [t for b in off for t in b.steps], [t for b in on for t in b.steps]
    inside, others = (sum(getattr(b, part) for b in on) / steps * 1e6 for part in ("inside", "others"))
    print(f"{name}:")
    print(f"  median step   off {middle(plain):.1f} ms, on {middle(timed):.1f}")
    print(f"  longest step  off {max(plain) * 1e3:.0f} ms, on {max(timed) * 1e3:.0f}")
    print(f"  on/off        {statistics.median(ratios):.4f} (quartiles {quartiles(ratios)})")
    print(f"  log_metrics   {inside * options.every:.0f} us a call")
    print(f"  bound         {100 * bound:.2f} % of a step ({others:.0f} us a step on other threads)")


def middle(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return statistics.median(seconds) * 1e3


def quartiles(values: list[float]) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.4f} to {high:.4f}"


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start a tracking server on loopback, yield its address, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as out:
        process = subprocess.Popen(
            command, env=os.environ | quiet, cwd=folder, stdout=out, stderr=out, start_new_session=True
        )
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6, help="pairs of an off and an on block (at least 2)")
    parser.add_argument("--steps", type=int, default=120, help="steps in a block")
    parser.add_argument("--metrics", type=int, default=6, help="metrics logged at every step")
    parser.add_argument("--every", type=int, default=1, help="number of steps between logs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    size = matmul_size(0.05)
    x = torch.randn(size, size)
    print(
        f"{size} x {size} float32 product, {options.metrics} metrics every {options.every} step(s), "
        f"{os.cpu_count()} CPUs"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sqlite = TrackingSettings(f"sqlite:///{folder}/mlflow.db", "overhead", folder.as_uri())
        measure("off", TrackingSettings(None, "overhead"), x, options)
        measure("sqlite", sqlite, x, options)
        with server(folder) as uri:
            measure("http", TrackingSettings(uri, "overhead"), x, options)


if __name__ == "__main__":
    main()
