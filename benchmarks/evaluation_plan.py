"""Plan a large evaluation on paper, from costs that this command measures.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation_plan PICTURE [--records 10000 100000] [--workers 64]

First: records of tiny pictures, made by models that sleep, go through the real aggregation (parts and their files,
rows, block sums, merged distances, summary), each number in a process of its own that is driver and only worker at
once. The growth of its peak memory between two numbers is the driver's memory for each further picture, and the
distances of the smallest number are compared with those of all features at once.

Second: compression, decoding and metrics of a small and of a 1-megapixel cut of PICTURE by the shipped model, and the
metrics of one large picture, in processes of one thread. From both: the plan of a million small pictures and of a
thousand large ones. Seconds are of processor time: waiting for storage comes on top. Results go to standard output.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

from benchmarks.startup import processor
from hfd.config import ClusterConfig, SamplerConfig
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import shipped_models
from hfd.io.storage import Folder
from hfd.metrics.frechet import GaussianStats, frechet_distance
from hfd.metrics.of_image import DecodedImage
from hfd.metrics.original import Original
from hfd.metrics.patches import fid_patches
from hfd.metrics.table import image_metrics
from hfd.report.content import ImageRow
from hfd.report.summarise import summarise
from pipelines.engine.inline import Inline
from pipelines.evaluate.distances import EFFNET, FeatureFile, feature_name, measure_distances
from pipelines.evaluate.images import write_measured
from pipelines.evaluate.measure import Measured, MeasureSettings, PatchFeatures, code, load_codec, measure, sample_batch
from pipelines.evaluate.results import PartResult
from pipelines.evaluate.rows import Part, all_rows, curves_of
from pipelines.evaluate.subsets import subsets_of
from pipelines.runs.parts import StepPart, run_parts

T = TypeVar("T")
X_HAT, SAMPLE = ("autoencoder", "x_hat"), ("sample", "1 step")
PART, DIMENSION, DRAWS, EXACT_PATCHES = 64, 1280, 10, 8192
NAP_S = 0.005
SMALL_PX, CUT_PX, LARGE_MP = 256, 1024, 24.0


@dataclass(frozen=True)
class Simulated:
    """Costs of ``records``: seconds of all, bytes of files, peak bytes of the process, seconds to read finished parts.

    ``error``: of a distance, relative to that of all features at once; NaN: not compared.
    """

    records: int
    worker_s: float
    merge_s: float
    stored: int
    peak: int
    resume_s: float
    error: float


def features_of(index: int) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Features (1, D) of an original and of its two versions."""
    rng = np.random.default_rng(index)
    original = np.maximum(0.0, rng.normal(size=(1, DIMENSION)) + 0.1)
    versions = [np.maximum(0.0, original + size * rng.normal(size=original.shape)) for size in (0.3, 0.2)]
    return [one.astype(np.float32) for one in (original, *versions)]


def sleeping_part(part: StepPart[range], nap_s: float) -> dict[str, Any]:
    """Write the rows and features of a part as the evaluation does, after a nap in place of its networks."""
    time.sleep(nap_s)
    measured = {}
    for index in part.payload:
        original, *decoded = features_of(index)
        features = PatchFeatures(original, dict(zip((X_HAT, SAMPLE), decoded, strict=True)))
        name = f"pictures/{index:08d}.png"
        values = {metric.name: 0.25 + index % 100 / 1000 for metric in image_metrics()}
        rows = [ImageRow(name, *curve, SMALL_PX, SMALL_PX, 2048, values) for curve in (X_HAT, SAMPLE)]
        measured[index] = Measured(name, b"", {EFFNET: features}, rows)
    return PartResult("", [], write_measured(part, measured)).to_record()


def simulate(records: int, compare: bool) -> Simulated:
    plans = [range(start, min(records, start + PART)) for start in range(0, records, PART)]
    engine = Inline(ClusterConfig())
    with tempfile.TemporaryDirectory(prefix="hfd-bench-") as scratch:
        folder = Folder(scratch)

        def work() -> list[dict[str, Any]]:
            return run_parts(engine, folder, plans, sleeping_part, lambda *_: None, load=lambda: NAP_S)

        worker_s, found = timed(work)
        resume_s, _ = timed(work)
        stored = sum(entry.size for entry in folder.files())
        started = time.process_time()
        parts = [Part(folder, index, len(plans)) for index in range(len(plans))]
        table = all_rows(parts)
        curves = curves_of(table)
        assert not subsets_of(table, curves)
        distances = measure_distances(
            engine,
            folder,
            {EFFNET: [FeatureFile(folder, feature_name(part.index, part.count)) for part in parts]},
            [X_HAT, SAMPLE],
            num_patches={EFFNET: sum(PartResult.from_record(one).patches[EFFNET] for one in found)},
            exact_patches=EXACT_PATCHES,
            draws=DRAWS,
        )
        summary = summarise(curves, distances.of_curves)
        merge_s = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert [row.num_images for row in summary] == [records, records] and distances.num_blocks[EFFNET] > 0
    error = math.nan
    if compare:
        sides = [np.concatenate(one) for one in zip(*map(features_of, range(records)), strict=True)]
        whole = frechet_distance(GaussianStats.of(sides[0]), GaussianStats.of(sides[1]))
        error = abs(float(summary[0].values["fd_effnet"] or math.nan) / whole - 1.0)
    return Simulated(records, worker_s, merge_s, stored, peak, resume_s, error)


@dataclass(frozen=True)
class Picture:
    """Seconds of one process for a picture of ``megapixels``, and the peak bytes of that process."""

    megapixels: float
    codec_s: float
    metrics_s: float
    peak: int


def settings() -> MeasureSettings:
    return MeasureSettings((SamplerConfig(),), SMALL_PX, (), (1.0,), 1 << 40, 1 << 18)


def evaluate_picture(path: str, side: int) -> Picture:
    """Compress, decode, sample and measure a cut of a picture, repeated up to ``side``."""
    x, codec = cut_of(path, side, side), load_codec(shipped_models()["desk-025"].uri, "cpu")

    def decoded() -> Any:
        coded = code(codec, "x", x, lambda data: data)
        return coded, sample_batch(codec, [coded], settings())[0]

    decoded()
    codec_s, (coded, samples) = timed(decoded)
    measure(coded, samples, settings())
    metrics_s, _ = timed(lambda: measure(coded, samples, settings()))
    return Picture(side**2 / 1e6, codec_s, metrics_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measure_large(path: str, megapixels: float) -> Picture:
    """Measure one version of a large picture, as the worker that stitches it does for each version."""
    height = round(math.sqrt(megapixels * 1e6 * 2 / 3))
    x = cut_of(path, height, height * 3 // 2)
    version = np.clip(x.astype(np.int16) + 3, 0, 255).astype(np.uint8)
    seconds, _ = timed(lambda: measure_one(x, version))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Picture(x.shape[0] * x.shape[1] / 1e6, math.nan, seconds, peak)


def measure_one(x: RgbArray, version: RgbArray) -> Measured:
    measured = Measured.of("x", b"", x, settings())
    measured.add(X_HAT, DecodedImage(Original(x), version, 1000, 1.0, 1.0), settings())
    return measured


def cut_of(path: str, height: int, width: int) -> RgbArray:
    x = load_rgb(Path(path))
    tiles = np.tile(x, (-(-height // x.shape[0]), -(-width // x.shape[1]), 1))
    return np.ascontiguousarray(tiles[:height, :width])


def timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    value = call()
    return time.process_time() - started, value


def alone(call: Callable[..., T], *arguments: Any) -> T:
    """Call in a process of its own, since a peak covers the whole life of a process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, arguments)


def report_simulation(one: Simulated) -> None:
    check = "" if math.isnan(one.error) else f"; FD-EffNet differs from that of all at once by {one.error:.1e}"
    print(
        f"{one.records} records: writing {1e3 * one.worker_s / one.records:.2f} ms and merging "
        f"{1e3 * one.merge_s / one.records:.2f} ms a record, {one.stored / one.records:.0f} bytes of statistics a "
        f"record, peak {one.peak / 1e6:.0f} MB, resuming when all is done {one.resume_s:.2f} s{check}",
        flush=True,
    )


def simulations(sizes: list[int]) -> tuple[Simulated, float]:
    """Print each simulation as it ends; return the largest, and the driver's bytes for each further picture."""
    found = []
    for size in sizes:
        found.append(alone(simulate, size, size == sizes[0]))
        report_simulation(found[-1])
    first, last = found[0], found[-1]
    slope = (last.peak - first.peak) / (last.records - first.records) if last is not first else math.nan
    print(f"driver: {slope:.0f} bytes for each further picture", flush=True)
    return last, slope


@dataclass(frozen=True)
class Load:
    """Pictures of an evaluation: seconds of a worker and patches of each, and pictures of a part."""

    name: str
    number: int
    seconds: float
    patches: int
    part: int


def plan(load: Load, merged: Simulated, slope: float, options: argparse.Namespace) -> None:
    """Print the plan of an evaluation. The simulated records have one patch each."""
    parts = -(-load.number // load.part)
    records = load.number * load.patches
    merge_s = records * merged.merge_s / merged.records
    wall = load.number * load.seconds / options.workers / options.efficiency + merge_s
    driver = merged.peak + max(0.0, slope) * max(0, load.number - merged.records)
    lost = options.workers * load.part * load.seconds / 2
    print(
        f"{load.name}: {1 / load.seconds:.3f} pictures/s a worker; {options.workers} workers at an efficiency of "
        f"{options.efficiency:g}: {wall / 3600:.2f} h, of which merging in one process {merge_s / 3600:.2f} h; driver "
        f"{driver / 1e9:.2f} GB; statistics {records * merged.stored / merged.records / 1e9:.2f} GB; {parts} parts of "
        f"{load.part}: resuming reads them in {parts * merged.resume_s / (merged.records / PART):.0f} s and repeats "
        f"{lost / 3600:.2f} worker hours on average",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--efficiency", type=float, default=0.9, help="of the workers; benchmarks/evaluation.py")
    parser.add_argument("--megapixels", type=float, default=LARGE_MP, help="of the large picture that is measured")
    options = parser.parse_args()
    sizes = sorted(set(options.records))
    if sizes[0] <= EXACT_PATCHES:
        parser.error(f"--records: got {sizes[0]}, expected more than {EXACT_PATCHES}, the most that are not merged")
    merged, slope = simulations(sizes)
    small, cut = (alone(evaluate_picture, options.picture, side) for side in (SMALL_PX, CUT_PX))
    for one in (small, cut):
        print(
            f"{one.megapixels:.3f} megapixels: compress, decode and sample {one.codec_s:.2f} s, metrics of the "
            f"original and two versions {one.metrics_s:.2f} s, peak {one.peak / 1e9:.2f} GB",
            flush=True,
        )
    large = alone(measure_large, options.picture, options.megapixels)
    per_mp = (cut.codec_s + cut.metrics_s) / cut.megapixels
    print(
        f"{large.megapixels:.1f} megapixels: metrics of the original and one version {large.metrics_s:.1f} s, peak "
        f"{large.peak / 1e9:.2f} GB; pixels of x_hat and one sample between the workers {6 * large.megapixels:.0f} MB",
        flush=True,
    )
    write_s = merged.worker_s / merged.records
    plan(Load("1,000,000 small", 10**6, small.codec_s + small.metrics_s + write_s, 1, PART), merged, slope, options)
    side = round(math.sqrt(LARGE_MP * 1e6 * 2 / 3))
    patches = len(fid_patches(np.zeros((side, side * 3 // 2, 3), np.uint8), SMALL_PX))
    plan(Load(f"1,000 of {LARGE_MP:g} MP", 1000, per_mp * LARGE_MP, patches, 7), merged, slope, options)
    print(f"{processor()}, {psutil.cpu_count()} cores; processes of one thread", flush=True)


if __name__ == "__main__":
    main()
