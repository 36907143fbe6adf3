"""Compare the prepare step from S3 with pipelines as users write them, on the same photographs from the same server.

    python -m benchmarks.prepare_peers ../shared/data/photos [--rounds 3] [--cpus 2] [--copies 8]

All fetch, decode, shrink and cut one crop a photograph, and keep it:

- Ray Data: ``read_binary_files``, one ``map`` and ``write_parquet``, on the same Ray as ours; crops as raw bytes.
- img2dataset-style: processes that each fetch a shard of photographs in 16 threads, and write each crop as a JPEG of
quality 95 with a JSON of its name, size and SHA-256 into a tar. That package itself fetches by HTTP without signatures.
- plain, saving: as in ``benchmarks.prepare``: a pool of processes and ``numpy.save``.

Ours also measures, splits, hashes and names what it rejects. The table has the rates, and their ratios to ours.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import statistics
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.prepare import Job, add_arguments, cropped, in_scratch, ours, plain, served
from benchmarks.startup import processor
from hfd.config.presets import load_config
from pipelines.corpus.listing import list_corpus
from pipelines.engine.open import open_engine

THREADS = 16
PER_SHARD = 128
WARM = 16
Run = Callable[[Path], float]


def ray_data(job: Job, scratch: Path) -> float:
    """Return the seconds of a pipeline of Ray Data."""
    import pyarrow.fs
    import ray.data

    endpoint = os.environ["AWS_ENDPOINT_URL"]
    scheme, _, host = endpoint.partition("://")
    filesystem = pyarrow.fs.S3FileSystem(endpoint_override=host, scheme=scheme, region=os.environ["AWS_DEFAULT_REGION"])
    ray.data.DataContext.get_current().enable_progress_bars = False

    def cut(row: dict[str, Any]) -> dict[str, Any]:
        x = cropped(row["bytes"], job.factor)
        return {"path": row["path"], "height": x.shape[0], "width": x.shape[1], "x": x.tobytes()}

    def work(keys: list[str], folder: Path) -> None:
        paths = [f"{job.bucket}/{key}" for key in keys]
        rows = ray.data.read_binary_files(paths, filesystem=filesystem, include_paths=True)
        rows.map(cut).write_parquet(str(folder))

    work(job.keys[: WARM * job.cpus], scratch / "warm")
    started = time.perf_counter()
    work(job.keys, scratch / "timed")
    return time.perf_counter() - started


def shard_to_tar(bucket: str, keys: list[str], factor: float, path: Path) -> None:
    """Write the crops of a shard of photographs into a tar."""
    with ThreadPoolExecutor(THREADS) as pool, tarfile.open(path, "w") as archive:
        fetched = pool.map(lambda key: _client().get_object(Bucket=bucket, Key=key)["Body"].read(), keys)
        for number, (key, data) in enumerate(zip(keys, fetched, strict=True)):
            x, buffer = cropped(data, factor), io.BytesIO()
            Image.fromarray(x).save(buffer, "JPEG", quality=95)
            stated = {"key": key, "height": x.shape[0], "width": x.shape[1], "sha256": hashlib.sha256(data).hexdigest()}
            for suffix, content in (("jpg", buffer.getvalue()), ("json", json.dumps(stated).encode())):
                info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


_made: Any = None


def _client() -> Any:
    global _made
    if _made is None:
        import boto3
        from botocore.config import Config

        _made = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    return _made


def tars(job: Job, scratch: Path) -> float:
    """Return the seconds of a pipeline in the manner of img2dataset."""
    shards = [job.keys[start : start + PER_SHARD] for start in range(0, len(job.keys), PER_SHARD)]
    plans = [(job.bucket, part, job.factor, scratch / f"{index:05d}.tar") for index, part in enumerate(shards)]
    warm = [(job.bucket, job.keys[:WARM], job.factor, scratch / f"warm-{index}.tar") for index in range(2 * job.cpus)]
    with multiprocessing.get_context("spawn").Pool(job.cpus) as pool:
        pool.starmap(shard_to_tar, warm, chunksize=1)
        started = time.perf_counter()
        pool.starmap(shard_to_tar, plans, chunksize=1)
        return time.perf_counter() - started


def compare(job: Job, rounds: int) -> None:
    rates: dict[str, list[float]] = {}

    def run(name: str, seconds: Run) -> None:
        rates.setdefault(name, []).append(len(job.keys) / in_scratch(seconds))

    for _ in range(rounds):
        with open_engine(job.config.cluster) as ready:
            run("ours", lambda scratch: ours(job, ready, scratch))
            run("Ray Data", lambda scratch: ray_data(job, scratch))
        run("img2dataset-style", lambda scratch: tars(job, scratch))
        run("plain, saving", lambda scratch: plain(job, scratch))
    print(f"{processor()}, {job.cpus} processes, {len(job.keys)} photographs, downscale {job.factor}")
    print("| program | images/s | of ours, by rounds |\n| --- | --- | --- |")
    for name, found in rates.items():
        ratios = [rate / own for rate, own in zip(found, rates["ours"], strict=True)]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {name} | {statistics.median(found):.1f} | {statistics.median(ratios):.2f} ({shown}) |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("overrides", nargs="*", help="Settings of ours, as key=value.")
    arguments = parser.parse_args()
    with served(arguments.folder, arguments.limit, arguments.copies) as bucket:
        settings = [f"data.uri=s3://{bucket}/photos", f"cluster.num_cpus={arguments.cpus}", *arguments.overrides]
        config = load_config("desk", settings)
        corpus = list_corpus(config.data.uri, setting="data.uri")
        compare(
            Job(bucket, [f"photos/{one.key}" for one in corpus.photos], config, corpus, arguments.cpus),
            arguments.rounds,
        )


if __name__ == "__main__":
    main()
