"""Processor time of the crops of large photographs: scaling what they need against scaling the whole picture.

    python -m benchmarks.scaled_crops ../shared/data/large [--side 4200] [--downscale 0.75] [--crops 1] [--rounds 3]

Pictures are scaled to the longer side and stored as JPEGs of quality 90. Both ways start from the encoded bytes, take
turns, and must give equal crops. Prints both times, the part of the decode, and the ratio.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.decoder_scale import sized
from benchmarks.startup import processor
from hfd.data.crops import Crop, CropSettings, content_hash, cut_crops, cut_source, load_source, reduce_source
from pipelines.corpus.listing import list_corpus


def crops_of(data: bytes, settings: CropSettings, *, whole: bool) -> tuple[list[Crop], float, float]:
    """Return the crops, and the processor seconds of decoding and in all."""
    started = time.process_time()
    source = load_source(data, "photo", settings)
    decoded, content = time.process_time(), content_hash(data)
    if whole:
        crops = cut_crops(reduce_source(source, data, settings), "photo", content, settings)
    else:
        crops = cut_source(source, data, "photo", content, settings)
    return crops, decoded - started, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, help="Scale pictures to this longer side first.", default=4200)
    parser.add_argument("--downscale", type=float, default=0.75)
    parser.add_argument("--crops", type=int, default=1, help="Crops of 512 px of each picture.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    settings = CropSettings(0, 512, 128, arguments.crops, arguments.downscale, 0.0, 2**27)
    ways, decoding, total, pixels = {"parts": False, "whole": True}, [], {"parts": 0.0, "whole": 0.0}, []
    with sized(arguments.folder, arguments.side, arguments.limit) as folder:
        pictures = [photo.read() for photo in list_corpus(str(folder), setting="folder").photos]
    for _ in range(arguments.rounds):
        for data in pictures:
            found = {}
            for name, whole in ways.items():
                found[name], decode, seconds = crops_of(data, settings, whole=whole)
                decoding.append(decode)
                total[name] += seconds
            pairs = zip(found["parts"], found["whole"], strict=True)
            assert all(a.id == b.id and np.array_equal(a.x, b.x) for a, b in pairs), "crops differ"
    for data in pictures:
        width, height = load_source(data, "photo", settings).size
        pixels.append(width * height)
    count = arguments.rounds * len(pictures)
    print(f"{processor()}, {len(pictures)} JPEGs of {np.mean(pixels) / 1e6:.1f} MP, downscale {arguments.downscale}")
    print(f"{arguments.crops} crops of 512 px; decoding {np.mean(decoding) * 1e3:.0f} ms of each time below")
    for name, seconds in total.items():
        print(f"{name:<6} {seconds / count * 1e3:6.0f} ms a photograph")
    print(f"{total['whole'] / total['parts']:.2f} times as fast; crops equal in every bit")


if __name__ == "__main__":
    main()
