"""Measure what refined latents save: bits at equal PSNR, loss, and the encoder's time.

    OMP_NUM_THREADS=1 python -m benchmarks.refine PICTURES [--models desk-012 desk-025] [--steps 30 100 300] [--every 4]

For each picture, stage 1 codes the plain latent at several rate ids, which makes a curve of bpp over PSNR, and the
refined latent at the model's own rate. ``saved``: 1 - bpp / (bpp of the curve at the PSNR of the refined file), which
compares files of one model and one picture. AVIF, as in all tables at its default speed, is interpolated at the size of
each file. Means over the pictures; seconds are processor time of the whole encoding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from benchmarks.startup import processor
from hfd.baselines.pillow_codecs import Avif, bracket_rate
from hfd.codec.codec import Codec
from hfd.codec.refinement import compress
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import find_model
from hfd.metrics.distortion import psnr

CURVE = (112, 116, 120, 124, 128, 132)


@dataclass(frozen=True)
class Row:
    """Of one picture: bits per pixel, dB, share saved at equal PSNR, dB of AVIF at as many bytes, seconds."""

    bpp: float
    psnr: float
    saved: float
    avif: float
    seconds: float


def file_of(codec: Codec, x: RgbArray, steps: int) -> tuple[bytes, float]:
    """The file, and the processor time of making it."""
    start = time.process_time()
    return compress(codec, x, steps=steps).data, time.process_time() - start


def quality_of(codec: Codec, x: RgbArray, data: bytes) -> tuple[float, float]:
    """bpp and PSNR."""
    return 8 * len(data) / x[..., 0].size, psnr(x, codec.reconstruct(data))


def avif_at(x: RgbArray, num_bytes: int) -> float:
    """PSNR of AVIF at a size, between the files of the two nearest qualities; NaN where all are larger."""
    avif = Avif()
    points = [(len(one.data), psnr(x, avif.decode(one.data))) for one in bracket_rate(avif, x, num_bytes) if one]
    if len(points) < 2 or points[0][0] > num_bytes:
        return float("nan")
    sizes, levels = zip(*points, strict=True)
    return float(np.interp(np.log(num_bytes), np.log(sizes), levels))


def row_of(codec: Codec, x: RgbArray, steps: int, curve: Sequence[tuple[float, float]]) -> Row:
    data, seconds = file_of(codec, x, steps)
    bpp, decibels = quality_of(codec, x, data)
    levels, sizes = zip(*sorted((level, one) for one, level in curve), strict=True)
    needed = float(np.exp(np.interp(decibels, levels, np.log(sizes))))
    return Row(bpp, decibels, 1.0 - bpp / needed, avif_at(x, len(data)), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of PNG files")
    parser.add_argument("--models", nargs="+", default=["desk-012", "desk-025"])
    parser.add_argument("--steps", nargs="+", type=int, default=[30, 100, 300])
    parser.add_argument("--every", type=int, default=1, help="of the pictures")
    given = parser.parse_args()
    pictures = [load_rgb(path.read_bytes(), name=path.name) for path in sorted(given.pictures.glob("*.png"))]
    pictures = pictures[:: given.every]
    print(f"{len(pictures)} pictures, {processor()}")
    print(f"{'model':<10}{'steps':>6}{'bpp':>9}{'PSNR dB':>9}{'saved %':>9}{'AVIF dB':>9}{'seconds':>9}")
    for name in given.models:
        codec = Codec.load(find_model(name))
        curves = [[quality_of(codec, x, codec.compress(x, rate=rate).data) for rate in CURVE] for x in pictures]
        for steps in [0, *given.steps]:
            rows = [row_of(codec, x, steps, curve) for x, curve in zip(pictures, curves, strict=True)]
            bpp, decibels, saved, avif, seconds = np.mean([astuple(row) for row in rows], axis=0)
            print(
                f"{name:<10}{steps:>6}{bpp:>9.4f}{decibels:>9.2f}{100 * saved:>9.1f}{avif:>9.2f}{seconds:>9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
