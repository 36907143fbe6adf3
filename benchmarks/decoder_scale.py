"""Compare the prepare step with itself under ``prepare.downscale_in_decoder``, from S3, on the same photographs.

    python -m benchmarks.decoder_scale ../shared/data/photos [--rounds 3] [--cpus 2] [--copies 8] [--downscale 0.5]
    python -m benchmarks.decoder_scale ../shared/data/large --side 4000 --copies 2 --processor-time

The server, the photographs and the warm-up are those of ``benchmarks.prepare``. Both take turns. The PSNR is that of
crops of a JPEG scaled by its decoder, to the same crops of a full decode. With ``--side`` pictures are first scaled to
that longer side, in px, and stored as JPEGs of quality 90: they have less detail a pixel than photographs of that size.
With ``--processor-time`` the step runs in this one process, and the ratio is of its processor time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.prepare import Job, add_arguments, in_scratch, ours, served
from benchmarks.startup import processor
from hfd.config.presets import load_config
from hfd.data.crops import CropSettings
from hfd.data.examine import examine
from hfd.data.filters import FilterSettings
from hfd.image.load import load_picture
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import list_corpus
from pipelines.engine.open import open_engine
from pipelines.prepare import step as prepare

MAX_COMPARED = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--downscale", type=float, default=0.5)
    parser.add_argument("--side", type=int, help="Scale pictures to this longer side first.")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("overrides", nargs="*", help="Settings, as key=value.")
    arguments = parser.parse_args()
    with (
        sized(arguments.folder, arguments.side, arguments.limit) as folder,
        served(folder, arguments.limit, arguments.copies) as bucket,
    ):
        settings = [
            f"data.uri=s3://{bucket}/photos",
            "cluster.kind=inline" if arguments.processor_time else f"cluster.num_cpus={arguments.cpus}",
            f"prepare.downscale={arguments.downscale}",
            *arguments.overrides,
        ]
        config = load_config("desk", settings)
        corpus = list_corpus(config.data.uri, setting="data.uri")
        full = Job(bucket, [f"photos/{photo.key}" for photo in corpus.photos], config, corpus, arguments.cpus)
        scaled = replace(full, config=load_config("desk", [*settings, "prepare.downscale_in_decoder=true"]))
        compare_speed(full, scaled, arguments.rounds, is_processor_time=arguments.processor_time)
        compare_crops(full, scaled)


@contextmanager
def sized(folder: Path, side: int | None, limit: int | None) -> Iterator[Path]:
    """Yield a folder with the pictures of ``folder`` as JPEGs with this longer side, in px; None: that folder."""
    if side is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="hfd-bench-") as scratch:
        for photo in list_corpus(str(folder), setting="folder").photos[:limit]:
            picture = load_picture(photo.read(), name=photo.key)
            factor = side / max(picture.size)
            size = (round(picture.width * factor), round(picture.height * factor))
            path = (Path(scratch) / photo.key).with_suffix(".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.resize(size, Image.Resampling.LANCZOS).save(path, quality=90)
        yield Path(scratch)


def prepared(job: Job, engine: Any, scratch: Path) -> float:
    """Return the processor time of the step in this process."""
    started = time.process_time()
    prepare.plan(Context(job.config, Folder(str(scratch)), engine, inputs=Inputs(job.corpus))).run()
    return time.process_time() - started


def compare_speed(full: Job, scaled: Job, rounds: int, *, is_processor_time: bool) -> None:
    rates: dict[str, list[float]] = {"full decode": [], "scaled by the decoder": []}
    seconds = prepared if is_processor_time else ours
    if is_processor_time:
        with open_engine(full.config.cluster) as ready:
            in_scratch(partial(prepared, full, ready))  # imports, and the client
    for _ in range(rounds):
        for name, job in zip(rates, (full, scaled), strict=True):
            with open_engine(job.config.cluster) as ready:
                rates[name].append(len(job.keys) / in_scratch(partial(seconds, job, ready)))
    processes = "one process, by processor time" if is_processor_time else f"{full.cpus} processes"
    print(f"{processor()}, {processes}, downscale {full.factor}, {len(full.keys)} photographs")
    medians = [statistics.median(found) for found in rates.values()]
    for (name, found), median in zip(rates.items(), medians, strict=True):
        print(f"{name:<22} {median:7.1f} images/s ({', '.join(f'{rate:.1f}' for rate in found)})")
    print(f"ratio {medians[1] / medians[0]:.2f}")


def compare_crops(full: Job, scaled: Job) -> None:
    """Compare crops, and the processor time of examining and cutting, in this process."""
    settings = [_crop_settings(job) for job in (full, scaled)]
    seconds, found, sizes = [0.0, 0.0], [], []
    for photo in full.corpus.photos[:: max(1, len(full.corpus.photos) // MAX_COMPARED)]:
        data, crops = photo.read(), []
        for index, one in enumerate(settings):
            started = time.process_time()
            examined = examine(data, photo.key, one, FilterSettings(), hashed=True)
            seconds[index] += time.process_time() - started
            crops.append(examined.crops)
        sizes.append((examined.width or 0) * (examined.height or 0))
        for a, b in zip(*crops, strict=True):
            error = np.square(a.x.astype(np.float64) - b.x).mean()
            found.append(10 * math.log10(255.0**2 / error) if error else math.inf)
    low, middle = np.percentile(found, [1, 50], method="lower")
    print(
        f"PSNR of {len(found)} crops: median {middle:.1f} dB, 1 % at or below {low:.1f} dB, least {min(found):.1f} dB"
    )
    print(f"examining and cutting, {np.mean(sizes) / 1e6:.2f} MP: {seconds[0] / seconds[1]:.2f} times as fast")


def _crop_settings(job: Job) -> CropSettings:
    values = job.config.prepare.model_dump()
    names = [field.name for field in fields(CropSettings) if field.name != "seed"]
    return CropSettings(seed=job.config.seed, **{name: values[name] for name in names})


if __name__ == "__main__":
    main()
