"""Measure FID/256 and KID/256 of few patches: their level, spread and order over random choices of pictures.

    python -m benchmarks.few_patches PICTURES WEIGHTS [--draws 20] [--cache FEATURES.npz]

WEIGHTS is a folder with the file of ``python -m hfd.metrics.convert_backbone inception``. Files of JPEG and WebP at
several qualities stand for systems of different quality. For each number of pictures, as many are drawn without
replacement; ``orders`` counts the different orders of the systems by FID over the draws. The pictures of a draw come
from one set: at half of it and above, draws share pictures, and the spread is too low. Pictures have one size.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.image.load import RgbArray, load_rgb
from hfd.metrics.backbones import BACKBONES, BackboneFile
from hfd.metrics.frechet import kernel_distance
from hfd.metrics.of_counts import frechet_of_pairs
from hfd.metrics.patches import fid_patches
from hfd.metrics.read_backbone import read_backbone
from hfd.metrics.set_distances import PROTOCOL_PX

SYSTEMS = (("jpeg", 10), ("jpeg", 25), ("jpeg", 50), ("webp", 10), ("webp", 50))
Features = dict[str, npt.NDArray[np.floating]]
"""By system, (pictures, patches, 2048)."""


def decoded(x: RgbArray, form: str, quality: int) -> RgbArray:
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, format=form, quality=quality)
    return load_rgb(buffer.getvalue(), name=form)


def features_of(pictures: Path, weights: Path) -> Features:
    network = read_backbone(BackboneFile("inception", str(weights), str(BACKBONES["inception"].sha256)))
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    for path in sorted(path for path in pictures.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg")):
        x = load_rgb(path.read_bytes(), name=path.name)
        versions = {"original": x, **{f"{form}{quality}": decoded(x, form, quality) for form, quality in SYSTEMS}}
        for name, version in versions.items():
            found.setdefault(name, []).append(network(fid_patches(version, PROTOCOL_PX)))
    return {name: np.stack(rows) for name, rows in found.items()}


def report(features: Features, draws: int) -> None:
    originals, names = features["original"], [name for name in features if name != "original"]
    count, patches = originals.shape[:2]
    rng = np.random.default_rng(0)
    for number in sorted({*(2**power for power in range(12) if 2**power < count), count}):
        distances = []
        for _ in range(draws if number < count else 1):
            chosen = rng.choice(count, number, replace=False)
            a = originals[chosen].reshape(number * patches, -1)
            pairs = [(a, features[name][chosen].reshape(number * patches, -1)) for name in names]
            distances.append([[of(*pair) for pair in pairs] for of in (frechet_of_pairs, kernel_distance)])
        fid, kid = np.array(distances).swapaxes(0, 1)
        orders = len({tuple(np.argsort(row)) for row in fid})
        print(f"{number * patches} patches of {number} pictures: {orders} orders by FID over {len(fid)} draws")
        for place, name in enumerate(names):
            level, spread = fid[:, place].mean(), fid[:, place].std()
            low, high = kid[:, place].mean(), kid[:, place].std()
            print(
                f"  {name}: FID {level:.2f}, sd {100 * spread / level:.0f} %; KID {low:.4f}, sd {high:.4f}", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="features are read from this file, or written to it")
    options = parser.parse_args()
    if options.cache is not None and options.cache.exists():
        with np.load(options.cache, allow_pickle=False) as stored:
            features: Features = dict(stored)
    else:
        features = features_of(options.pictures, options.weights)
        if options.cache is not None:
            np.savez(options.cache, **features)
    report(features, options.draws)


if __name__ == "__main__":
    main()
