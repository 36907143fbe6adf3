"""Pictures per second of a folder: one core, the engine's threads on all cores, and a process for each core.

    python -m benchmarks.throughput PICTURES [--rounds 3] [--cores 2] [--realism 1]

Whole processes of ``hfd compress PICTURES`` and ``hfd decompress`` of the results, in turns: with one core and
``--jobs 1``; with all of ``--cores`` and ``--jobs 1``, where the engine's threads share each picture; with all of them
and as many ``--jobs``. Prints medians, their ratios to one core, and the ratio of CPU seconds, which does not depend on
other programs. The outputs of all three are compared byte by byte.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.startup import keep_compiled, processor


@dataclass(frozen=True)
class Way:
    """``cores`` of the machine that the command may use, and its ``--jobs``."""

    name: str
    cores: int
    jobs: int


@dataclass(frozen=True)
class Run:
    """Seconds on the clock and of all processors."""

    wall: float
    cpu: float


def run(way: Way, command: list[str]) -> Run:
    allowed = sorted(os.sched_getaffinity(0))[: way.cores]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    arguments = [sys.executable, "-m", "hfd", *command, "--force", "--jobs", str(way.jobs)]
    before, started = os.times(), time.perf_counter()
    subprocess.run(
        arguments,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=partial(os.sched_setaffinity, 0, allowed),
    )
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(time.perf_counter() - started, cpu)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def compare(name: str, command: list[str], ways: list[Way], scratch: Path, rounds: int) -> Path:
    """Run the command in every way, and return the folder of its outputs."""
    runs: dict[str, list[Run]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            runs[way.name].append(run(way, [*command, "-o", str(scratch / f"{name}-{way.name}")]))
    outputs = [contents(scratch / f"{name}-{way.name}") for way in ways]
    equal = "equal" if all(one == outputs[0] for one in outputs) else "DIFFERENT"
    wall, cpu = (
        {way.name: statistics.median(getattr(one, field) for one in runs[way.name]) for way in ways}
        for field in ("wall", "cpu")
    )
    first = ways[0].name
    print(f"{name}: {len(outputs[0])} pictures, outputs {equal}")
    for way in ways:
        print(
            f"  {way.name:<12}{len(outputs[0]) / wall[way.name]:7.2f} pictures/s"
            f"{wall[first] / wall[way.name]:7.2f} times one core, CPU seconds {cpu[way.name] / cpu[first]:.2f} times",
            flush=True,
        )
    return scratch / f"{name}-{first}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--realism", type=float, default=1.0, help="of decompress; 0 decodes stage 1 alone")
    arguments = parser.parse_args()
    cores = arguments.cores
    ways = [Way("one core", 1, 1), Way("threads", cores, 1), Way("processes", cores, cores)]
    print(f"{processor()}, {cores} cores")
    with tempfile.TemporaryDirectory() as scratch:
        keep_compiled(Path(scratch) / "compiled")
        small = compare("compress", ["compress", str(arguments.pictures)], ways, Path(scratch), arguments.rounds)
        back = ["decompress", str(small), "--realism", str(arguments.realism)]
        compare("decompress", back, ways, Path(scratch), arguments.rounds)


if __name__ == "__main__":
    main()
