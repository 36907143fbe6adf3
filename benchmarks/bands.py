"""Measure what a reconstruction lacks: distances after parts of the error are taken away.

    python -m benchmarks.bands PICTURES [--model desk-025]

Of x_hat and of the sample of each picture: as decoded; with the original's luma, or its chroma (BT.601); and, of x_hat,
with the error below or above a spatial scale removed, by a Gaussian of so many px. A part whose removal lowers the
distances most is where a better model has most to gain. PSNR is the mean over the pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from benchmarks.startup import processor
from hfd.codec.codec import Codec
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import find_model
from hfd.metrics.distortion import psnr
from hfd.metrics.features import effnet_features
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from hfd.metrics.patches import fid_patches

PATCH_PX = 128
SCALES_PX = (0.7, 1.5, 3.0)
LUMA = np.array([0.299, 0.587, 0.114])

Floats = npt.NDArray[np.float64]


def luma(x: Floats) -> Floats:
    """Grey pictures (H, W, 1) of the luma of pictures (H, W, 3)."""
    grey: Floats = (x @ LUMA)[..., None]
    return grey


def variants(original: RgbArray, x_hat: RgbArray, sample: RgbArray) -> Iterator[tuple[str, Floats]]:
    x = original.astype(np.float64)
    for name, decoded in (("x_hat", x_hat), ("sample", sample)):
        error = decoded.astype(np.float64) - x
        yield name, x + error
        yield f"{name}, true luma", x + error - luma(error)
        yield f"{name}, true chroma", x + luma(error)
    error = x_hat.astype(np.float64) - x
    for scale in SCALES_PX:
        coarse = gaussian_filter(error, (scale, scale, 0))
        yield f"x_hat, right above {scale} px", x + error - coarse
        yield f"x_hat, right below {scale} px", x + coarse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of PNG files of at least 128 px")
    parser.add_argument("--model", default="desk-025")
    given = parser.parse_args()
    codec, network = Codec.load(find_model(given.model)), effnet_features()
    originals: list[RgbArray] = []
    found: dict[str, list[RgbArray]] = {}
    for path in sorted(given.pictures.glob("*.png")):
        original = load_rgb(path.read_bytes(), name=path.name)
        x_hat = codec.reconstruct(codec.compress(original).data)
        originals.append(original)
        for name, picture in variants(original, x_hat, codec.sample(x_hat, codec.default_sampling, seed=0)):
            found.setdefault(name, []).append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    wanted = np.concatenate([network(fid_patches(x, PATCH_PX)) for x in originals])
    print(f"{given.model}, {len(originals)} pictures, {len(wanted)} patches, {processor()}")
    print(f"{'':28}  PSNR dB  FD-EffNet  KD-EffNet")
    for name, pictures in found.items():
        features = np.concatenate([network(fid_patches(x, PATCH_PX)) for x in pictures])
        fd = frechet_distance(GaussianStats.of(wanted), GaussianStats.of(features))
        mean_psnr = np.mean([psnr(x, y) for x, y in zip(originals, pictures, strict=True)])
        print(f"{name:28}  {mean_psnr:7.2f}  {fd:9.1f}  {kernel_distance(wanted, features):9.4f}")


if __name__ == "__main__":
    main()
