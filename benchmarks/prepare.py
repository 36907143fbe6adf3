"""Compare the prepare step from S3 with simpler programs, on the same photographs from the same server.

    python -m benchmarks.prepare ../shared/data/photos [--rounds 3] [--cpus 2] [--copies 8]

The server is a SeaweedFS on this machine, whose load affects all programs equally. Ours checks, rejects, splits, hashes
and writes shards, on its own Ray. It is compared with:

- plain: a pool of processes, each with a boto3 client; fetch, decode, shrink, cut, and drop the result.
- plain, saving: the same, and each crop into a file of its own with ``numpy.save``.
- single-image tasks: the same function as one Ray task for each photograph; the object store carries the crop to the
driver, which writes the same shards.

Use enough photographs: Ray Data lets a worker wait for a second at the start of a step. Each photograph is stored
unchanged and in up to seven other orientations, encoded again as a JPEG of quality 90. Each program is warmed up first,
so that the start of Ray, the pool and their imports is not counted. With ``--profile`` ours runs in this one process,
under cProfile. With ``--processor-time`` ours and the two plain programs take turns in this one process, and the ratios
are of processor time, which other programs of the machine change little.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import itertools
import math
import multiprocessing
import os
import re
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.startup import processor
from hfd.config import Config
from hfd.config.presets import load_config
from hfd.data.crops import Crop
from hfd.data.shards import open_shard, shard_name
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import Corpus, list_corpus
from pipelines.corpus.photo import Photo
from pipelines.engine.open import open_engine
from pipelines.prepare import step as prepare
from tests.support.s3_server import find_weed, s3_server

SIDE = 512
_client: Any = None


def fetch_and_crop(bucket: str, key: str, factor: float) -> npt.NDArray[np.uint8]:
    """Fetch, open, shrink and crop the centre, as a simple program would."""
    global _client
    if _client is None:
        import boto3

        _client = boto3.client("s3")
    return cropped(_client.get_object(Bucket=bucket, Key=key)["Body"].read(), factor)


def cropped(data: bytes, factor: float) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)
    left, top = max(0, (picture.width - SIDE) // 2), max(0, (picture.height - SIDE) // 2)
    return np.asarray(picture.crop((left, top, min(left + SIDE, picture.width), min(top + SIDE, picture.height))))


def fetch_and_drop(bucket: str, key: str, factor: float) -> int:
    return int(fetch_and_crop(bucket, key, factor).nbytes)


def fetch_and_save(bucket: str, key: str, factor: float, folder: Path) -> int:
    x = fetch_and_crop(bucket, key, factor)
    np.save(folder / f"{key.replace('/', '-')}.npy", x)
    return int(x.nbytes)


@dataclass(frozen=True)
class Job:
    """The input that all programs share."""

    bucket: str
    keys: list[str]
    config: Config
    corpus: Corpus
    cpus: int

    @property
    def factor(self) -> float:
        return self.config.prepare.downscale or 1.0


def plain(job: Job, folder: Path | None = None) -> float:
    """Run the plain pool. ``folder``: for the crops; None: drop them."""
    work = fetch_and_save if folder else fetch_and_drop
    arguments = [(job.bucket, key, job.factor, *([folder] if folder else [])) for key in job.keys]
    with multiprocessing.get_context("spawn").Pool(job.cpus) as pool:
        pool.starmap(work, arguments[: 8 * job.cpus], chunksize=4)
        started = time.perf_counter()
        pool.starmap(work, arguments, chunksize=16)
        return time.perf_counter() - started


def single_tasks(job: Job, scratch: Path) -> float:
    import ray

    one = ray.remote(num_cpus=1)(fetch_and_crop)

    def work(keys: list[str], folder: Folder) -> None:
        size = job.config.prepare.photos_per_shard
        count = -(-len(keys) // size)
        tasks = [one.remote(job.bucket, key, job.factor) for key in keys]
        for index in range(count):
            with open_shard(folder, shard_name("train", index, count), ("x",)) as writer:
                for number in range(index * size, min(len(keys), (index + 1) * size)):
                    x = ray.get(tasks[number])
                    tasks[number] = None
                    writer.add(Crop(f"{number:08d}", keys[number], "", {"x": x}))

    work(job.keys[: 16 * job.cpus], Folder(str(scratch / "warm")))
    started = time.perf_counter()
    work(job.keys, Folder(str(scratch / "timed")))
    return time.perf_counter() - started


def ours(job: Job, ready: Any, scratch: Path) -> float:
    warm = Corpus(job.corpus.uri, job.corpus.photos[: 64 * job.cpus], 0)
    prepare.plan(Context(job.config, Folder(str(scratch / "warm")), ready, inputs=Inputs(warm))).run()
    started = time.perf_counter()
    prepare.plan(Context(job.config, Folder(str(scratch / "timed")), ready, inputs=Inputs(job.corpus))).run()
    return time.perf_counter() - started


@contextmanager
def stored() -> Iterator[list[float]]:
    """Yield a list that receives the peak size of Ray's object store, in MiB, sampled."""
    import ray
    from ray._private.internal_api import memory_summary

    address = ray.get_runtime_context().gcs_address  # other Rays may run on this machine
    peak, stop = [math.nan], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            found = re.search(r"Plasma memory usage (\d+) MiB", memory_summary(address, stats_only=True))
            if found:
                peak[0] = float(found[1]) if math.isnan(peak[0]) else max(peak[0], float(found[1]))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def in_scratch(work: Callable[[Path], float]) -> float:
    scratch = Path(tempfile.mkdtemp(prefix="hfd-bench-"))
    try:
        return work(scratch)
    finally:
        shutil.rmtree(scratch)


def turned(data: bytes, copy: int) -> bytes:
    """Return the photograph in the ``copy``-th orientation; 0: unchanged."""
    if not copy:
        return data
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").transpose(Image.Transpose(copy - 1)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@contextmanager
def served(folder: Path, limit: int | None, copies: int = 1) -> Iterator[str]:
    """Start a server with the photographs of ``folder``, set the environment for it, and yield its bucket."""
    weed = find_weed()
    assert weed is not None, "needs the binary weed: install hfd[dev]"
    photos = list_corpus(str(folder), setting="folder").photos[:limit]
    with tempfile.TemporaryDirectory(prefix="hfd-bench-s3-") as scratch, s3_server(weed, Path(scratch)) as server:
        os.environ.update(server.environment)
        import boto3

        client = boto3.client("s3")

        def put(one: tuple[Photo, int]) -> None:
            photo, copy = one
            client.put_object(Bucket=server.bucket, Key=f"photos/{copy}/{photo.key}", Body=turned(photo.read(), copy))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, itertools.product(photos, range(copies))))
        yield server.bucket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the photographs, and how often and on how many cores they are prepared."""
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--limit", type=int, help="Number of photographs, the first by name.")
    parser.add_argument("--copies", type=int, default=8, choices=range(1, 9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("overrides", nargs="*", help="Settings of ours, as key=value.")
    arguments = parser.parse_args()
    with served(arguments.folder, arguments.limit, arguments.copies) as bucket:
        cluster = (
            ["cluster.kind=inline"]
            if arguments.profile or arguments.processor_time
            else [f"cluster.num_cpus={arguments.cpus}"]
        )
        config = load_config("desk", [f"data.uri=s3://{bucket}/photos", *cluster, *arguments.overrides])
        corpus = list_corpus(config.data.uri, setting="data.uri")
        job = Job(bucket, [f"photos/{photo.key}" for photo in corpus.photos], config, corpus, arguments.cpus)
        if arguments.profile:
            profile(job)
        elif arguments.processor_time:
            compare_processor_time(job, arguments.rounds)
        else:
            compare(job, arguments.rounds)


def profile(job: Job) -> None:
    with open_engine(job.config.cluster) as ready:
        profiler = cProfile.Profile()
        profiler.enable()
        seconds = in_scratch(lambda scratch: ours(job, ready, scratch))
        profiler.disable()
    print(f"{len(job.keys) / seconds:.1f} images/s in one process, under the profiler")
    import pstats

    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


def compare_processor_time(job: Job, rounds: int) -> None:
    def used(work: Callable[[Path], object]) -> float:
        with tempfile.TemporaryDirectory(prefix="hfd-bench-") as scratch:
            started = time.process_time()
            work(Path(scratch))
            return (time.process_time() - started) / len(job.keys) * 1e3

    def drop(_: Path) -> None:
        for key in job.keys:
            fetch_and_drop(job.bucket, key, job.factor)

    def save(scratch: Path) -> None:
        for key in job.keys:
            fetch_and_save(job.bucket, key, job.factor, scratch)

    def prepared(scratch: Path) -> None:
        prepare.plan(Context(job.config, Folder(str(scratch)), ready, inputs=Inputs(job.corpus))).run()

    found: dict[str, list[float]] = {"ours": [], "plain": [], "plain, saving": []}
    with open_engine(job.config.cluster) as ready:
        few = replace(job, corpus=Corpus(job.corpus.uri, job.corpus.photos[:64], 0))
        in_scratch(lambda scratch: ours(few, ready, scratch))  # imports, and the client
        for _ in range(rounds):
            for name, work in zip(found, (prepared, drop, save), strict=True):
                found[name].append(used(work))
    print(f"{processor()}, {len(job.keys)} photographs, downscale {job.factor}, one process")
    for name, values in found.items():
        ratios = [value / own for value, own in zip(values, found["ours"], strict=True)]
        shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:<14} {statistics.median(values):6.2f} ms of processor time a photograph, of ours {shown}")


def compare(job: Job, rounds: int) -> None:
    rates: dict[str, list[float]] = {"plain": [], "plain, saving": [], "single-image tasks": [], "ours": []}
    peaks: dict[str, list[float]] = {name: [] for name in rates}
    count = len(job.keys)
    for _ in range(rounds):
        rates["plain"].append(count / plain(job))
        rates["plain, saving"].append(count / in_scratch(lambda scratch: plain(job, scratch)))
        with open_engine(job.config.cluster) as ready:
            with stored() as peak:
                rates["ours"].append(count / in_scratch(lambda scratch: ours(job, ready, scratch)))
            peaks["ours"] += peak
            with stored() as peak:
                rates["single-image tasks"].append(count / in_scratch(lambda scratch: single_tasks(job, scratch)))
            peaks["single-image tasks"] += peak
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        runs = ", ".join(f"{rate:.1f}" for rate in rates[name])
        held = ", ".join(f"{peak:.0f}" for peak in peaks[name]) or "none"
        print(f"{name:<20} {median:7.1f} images/s ({runs}); most in the object store, MiB: {held}")
    for name, goal in (("plain", 0.9), ("plain, saving", 0.9), ("single-image tasks", 2.0)):
        print(f"ours / {name:<20} {medians['ours'] / medians[name]:.2f} (goal: at least {goal})")


if __name__ == "__main__":
    main()
