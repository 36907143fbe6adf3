"""The prepare step against a plain multiprocessing script that decodes and crops the same photographs.

    python benchmarks/prepare.py ../shared/data/photos [--rounds 3]

Ours checks, rejects, splits, hashes and writes shards; the plain script decodes, downscales, crops and drops
the result. Both use as many processes as there are CPUs; starting Ray is not counted (the step runs in an
engine that is up), starting the pool is not counted either. Then memory: the largest process of a prepare of
all photographs over that of a quarter of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from hfd.presets import load_config
from hfd.storage import Folder
from pipelines import prepare
from pipelines.cluster import engine
from pipelines.context import Context
from pipelines.corpus import Corpus, list_corpus

SIDE = 512


def decode_and_crop(path: str, factor: float) -> int:
    """What anyone would write: open, shrink, cut the middle."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)
    left, top = max(0, (picture.width - SIDE) // 2), max(0, (picture.height - SIDE) // 2)
    crop = picture.crop((left, top, min(left + SIDE, picture.width), min(top + SIDE, picture.height)))
    return int(np.asarray(crop).nbytes)


def plain(paths: list[str], factor: float, processes: int) -> float:
    with multiprocessing.Pool(processes) as pool:
        pool.starmap(decode_and_crop, [(path, factor) for path in paths[:processes]])
        started = time.perf_counter()
        pool.starmap(decode_and_crop, [(path, factor) for path in paths], chunksize=16)
        return time.perf_counter() - started


def ours(corpus: Corpus, kind: str) -> float:
    config = load_config("desk", [f"cluster.kind={kind}", "data.uri=unused"])
    scratch = tempfile.mkdtemp(prefix="hfd-bench-")
    try:
        with engine(config.cluster) as ready:
            # Imports belong to starting up, here and in the workers.
            prepare.run(Context(config, Folder(f"{scratch}/warm"), ready), Corpus(corpus.uri, corpus.photos[:512], 0))
            context = Context(config, Folder(f"{scratch}/timed"), ready)
            started = time.perf_counter()
            prepare.run(context, corpus)
            return time.perf_counter() - started
    finally:
        shutil.rmtree(scratch)


@contextmanager
def largest_process() -> Iterator[list[int]]:
    """The peak resident set of the largest process in this one's tree, sampled; bytes, in the list that is yielded."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not stop.wait(0.05):
            for process in [me, *me.children(recursive=True)]:
                try:
                    name = process.name()
                    if name.startswith(("ray::", "python")) or process == me:
                        info = process.memory_info()
                        peak[0] = max(peak[0], info.rss - info.shared)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def memory(folder: str, limit: int, kind: str) -> int:
    """In a process of its own, so that one measurement leaves nothing for the next."""
    command = [sys.executable, __file__, folder, "--memory-of", str(limit), "--kind", kind]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="local", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    corpus = list_corpus(arguments.folder, setting="folder")
    if arguments.memory_of:
        part = Corpus(corpus.uri, corpus.photos[: arguments.memory_of], 0)
        with largest_process() as peak:
            ours(part, arguments.kind)
        print(json.dumps(peak[0]))
        return
    count, processes = len(corpus.photos), os.cpu_count() or 1
    factor = load_config("desk").prepare.downscale or 1.0
    paths = [str(Path(arguments.folder) / photo.name) for photo in corpus.photos]
    rates: dict[str, list[float]] = {"plain multiprocessing": [], "ours, Ray": [], "ours, inline (one process)": []}
    for _ in range(arguments.rounds):
        rates["plain multiprocessing"].append(count / plain(paths, factor, processes))
        rates["ours, Ray"].append(count / ours(corpus, "local"))
        rates["ours, inline (one process)"].append(count / ours(corpus, "inline"))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        print(f"{name:<28} {median:7.1f} images/s, ratio {median / medians['plain multiprocessing']:.2f}")
    for kind in ("inline", "local"):
        small, large = memory(arguments.folder, count // 4, kind), memory(arguments.folder, count, kind)
        print(
            f"peak memory, {kind:<7} {large / 1e6:.0f} MB for {count} images, "
            f"{small / 1e6:.0f} MB for {count // 4}: ratio {large / small:.2f}"
        )


if __name__ == "__main__":
    main()
