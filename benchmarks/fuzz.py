"""Fuzz the container and the whole decoder with damaged files, and count the outcomes.

    python -m benchmarks.fuzz --cases 100000

Every file goes through the container, its sections and the decoding to a picture, with a small untrained network, in
a process limited to 1 GiB above its memory at the start and, per file, five seconds of processor time, or two minutes
of wall time for a process that does not progress. A file whose symbols do not match their checksum is decoded a second
time with a matching one, so that the synthesis gets damaged latents too. Allowed outcomes: a BitstreamError, a
DataError for size, or a picture of the size that the header states. Anything else is a failure; its file is kept under
--keep, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

WATCHDOG_S = 5.0
IDLE_S = 120.0
POLL_S = 0.5
MEMORY_BYTES = 2**30
READY = "ready"
PROGRAM = (sys.executable, "-m", "benchmarks.fuzz")
CASES_PER_WORKER = 5000
"""Cases before a worker is replaced: oneDNN caches code of the last thousand shapes, half a gigabyte of addresses."""


@dataclass
class Tally:
    """Outcomes by kind of file; failures as lines; the largest memory and time of a file."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    slowest_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--max-pixels", type=int, default=2**18, help="the largest picture that the reader allows")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments.first, arguments.cases, arguments.max_pixels, arguments.worker)
        return
    tally = run(arguments.first, arguments.cases, arguments.max_pixels, arguments.keep)
    print_table(tally)
    sys.exit(bool(tally.failures))


def run(first: int, cases: int, max_pixels: int, keep: Path, program: Sequence[str] = PROGRAM) -> Tally:
    """Run the cases on workers, processes of ``program``; replace one that dies or hangs, and keep its file."""
    tally, position, last = Tally(), first, first + cases
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "case.hfd"
        while position < last:
            end = min(position + CASES_PER_WORKER, last)
            command = [*program, "--first", str(position), "--cases", str(end - position)]
            command += ["--max-pixels", str(max_pixels), "--worker", str(scratch)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as worker:
                position, trouble = follow(worker, position, end, tally, scratch, keep)
                worker.kill()
            if trouble:
                kept(f"case {position}: {trouble}, exit code {worker.wait()}", position, tally, scratch, keep)
                position += 1
    return tally


def follow(
    worker: subprocess.Popen[bytes], position: int, last: int, tally: Tally, scratch: Path, keep: Path
) -> tuple[int, str]:
    """Count a worker's reports until it is done, dies or hangs; then return its case and the fault."""
    lines, ready = worker.stdout, False
    assert lines is not None
    while position < last:
        # no limit for the start
        if ready and (trouble := waited(worker.pid, lines)):
            return position, trouble
        line = lines.readline().decode().rstrip("\n")
        if not line:
            return position, "crash" if ready else "worker that does not start"
        if not ready:
            assert line == READY
            ready = True
            continue
        kind, outcome, seconds, grown = line.split("\t")
        tally.outcomes[kind, outcome] += 1
        tally.slowest_s = max(tally.slowest_s, float(seconds))
        tally.peak_bytes = max(tally.peak_bytes, int(grown))
        if outcome.startswith("failure"):
            kept(f"case {position}: {kind}: {outcome}", position, tally, failed(scratch, position), keep)
        position += 1
    return position, ""


def waited(pid: int, lines: IO[bytes]) -> str:
    """Wait for a worker's next line; return the fault if none comes."""
    spent_s, begun = processor_s(pid), time.monotonic()
    while not select.select([lines], [], [], POLL_S)[0]:
        if processor_s(pid) - spent_s > WATCHDOG_S:
            return f"hang of more than {WATCHDOG_S:g} s of processor time"
        if time.monotonic() - begun > IDLE_S:
            return f"standstill of more than {IDLE_S:g} s"
    return ""


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kept(what: str, position: int, tally: Tally, scratch: Path, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    reproducer = keep / f"case-{position}.hfd"
    reproducer.write_bytes(scratch.read_bytes() if scratch.exists() else b"")
    tally.failures.append(f"{what}: {reproducer}")
    print(tally.failures[-1], file=sys.stderr, flush=True)


def failed(scratch: Path, position: int) -> Path:
    """Path of the file of a failure that the worker survives; the next case overwrites the scratch file."""
    return scratch.with_name(f"failed-{position}.hfd")


def print_table(tally: Tally) -> None:
    kinds = sorted({kind for kind, _ in tally.outcomes})
    outcomes = sorted({outcome.split(":")[0] for _, outcome in tally.outcomes})
    print(f"{'':<18}" + "".join(f"{outcome:>21}" for outcome in outcomes))
    for kind in [*kinds, "all"]:
        row = Counter[str]()
        for (one, outcome), count in tally.outcomes.items():
            row[outcome.split(":")[0]] += count * (kind in (one, "all"))
        print(f"{kind:<18}" + "".join(f"{row[outcome]:>21}" for outcome in outcomes))
    print(f"{sum(tally.outcomes.values())} files, {len(tally.failures)} failures")
    print(f"most memory over the start {tally.peak_bytes / 2**20:.0f} MiB")
    print(f"slowest file {tally.slowest_s:.2f} s of processor time")


# --- the worker ----------------------------------------------------------------------------------


def work(first: int, cases: int, max_pixels: int, scratch: Path) -> None:
    """Print the outcome of each case on standard output."""
    import torch

    from tests.support.hostile import hostile_file

    torch.set_num_threads(1)
    codec, files = small_codec(), []
    files = seed_files(codec)
    limit = _address_space() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = _peak()
    print(READY, flush=True)
    for index in range(first, first + cases):
        case = hostile_file(index, files)
        scratch.write_bytes(case.data)
        begun = time.process_time()
        outcome = outcome_of(case.data, codec, max_pixels)
        seconds = time.process_time() - begun
        if outcome.startswith("failure"):
            failed(scratch, index).write_bytes(case.data)
        print(case.kind, outcome, f"{seconds:.3f}", _peak() - start, sep="\t", flush=True)


def small_codec():  # type: ignore[no-untyped-def]
    from hfd.autoencoder.make_tables import build_tables
    from hfd.autoencoder.weights import Autoencoder
    from hfd.codec.codec import Codec
    from tests.support.networks import lively_elic

    model = lively_elic(16, 16, (8, 8)).requires_grad_(False)
    return Codec(Autoencoder(model, build_tables(model), {}, "5eed" * 16), None)


def seed_files(codec) -> list[bytes]:  # type: ignore[no-untyped-def]
    """Make valid files, plain and with every section, of pictures that fit the stride and that do not."""
    import numpy as np

    from hfd.codec.sampling_options import SamplingOptions
    from hfd.codec.sections import Extras

    rng = np.random.default_rng(0)
    alpha = np.add.outer(np.arange(33), np.arange(70)).astype(np.uint8)
    sampling = SamplingOptions(7, "ancestral", gamma=0.3, realism=0.7, grain=True, seed=2**40)
    made = [
        ((64, 64), Extras()),
        ((1, 1), Extras()),
        ((65, 130), Extras()),
        ((33, 70), Extras(alpha, bytes(3000), rng.bytes(60), sampling)),
        ((33, 70), Extras(icc=rng.bytes(200), sampling=SamplingOptions(steps=3))),
    ]
    pictures = [(rng.integers(0, 256, (*size, 3), dtype=np.uint8), extras) for size, extras in made]
    return [codec.compress(x, sections=extras.to_sections()).data for x, extras in pictures]


def outcome_of(data: bytes, codec, max_pixels: int, *, again: bool = True) -> str:  # type: ignore[no-untyped-def]
    """The error's name, "picture", or "failure: ..."."""
    from hfd.codec.container import pack, unpack
    from hfd.codec.sections import read_extras
    from hfd.errors import BitstreamError, DataError, DecodeMismatchError

    try:
        container = unpack(data)
        picture = codec.reconstruct(data, max_pixels=max_pixels)
        if picture.shape != (container.height, container.width, 3):
            return f"failure: a picture of shape {picture.shape}"
        read_extras(container, max_pixels=max_pixels)
        return "picture"
    except DecodeMismatchError as error:
        found = re.search(r"got ([0-9a-f]{8})\b", str(error))
        if again and found:
            forged = pack(replace(container, checksum=int(found[1], 16)))
            second = outcome_of(forged, codec, max_pixels, again=False)
            if second != "picture":
                return second if second.startswith(("failure", "BitstreamError")) else f"failure: then {second}"
        return type(error).__name__
    except BitstreamError as error:
        return type(error).__name__
    except DataError as error:
        return type(error).__name__ if error.reason == "too-large" else f"failure: DataError {error}"
    except BaseException as error:
        return f"failure: {type(error).__name__} {' '.join(str(error).split())[:100]}"


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
