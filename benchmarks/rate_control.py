"""Measure rate control over the shipped models, on a folder of pictures: curves, qualities and targets.

    python -m benchmarks.rate_control KODAK [--every 3] [--bpp 0.1 0.2 0.4]

Prints, over the pictures:

- for each target in bits per pixel: the number of files within it (expected: all), their use of it, the number of
encodings of the search, and the chosen models;
- the processor time of such searches, with one analysis for all rates, and with one for each;
- by quality: means of bpp and PSNR, and the number of pictures for which a higher quality made a smaller file;
- for each model and some rate ids, means of bpp of whole files and of PSNR of stage 1, the source of
  `hfd.codec.quality.SHIPPED_LADDER`.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hfd.codec import encode as encode_module
from hfd.codec.encode import Target, encode
from hfd.codec.library import borrowed, find_models, name_of
from hfd.codec.picture.content import Picture, read_picture
from hfd.codec.rate_control import Choice, RatedEncoder
from hfd.io.storage import Folder
from hfd.metrics.distortion import psnr

RATE_IDS = (94, 104, 112, 120, 128, 136, 144, 160, 178, 192)
QUALITIES = (1, 10, 20, 30, 40, 50, 60, 62, 63, 66, 70, 80, 90, 100)


def measured(picture: Picture, folder: Folder, data: bytes) -> tuple[float, float]:
    """bpp and PSNR of stage 1."""
    with borrowed(folder) as codec:
        return 8 * len(data) / picture.rgb[..., 0].size, psnr(picture.rgb, codec.reconstruct(data))


def print_curves(pictures: list[Picture], models: list[Folder]) -> None:
    print(f"{'model':<10}{'id':>5}{'bpp':>9}{'PSNR dB':>9}")
    for folder in models:
        for rate in RATE_IDS:
            rows = []
            for picture in pictures:
                with borrowed(folder) as codec:
                    data = codec.compress(picture.rgb, rate=rate).data
                rows.append(measured(picture, folder, data))
            bpp, decibels = np.mean(rows, axis=0)
            print(f"{name_of(folder):<10}{rate:>5}{bpp:>9.4f}{decibels:>9.2f}", flush=True)


def print_ladder(pictures: list[Picture], models: list[Folder]) -> None:
    by_name = {name_of(folder): folder for folder in models}
    print(f"\n{'quality':<10}{'model':<10}{'id':>5}{'bpp':>9}{'PSNR dB':>9}{'smaller than the one before':>30}")
    before: list[float] = [0.0] * len(pictures)
    for quality in QUALITIES:
        rows = []
        for picture in pictures:
            choice = encode(picture, Target(quality=quality), models)
            rows.append(measured(picture, by_name[choice.name], choice.data))
        falls = sum(row[0] < last for row, last in zip(rows, before, strict=True))
        before = [row[0] for row in rows]
        bpp, decibels = np.mean(rows, axis=0)
        count = f"{falls} of {len(pictures)}"
        print(f"{quality:<10}{choice.name:<10}{choice.rate:>5}{bpp:>9.4f}{decibels:>9.2f}{count:>30}", flush=True)


@dataclass(frozen=True)
class Counted:
    """An encoder of a search that counts its encodings."""

    encoder: RatedEncoder
    encodings: Counter[str]

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def rates(self) -> Sequence[int]:
        return self.encoder.rates

    def start(self) -> Callable[[int], bytes]:
        encode_at = self.encoder.start()

        def counted(rate: int) -> bytes:
            self.encodings["all"] += 1
            return encode_at(rate)

        return counted

    def mse(self, data: bytes) -> float:
        return self.encoder.mse(data)


def print_targets(pictures: list[Picture], models: list[Folder], targets: list[float]) -> None:
    print(f"\n{'target bpp':<12}{'kept':>9}{'mean use':>10}{'least':>8}{'encodings':>11}   chosen")
    encodings = Counter[str]()
    original = encode_module.best_within  # type: ignore[attr-defined]

    def counting(encoders: Sequence[RatedEncoder], limit_bytes: int) -> Choice:
        return original([Counted(one, encodings) for one in encoders], limit_bytes)

    encode_module.best_within = counting  # type: ignore[attr-defined]
    for bpp in targets:
        encodings.clear()
        chosen, uses = Counter[str](), []
        for picture in pictures:
            target = Target(bpp=bpp)
            choice = encode(picture, target, models)
            limit = target.limit_bytes(picture.width, picture.height)
            assert limit is not None
            uses.append(len(choice.data) / limit)
            chosen[choice.name] += 1
        kept = f"{sum(use <= 1.0 for use in uses)} of {len(uses)}"
        per_picture = encodings["all"] / len(pictures)
        names = ", ".join(f"{name} {count}" for name, count in sorted(chosen.items()))
        print(f"{bpp:<12g}{kept:>9}{np.mean(uses):>10.3f}{min(uses):>8.3f}{per_picture:>11.1f}   {names}", flush=True)


def print_search_times(pictures: list[Picture], models: list[Folder], targets: list[float]) -> None:
    seconds: dict[str, float] = {}
    kept_pixels = encode_module.KEPT_PIXELS
    for name, pixels in (("one for all", kept_pixels), ("one for each", 0)):
        encode_module.KEPT_PIXELS = pixels
        started = time.process_time()
        for picture in pictures:
            for bpp in targets:
                encode(picture, Target(bpp=bpp), models)
        seconds[name] = (time.process_time() - started) / (len(pictures) * len(targets))
    encode_module.KEPT_PIXELS = kept_pixels
    one, each = seconds.values()
    print(f"\nanalysis once: {one:.2f} s a search; for each rate: {each:.2f} s; {each / one:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--every", type=int, default=1, help="use every Nth picture")
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.06, 0.12, 0.2, 0.24, 0.4])
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.pictures.iterdir() if path.is_file())[:: arguments.every]
    pictures, models = [read_picture(path) for path in paths], find_models(None)
    print(f"{len(pictures)} pictures")
    print_targets(pictures, models, arguments.bpp)
    print_search_times(pictures, models, arguments.bpp)
    print_ladder(pictures, models)
    print()
    print_curves(pictures, models)


if __name__ == "__main__":
    main()
