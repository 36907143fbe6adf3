"""Compare the time of the default metrics with that of decoding the same pictures, and with plain calls of them.

    OMP_NUM_THREADS=1 python -m benchmarks.metrics PICTURE ... [--before CHECKOUT] [--images 20 --patches 39 173]

First, for each picture: seconds of processor time to decode its sample; those of every metric of the original and of
each decoded version; and those of plain calls: torchmetrics' MS-SSIM, both pictures through AlexNet for every version,
and EfficientNet by torch in batches of 16. Values must agree within 1e-5; the difference is printed. The share of
decoding is that of an evaluation of x_hat and one sampler without codecs: one original and two versions for one
decoding.

Second, with ``--before``: all metrics of each original, its x_hat and its sample by this checkout and by another, in
processes of their own, in turn; over the time to decode both by this checkout. The values of both are compared.

Third: a bootstrap draw of the Frechet and the kernel distance over generated features, against the distances of the
repeated rows, for images of so many patches each. Results go to standard output.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.startup import ROOT, processor
from hfd.baselines.pillow_codecs import available_baselines
from hfd.codec.codec import Codec
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import shipped_models
from hfd.metrics.distortion import psnr
from hfd.metrics.features import EffNetLite0Features, effnet_features
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from hfd.metrics.ms_ssim import ms_ssim_of_scales, scales_of
from hfd.metrics.of_counts import frechet_of_counts, kernel_of_counts
from hfd.metrics.patches import fid_patches
from hfd.metrics.spectrum import energy_over, top_octave, top_octave_energy
from hfd.perceptual.alexnet import lpips, lpips_of_units, lpips_units

T = TypeVar("T")
FloatArray = npt.NDArray[np.float64]
PATCH_PX, PLAIN_BATCH, VERSIONS = 256, 16, 2
TOLERANCE = 1e-5


def timed(call: Callable[[], T], rounds: int = 3) -> tuple[float, T]:
    """Return the least seconds of processor time, and the value."""
    seconds, value = [], call()
    for _ in range(rounds):
        started = time.process_time()
        value = call()
        seconds.append(time.process_time() - started)
    return min(seconds), value


def plain_ms_ssim(x: RgbArray, decoded: RgbArray) -> float:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as package

    a, b = (torch.from_numpy(np.ascontiguousarray(one.transpose(2, 0, 1)[:, None])) / 255.0 for one in (decoded, x))
    with torch.inference_mode():
        return float(package(a, b, data_range=1.0, reduction="none", normalize="relu").mean())


def plain_features(network: EffNetLite0Features, patches: RgbArray) -> npt.NDArray[np.float32]:
    rows = []
    for start in range(0, len(patches), PLAIN_BATCH):
        batch = np.full((PLAIN_BATCH, *patches.shape[1:]), 127, np.uint8)
        own = patches[start : start + PLAIN_BATCH]
        batch[: len(own)] = own
        with torch.inference_mode():
            rows.append(network.forward(batch)[: len(own)].numpy())
    return np.concatenate(rows)


@dataclass(frozen=True)
class Calls:
    """A metric: what it computes of the original alone, of a version, and of a version by plain calls."""

    of_original: Callable[[], object]
    of_version: Callable[[], object]
    plainly: Callable[[], object]


def calls_of(x: RgbArray, decoded: RgbArray) -> dict[str, Calls]:
    scales, units, octave, network = scales_of(x), list(lpips_units(x)), top_octave(x), effnet_features()
    by_torch = EffNetLite0Features("torch")
    return {
        "PSNR": Calls(lambda: None, lambda: psnr(x, decoded), lambda: psnr(x, decoded)),
        "MS-SSIM": Calls(
            lambda: scales_of(x), lambda: ms_ssim_of_scales(scales, decoded), lambda: plain_ms_ssim(x, decoded)
        ),
        "energy": Calls(
            lambda: top_octave(x), lambda: energy_over(octave, decoded), lambda: top_octave_energy(x, decoded)
        ),
        "LPIPS": Calls(lambda: list(lpips_units(x)), lambda: lpips_of_units(units, decoded), lambda: lpips(x, decoded)),
        "EfficientNet": Calls(
            lambda: network(fid_patches(x, PATCH_PX)),
            lambda: network(fid_patches(decoded, PATCH_PX)),
            lambda: plain_features(by_torch, fid_patches(decoded, PATCH_PX)),
        ),
    }


def decode(codec: Codec, data: bytes) -> RgbArray:
    """Decode a sample, as the evaluation does."""
    (sample,) = codec.sample_batch([codec.reconstruct(data)], codec.default_sampling, seeds=[0])
    return sample


def compare_metrics(paths: Sequence[str], model: str) -> None:
    codec = Codec.load(shipped_models()[model])
    jpeg = next(one for one in available_baselines()[0] if one.name == "jpeg")
    sums: dict[str, list[float]] = {}
    decoding = 0.0
    for path in paths:
        x = load_rgb(Path(path))
        data = codec.compress(x).data
        decoding += timed(functools.partial(decode, codec, data), 1)[0]
        for name, calls in calls_of(x, jpeg.decode(jpeg.encode(x, 20))).items():
            (first, _), (each, found), (plain, expected) = map(
                timed, (calls.of_original, calls.of_version, calls.plainly)
            )
            a, b = (np.asarray(value, np.float64) for value in (found, expected))
            error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
            if error > TOLERANCE:
                raise SystemExit(f"{name}: got {found}, expected {expected}: the times cannot be compared")
            of_original_plainly = plain if name == "EfficientNet" else 0.0
            row = (first, each, of_original_plainly, plain, error)
            sums[name] = [total + value for total, value in zip(sums.get(name, [0.0] * 5), row, strict=True)]
    print(f"{len(paths)} pictures, seconds of processor time each; decoding {decoding / len(paths):.3f}")
    now = before = 0.0
    for name, totals in sums.items():
        first, each, first_plain, plain, error = (total / len(paths) for total in totals)
        now, before = now + first + VERSIONS * each, before + first_plain + VERSIONS * plain
        print(f"  {name:<12} original {first:.3f}, version {each:.3f}; plain {plain:.3f}; difference {error:.1e}")
    share = len(paths) / decoding
    print(f"metrics / decoding, {VERSIONS} versions: {now * share:.2f}; plain {before * share:.2f}", flush=True)


CHILD = """
import json, sys, time
import numpy as np
from hfd.metrics.features import effnet_features
from hfd.metrics.of_image import DecodedImage
from hfd.metrics.original import Original
from hfd.metrics.patches import fid_patches
from hfd.metrics.table import measure_image
with np.load(sys.argv[1]) as arrays:
    x, *versions = (arrays[name] for name in ("x", "x_hat", "sample"))
def measured():
    original, network = Original(x), effnet_features()
    found = [float(network(fid_patches(x, 256)).sum())]
    for version in versions:
        values = measure_image(DecodedImage(original, version, 1000, 1.0, 1.0))
        found += [value for value in values.values() if value is not None]
        found.append(float(network(fid_patches(version, 256)).sum()))
    return found
measured()
seconds = []
for _ in range(3):
    started = time.process_time()
    values = measured()
    seconds.append(time.process_time() - started)
print(json.dumps([min(seconds), values]))
"""


def measured_by(checkout: Path, pictures: Path) -> tuple[float, FloatArray]:
    """CPU seconds of all metrics by a checkout, and their values."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", CHILD, str(pictures)]
    done = subprocess.run(command, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE)
    seconds, values = json.loads(done.stdout)
    return seconds, np.array(values)


def compare_builds(paths: Sequence[str], model: str, before: Path) -> None:
    codec = Codec.load(shipped_models()[model])
    decoding = ours = theirs = difference = 0.0
    for path in paths:
        x = load_rgb(Path(path))
        data = codec.compress(x).data
        seconds, sample = timed(functools.partial(decode, codec, data))
        decoding += seconds
        with tempfile.TemporaryDirectory() as name:
            pictures = Path(name) / "pictures.npz"
            np.savez(pictures, x=x, x_hat=codec.reconstruct(data), sample=sample)
            (now, found), (then, expected) = (measured_by(checkout, pictures) for checkout in (ROOT, before))
        ours, theirs = ours + now, theirs + then
        difference = max(difference, float(np.abs(found / expected - 1.0).max()))
    num = len(paths)
    print(
        f"{processor()}; {num} pictures; decoding {decoding / num:.3f} s; metrics {ours / num:.3f} s, "
        f"{ours / decoding:.2f} of it; by the other checkout {theirs / num:.3f} s, {theirs / decoding:.2f}; largest "
        f"relative difference of a value {difference:.1e}",
        flush=True,
    )


def compare_draws(num_images: int, patches: int, dimension: int = 1280) -> None:
    rng = np.random.default_rng(0)
    scale = np.exp(-np.arange(dimension) / 300)
    a = np.maximum(0, rng.normal(size=(num_images * patches, dimension)) * scale + 0.1).astype(np.float32)
    b = np.maximum(0, a + 0.3 * rng.normal(size=a.shape) * scale).astype(np.float32)
    each = [patches] * num_images
    counts = np.bincount(rng.integers(0, num_images, num_images), minlength=num_images).astype(np.float64)
    rows = np.repeat(np.arange(len(a)), np.repeat(counts.astype(int), each))
    plain: list[tuple[str, Callable[[], float], Callable[[], Callable[..., float]]]] = [
        (
            "Frechet",
            lambda: frechet_distance(GaussianStats.of(a[rows]), GaussianStats.of(b[rows])),
            lambda: frechet_of_counts(a, b, each),
        ),
        ("kernel", lambda: kernel_distance(a[rows], b[rows]), lambda: kernel_of_counts(a, b, each)),
    ]
    for name, plainly, prepared in plain:
        setup, distance = timed(prepared, 1)
        draw, found = timed(functools.partial(distance, counts))
        whole, expected = timed(plainly, 1)
        print(
            f"{len(a)} patches of {num_images} images, {name}: {1000 * draw:.3f} ms a draw after {setup:.2f} s; of "
            f"repeated rows {1000 * whole:.0f} ms; 100 draws {(setup + 100 * draw):.1f} s; difference "
            f"{abs(found / expected - 1):.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--patches", type=int, nargs="*", default=[8, 39, 173])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.pictures:
        compare_metrics(arguments.pictures, arguments.model)
        if arguments.before is not None:
            compare_builds(arguments.pictures, arguments.model, arguments.before.resolve())
    for patches in arguments.patches:
        compare_draws(arguments.images, patches)


if __name__ == "__main__":
    main()
