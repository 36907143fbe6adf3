"""Measure the memory of decoding a large picture from latent to pixels, at several sizes, each in a process.

    python -m benchmarks.large PICTURE [--sides 2304 6000 10000] [--scheme one-group] [--workers 1] [--patches 6]

The latent is that of a picture, repeated up to the side; entropy decoding is excluded. With ``--patches``, only that
number of patches, spread evenly, go through the networks and the others stay black: this saves hours, but misses the
growth of the heap from patch to patch. Prints the peak resident memory of this process and its workers, the cost of
each further pixel, and the extrapolation to 20,000 x 20,000 px.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch

from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.codec.patches import LatentSource, MapPieces, Piece, SamplePiece, sample_by_plan
from hfd.codec.workers import process_map
from hfd.engine.base import Values
from hfd.geometry.plan import PatchLayout, Scheme, plan_picture
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import shipped_models

GOAL_SIDE, GOAL_BYTES = 20_000, 4 * 10**9


def repeated(y_hat: Values, cells: int) -> Values:
    """Repeat a latent to (1, M, cells, cells), without a second copy in memory."""
    large = np.empty((1, y_hat.shape[1], cells, cells), np.float32)
    for top in range(0, cells, y_hat.shape[2]):
        for left in range(0, cells, y_hat.shape[3]):
            there = large[..., top : top + y_hat.shape[2], left : left + y_hat.shape[3]]
            there[:] = y_hat[..., : there.shape[2], : there.shape[3]]
    return large


def some_of(map_fn: MapPieces, stride: int) -> MapPieces:
    """Map every ``stride``-th piece; return black for the others."""

    def mapped(function: SamplePiece, pieces: Iterable[Piece]) -> Iterator[RgbArray]:
        for number, piece in enumerate(pieces):
            box = piece.patch.finished
            if number % stride == 0:
                yield from map_fn(function, [piece])
            else:
                yield np.zeros((box.height, box.width, 3), np.uint8)

    return mapped


def decode(picture: str, side: int, scheme: Scheme, workers: int, patches: int | None) -> tuple[int, int, float, float]:
    """Return peak bytes of this process, the same before any picture, bytes of all workers together, and seconds."""
    torch.set_num_threads(1)
    codec = Codec.load(shipped_models()["desk-025"])
    assert codec.decoder is not None
    y_hat = codec.open(unpack(codec.compress(load_rgb(Path(picture))).data)).y_hat
    cells = -(-side // 64) * 4
    y_hat = repeated(y_hat, cells)
    before = psutil.Process().memory_info().rss - y_hat.nbytes
    settings = codec.default_sampling
    plan = plan_picture(side, side, codec.reach(settings), PatchLayout(scheme))
    source, theirs = LatentSource(codec.networks, y_hat, (side, side)), 0

    def watch(done: int, of: int) -> None:
        nonlocal theirs
        now = sum(child.memory_info().rss for child in psutil.Process().children(recursive=True))
        theirs = max(theirs, now)
        if os.isatty(2):
            print(f"{done} of {of}", end="\r")

    started = time.perf_counter()
    with process_map(workers) as map_fn:
        map_fn = map_fn if patches is None else some_of(map_fn, -(-plan.num_patches // patches))
        found = sample_by_plan(source, plan, settings, codec.sample_piece, seed=0, map_fn=map_fn, on_progress=watch)
    assert found.shape == (side, side, 3) and float(np.std(found[:512, :512])) > 1.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak, before, theirs, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("--sides", type=int, nargs="+", default=[2304, 6000, 10_000])
    parser.add_argument("--scheme", default="one-group", choices=[scheme.value for scheme in Scheme])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--patches", type=int)
    options = parser.parse_args()
    rows = []
    for side in sorted(options.sides):
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            arguments = (options.picture, side, Scheme(options.scheme), options.workers, options.patches)
            # In its own process, since a peak covers the whole life of a process.
            peak, before, theirs, seconds = decode(*arguments) if options.workers > 1 else pool.apply(decode, arguments)
        rows.append((side, peak))
        print(
            f"{side:6d} x {side:<6d} peak {peak / 1e9:5.2f} GB (workers {theirs / 1e9:.2f}), "
            f"{before / 1e9:.2f} of it before any picture; {seconds:.0f} s",
            flush=True,
        )
    if len(rows) > 1:
        (small, low), (large, high) = rows[-2:]
        slope = (high - low) / (large**2 - small**2)
        goal = high + slope * (GOAL_SIDE**2 - large**2)
        print(
            f"{slope:.2f} bytes for each further pixel: {goal / 1e9:.2f} GB at {GOAL_SIDE} x {GOAL_SIDE} "
            f"(goal {GOAL_BYTES / 1e9:.0f})"
        )


if __name__ == "__main__":
    main()
