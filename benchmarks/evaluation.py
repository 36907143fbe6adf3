"""Compare the evaluation with a plain loop per core, and its scheduling with the ideal on 64 simulated workers.

    python -m benchmarks.evaluation ../shared/data/kodak [--pictures 24] [--rounds 3] [--skip-loops]

First: ours on Ray with two workers (parts, files, rows and features kept, resumable) against two plain processes that
share the same pictures and compress, decode, sample and measure them in a loop without writing results. Both start
without worker processes, and end with the last figure; Ray is already running. Then ours with one worker.

Second: 64 actors of 1/32 CPU whose model sleeps 0.2 to 0.5 s per part, as if it waited for a GPU; efficiency is the
time slept over 64 times the time from the first part's start to the last one's end. It is a simulation, not a
measurement of 64 machines or GPUs. Prints ratios.
"""

from __future__ import annotations

import argparse
import functools
import math
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.startup import processor

if TYPE_CHECKING:
    from pipelines.corpus.photo import Photo

WORKERS = 2
SIMULATED = 64
PARTS_PER_WORKER = 40
SHORTEST_S, LONGEST_S = 0.2, 0.5


def settings() -> Any:
    from hfd.config import SamplerConfig
    from pipelines.evaluate.measure import MeasureSettings

    return MeasureSettings((SamplerConfig(),), 128, (), (1.0,), 4_194_304, 262_144)


def model() -> str:
    from hfd.io.model_folders import shipped_models

    return shipped_models()["desk-025"].uri


def plain_loop(paths: list[str]) -> float:
    """Run a plain loop around the same calls; return the sum of a figure, to check that the work is the same."""
    import torch

    from hfd.image.load import load_rgb
    from pipelines.evaluate.measure import code, load_codec, measure, sample_batch

    torch.set_num_threads(1)
    codec, total = load_codec(model(), "cpu"), 0.0
    for path in paths:
        coded = code(codec, path, load_rgb(Path(path)), lambda data: data)
        (samples,) = sample_batch(codec, [coded], settings())
        total += sum(row.values["psnr"] for row in measure(coded, samples, settings()).rows)
    return total


def plain(paths: list[str]) -> tuple[float, float]:
    """Time one plain process per worker, each with its share; return seconds and the sum of the figures."""
    context = multiprocessing.get_context("spawn")
    started = time.perf_counter()
    with context.Pool(WORKERS) as pool:
        totals = pool.map(plain_loop, [paths[i::WORKERS] for i in range(WORKERS)], chunksize=1)
    return time.perf_counter() - started, sum(totals)


def ours(engine: Any, photos: Sequence[Photo]) -> tuple[float, float]:
    """Time the evaluation's own parts, one picture each, as for any set of fewer than 256."""
    import pyarrow.parquet as pq

    from hfd.io.storage import Folder
    from pipelines.evaluate.images import CorpusPhoto, ImageTask, PartPlan, evaluate_part, row_name
    from pipelines.evaluate.measure import load_codec
    from pipelines.runs.parts import run_parts

    plans = [PartPlan((ImageTask(i, CorpusPhoto(photo), False),), settings(), 2**30) for i, photo in enumerate(photos)]
    with tempfile.TemporaryDirectory(prefix="hfd-bench-") as scratch:
        started = time.perf_counter()
        run_parts(
            engine,
            Folder(scratch),
            plans,
            evaluate_part,
            lambda *_: None,
            load=functools.partial(load_codec, model(), "cpu"),
        )
        seconds = time.perf_counter() - started
        tables = [pq.read_table(Path(scratch, row_name(i, len(plans)))) for i in range(len(plans))]
        return seconds, sum(sum(table["psnr"].to_pylist()) for table in tables)


def compare_loops(folder: str, num_pictures: int, rounds: int) -> None:
    from hfd.config import ClusterConfig
    from pipelines.corpus.listing import list_corpus
    from pipelines.engine.open import open_engine

    photos = list_corpus(folder, setting="folder").photos[:num_pictures]
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    with open_engine(ClusterConfig(kind="local", num_cpus=WORKERS)) as ready:
        for _ in range(rounds):
            seconds, expected = plain([str(Path(folder, photo.name)) for photo in photos])
            times["plain"].append(seconds)
            seconds, found = ours(ready, photos)
            times["ours"].append(seconds)
            if not math.isclose(found, expected, rel_tol=1e-6):
                raise SystemExit(f"the figures differ: {found} and {expected}, so that the times cannot be compared")
    with open_engine(ClusterConfig(kind="local", num_cpus=1, train_threads=1)) as ready:
        times["ours with one"] = [ours(ready, photos)[0] for _ in range(rounds)]
    ratios = [a / b for a, b in zip(times["plain"], times["ours"], strict=True)]
    for name, values in times.items():
        print(f"{name:<13} {len(photos) / statistics.median(values):.3f} pictures/s")
    print(f"ratio ours/plain {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")
    speedup = statistics.median(times["ours with one"]) / statistics.median(times["ours"])
    print(f"{WORKERS} workers against one {speedup:.3f}, {processor()}", flush=True)


def wait_for_all(there: str) -> None:
    """Load a model only when all workers run, since the start of 64 processes on a few cores is not measured."""
    Path(there, str(os.getpid())).touch()
    while len(list(Path(there).iterdir())) < SIMULATED:
        time.sleep(0.05)


def sleep_part(part: Any, _model: None) -> dict[str, Any]:
    seconds: float = part.payload
    started = time.time()
    time.sleep(seconds)
    return {"digest": "", "slept": seconds, "started": started, "ended": time.time()}


def measure_scheduling() -> None:
    from hfd.config import ClusterConfig
    from hfd.io.storage import Folder
    from pipelines.engine.open import open_engine
    from pipelines.runs.parts import run_parts

    rng = random.Random(0)
    naps = [rng.uniform(SHORTEST_S, LONGEST_S) for _ in range(SIMULATED * PARTS_PER_WORKER)]
    config = ClusterConfig(
        kind="local", num_cpus=WORKERS, map_workers=SIMULATED, map_cpus=WORKERS / SIMULATED, train_threads=1
    )
    with tempfile.TemporaryDirectory(prefix="hfd-bench-") as scratch, open_engine(config) as ready:
        there = Path(scratch, "there")
        there.mkdir()
        load = functools.partial(wait_for_all, str(there))
        results = run_parts(ready, Folder(f"{scratch}/out"), naps, sleep_part, lambda *_: None, load=load)
    span = max(result["ended"] for result in results) - min(result["started"] for result in results)
    slept = sum(result["slept"] for result in results)
    print(
        f"{len(naps)} parts on {SIMULATED} simulated workers: {slept / SIMULATED:.2f} s ideal, {span:.2f} s taken, "
        f"efficiency {slept / SIMULATED / span:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-loops", action="store_true")
    arguments = parser.parse_args()
    measure_scheduling()
    if not arguments.skip_loops:
        compare_loops(arguments.folder, arguments.pictures, arguments.rounds)


if __name__ == "__main__":
    main()
