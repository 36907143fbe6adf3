"""Near duplicates by perceptual hashes and by features: recall and precision on photographs, and the time of a search.

    python -m benchmarks.duplicates pairs PHOTOS [--limit 372]
    python -m benchmarks.duplicates hashes [--hashes 1000000] [--bits 4]
    python -m benchmarks.duplicates features [--rows 100000] [--cosine 0.85]
    python -m benchmarks.duplicates recall PHOTOS [--limit 372] [--cosine 0.85]

``pairs`` makes copies of each photograph and prints the share that each limit finds. Different photographs of the
folder are the negative pairs, all of them; the nearest are printed, to be looked at: a folder may hold true duplicates.
``hashes`` compares the search with comparing every pair: random hashes, one in a thousand a near copy of another;
comparing every pair is measured for a hundred hashes against all and scaled up. ``features`` compares the search with
an index with that of all pairs, on made rows with cosines like those of photographs: 0.15 mostly, above 0.4 for one
pair in a thousand; one row in twenty is made from another, with a cosine that falls to 0.75. ``recall`` counts the near
pairs of photographs, their copies and their quarters, and those that the codes of the index find.
"""

from __future__ import annotations

import argparse
import functools
import io
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from benchmarks.startup import processor
from hfd.data import near_features
from hfd.data.duplicates import distance, first_of_near, perceptual_hash
from hfd.data.feature_codes import feature_codes, most_differing_bits
from hfd.data.near_features import thumbnail
from hfd.image.load import load_picture
from hfd.metrics.features import effnet_features
from pipelines.corpus.listing import list_corpus

COSINES = (0.75, 0.8, 0.85, 0.9, 0.95)
BITS = (2, 4, 8)
NUM_SHOWN = 5


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    width, height = (round(side * factor) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def cropped(picture: Image.Image, share: float, left: float = 0.5) -> Image.Image:
    """Return the picture less ``share`` of each side; ``left``: the part of it that is cut at the left and top."""
    x, y = (round(side * share * left) for side in picture.size)
    width, height = (round(side * (1 - share)) for side in picture.size)
    return picture.crop((x, y, x + width, y + height))


COPIES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 50": lambda picture: jpeg(picture, 50),
    "JPEG, quality 20": lambda picture: jpeg(picture, 20),
    "half size": lambda picture: scaled(picture, 0.5),
    "quarter size": lambda picture: scaled(picture, 0.25),
    "crop of 10 %, centre": lambda picture: cropped(picture, 0.1),
    "crop of 10 %, corner": lambda picture: cropped(picture, 0.1, 1.0),
    "crop of 20 %, centre": lambda picture: cropped(picture, 0.2),
    "brightness x 1.2": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "brightness x 0.8": lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
    "mirror image": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def pairs(folder: Path, limit: int | None) -> None:
    photos = list_corpus(str(folder), setting="folder").photos[:limit]
    pictures = [load_picture(photo.read(), name=photo.key) for photo in photos]
    started = time.process_time()
    originals, hashes = describe(pictures)
    each = (time.process_time() - started) / len(pictures) * 1e3
    print(f"{processor()}: {len(pictures)} photographs, {each:.0f} ms of processor time each for features and hash")
    print(f"{'share of copies found':<24}" + "".join(f" cos {limit:<4}" for limit in COSINES), end="")
    print("".join(f" {bits} bits" for bits in BITS))
    for name, change in COPIES.items():
        rows, others = describe([change(picture) for picture in pictures])
        cosines = (rows * originals).sum(axis=1)
        found = [(cosines >= limit).mean() for limit in COSINES]
        found += [(distance(hashes, others) <= bits).mean() for bits in BITS]
        print(f"{name:<24}" + "".join(f" {share:8.3f}" for share in found[: len(COSINES)]), end="")
        print("".join(f" {share:6.3f}" for share in found[len(COSINES) :]))
    every = originals @ originals.T
    i, j = np.triu_indices(len(pictures), 1)
    values, apart = every[i, j], distance(hashes[i], hashes[j])
    print(f"{f'of {len(i)} different pairs':<24}", end="")
    print("".join(f" {(values >= limit).sum():8d}" for limit in COSINES), end="")
    print("".join(f" {(apart <= bits).sum():6d}" for bits in BITS))
    for place in np.argsort(-values)[:NUM_SHOWN]:
        print(f"  {values[place]:.3f}  {photos[i[place]].key}  {photos[j[place]].key}")


def describe(pictures: list[Image.Image]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint64]]:
    """Return features of length 1, as they are stored, and hashes. A flat picture is refused."""
    thumbnails = [thumbnail(picture) for picture in pictures]
    rows = effnet_features()(np.stack([x for x in thumbnails if x is not None]))
    assert len(rows) == len(pictures), "a picture has no detail"
    rows = rows.astype(np.float16).astype(np.float32)
    hashes = np.array([perceptual_hash(picture) for picture in pictures], dtype=np.uint64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), hashes


def made_features(count: int) -> npt.NDArray[np.float16]:
    """Return rows of positive values and zeros, as after ReLU, (count, 1280)."""
    rng = np.random.default_rng(0)
    usual = rng.exponential(size=1280)
    parents = (rng.exponential(size=(5000, 1280)) * (rng.random((5000, 1280)) < 0.3) * usual**0.25).astype(np.float16)
    features = np.empty((count, 1280), dtype=np.float16)
    copies = count // 20
    for start in range(0, count - copies, 1000):
        block = features[start : min(start + 1000, count - copies)]
        # The first parent, of a few, gives most values: rows that share it are a little alike.
        chosen = np.stack([rng.integers(0, most, len(block)) for most in (700, 5000, 5000)])
        which = rng.choice(3, size=block.shape, p=(0.6, 0.2, 0.2))
        block[:] = parents[chosen[which, np.arange(len(block))[:, None]], np.arange(1280)]
    for start in range(count - copies, count, 1000):
        block = features[start : start + 1000]
        a, b = rng.integers(0, count - copies, (2, len(block)))
        share = rng.uniform(0, 0.5, (len(block), 1)).astype(np.float32)
        block[:] = (1 - share) * features[a] + share * features[b]
    return features


def search_features(count: int, cosine: float) -> None:
    features = made_features(count)
    unit = features[np.random.default_rng(1).integers(0, count, 3000)].astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    some = np.quantile(unit[:1000] @ unit[1000:].T, (0.5, 0.999, 0.9999))
    print(f"{processor()}: {count} rows of {features.nbytes / 2**20:.0f} MiB in all; ", end="")
    print("cosines, median and the largest of 1,000 and 10,000: " + ", ".join(f"{value:.2f}" for value in some))
    used, kept = [], []
    for name, least in (("index", 0), ("all pairs", count + 1)):
        near_features.INDEX_FROM = least
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        kept.append(near_features.first_of_near_features(features, np.arange(count), cosine))
        used.append(time.process_time() - started)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{name}: {used[-1]:.1f} s of processor time, {grown:.0f} MiB more, {int((~kept[-1]).sum())} dropped")
    print(f"ratio {used[0] / used[1]:.3f}; {int((kept[0] != kept[1]).sum())} rows with another fate")


def recall(folder: Path, limit: int | None, cosine: float) -> None:
    photos = list_corpus(str(folder), setting="folder").photos[:limit]
    pictures = [load_picture(photo.read(), name=photo.key) for photo in photos]
    halves = [functools.partial(cropped, share=0.5, left=left) for left in (0.0, 1.0)]
    changes = [lambda picture: picture, *COPIES.values(), *halves]
    network = effnet_features()
    thumbnails = (thumbnail(change(picture)) for change in changes for picture in pictures)
    rows = np.concatenate([network(x[None]) for x in thumbnails if x is not None]).astype(np.float16)
    unit = rows.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    codes, most = feature_codes(rows).view(np.uint64), most_differing_bits(cosine)
    near = found = candidates = 0
    for start in range(0, len(rows), 512):
        earlier = np.arange(len(rows)) < np.arange(start, min(start + 512, len(rows)))[:, None]
        is_near = (unit[start : start + 512] @ unit.T >= cosine) & earlier
        bits = sum(distance(codes[start : start + 512, None, word], codes[None, :, word]).astype(np.int64)
                   for word in range(codes.shape[1]))  # fmt: skip
        is_candidate = (bits <= most) & earlier
        near, candidates = near + int(is_near.sum()), candidates + int(is_candidate.sum())
        found += int((is_near & is_candidate).sum())
    print(f"{len(rows)} pictures, {near} pairs with a cosine of at least {cosine}, ", end="")
    print(f"{candidates} within {most} bits, {found} of both: recall {found / near:.6f}")


def search_hashes(count: int, bits: int) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    copies = count // 1000
    hashes[-copies:] = hashes[:copies] ^ np.uint64(0b101)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    dropped = int((~first_of_near(hashes, bits)).sum())
    ours = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    started = time.perf_counter()
    for value in hashes[:100]:
        (distance(hashes, value) <= bits).any()
    every = (time.perf_counter() - started) / 100 * count / 2
    print(f"{count} hashes within {bits} bits: {ours:.1f} s, {grown:.0f} MiB, {dropped} dropped")
    print(f"every pair: {every:.0f} s, from 100 of the rows; ratio {every / ours:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    by_pairs = kinds.add_parser("pairs")
    by_pairs.add_argument("folder", type=Path)
    by_pairs.add_argument("--limit", type=int, help="Number of photographs, the first by name.")
    by_hashes = kinds.add_parser("hashes")
    by_hashes.add_argument("--hashes", type=int, default=1_000_000)
    by_hashes.add_argument("--bits", type=int, default=4)
    by_features = kinds.add_parser("features")
    by_features.add_argument("--rows", type=int, default=100_000)
    by_features.add_argument("--cosine", type=float, default=0.85)
    by_recall = kinds.add_parser("recall")
    by_recall.add_argument("folder", type=Path)
    by_recall.add_argument("--limit", type=int, help="Number of photographs, the first by name.")
    by_recall.add_argument("--cosine", type=float, default=0.85)
    arguments = parser.parse_args()
    if arguments.kind == "pairs":
        pairs(arguments.folder, arguments.limit)
    elif arguments.kind == "features":
        search_features(arguments.rows, arguments.cosine)
    elif arguments.kind == "recall":
        recall(arguments.folder, arguments.limit, arguments.cosine)
    else:
        search_hashes(arguments.hashes, arguments.bits)


if __name__ == "__main__":
    main()
