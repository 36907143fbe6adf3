"""Distances of an evaluation, computed by workers from the features that its parts left in files.

No feature reaches the driver. A set of at most ``evaluate.exact_patches`` patches is read whole, by one worker for each
system and setting. A larger one is cut into blocks of parts: workers add each block up, and others put the blocks'
sums together (:mod:`hfd.metrics.blocks`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfd.io.storage import Folder
from hfd.metrics.blocks import BlockSums, BlockTaker
from hfd.metrics.bootstrap import Drawn
from hfd.metrics.features import NUM_FEATURES
from hfd.report.content import OUR_SYSTEMS
from hfd.report.summarise import CurveDistances, distances_of_blocks, distances_of_images
from pipelines.engine.base import Engine
from pipelines.evaluate.measure import Curve, Measured
from pipelines.runs.parts import StepPart, run_parts

MAX_BLOCKS = 32
"""Of images: as many sums a system and setting, 13 MB each, and what a bootstrap over blocks draws from."""

ORIGINAL: Curve = ("original", "")


@dataclass(frozen=True)
class FeatureFile:
    """The features of one part's images."""

    folder: Folder
    name: str


def write_features(folder: Folder, name: str, images: Sequence[Measured]) -> None:
    """Features of a part's images by image and curve, float32 (P, D) each, and their names."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    names: list[tuple[str, str, str]] = []
    for image in images:
        for curve, features in {ORIGINAL: image.original, **image.features}.items():
            arrays[str(len(names))] = features
            names.append((image.name, *curve))
    arrays["names"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    folder.write(name, buffer.getvalue())


@contextlib.contextmanager
def _opened(file: FeatureFile) -> Iterator[tuple[Mapping[str, npt.NDArray[Any]], dict[Curve, dict[str, str]]]]:
    """The arrays, each read when it is asked for, and which of them is whose: curve -> image -> key."""
    with file.folder.open_input(file.name) as stream, np.load(stream, allow_pickle=False) as arrays:
        keys: dict[Curve, dict[str, str]] = {}
        for number, (image, system, setting) in enumerate(json.loads(arrays["names"].tobytes())):
            keys.setdefault((system, setting), {})[image] = str(number)
        yield arrays, keys


def _pairs(file: FeatureFile, curve: Curve) -> list[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """(image, features of the original, of its decoded version) of every image that the curve has."""
    with _opened(file) as (arrays, keys):
        return [(image, arrays[keys[ORIGINAL][image]], arrays[key]) for image, key in keys.get(curve, {}).items()]


@dataclass(frozen=True)
class ExactTask:
    """A curve's distances from all its patches at once."""

    files: tuple[FeatureFile, ...]
    curve: Curve
    draws: int


def exact_distances(part: StepPart[ExactTask]) -> dict[str, Any]:
    task = part.payload
    pairs = [pair for file in task.files for pair in _pairs(file, task.curve)]
    originals = {image: original for image, original, _ in pairs}
    found = distances_of_images(originals, {image: decoded for image, _, decoded in pairs}, task.draws)
    return asdict(found)


@dataclass(frozen=True)
class BlockTask:
    """Parts whose images are added up, for each of the curves."""

    files: tuple[FeatureFile, ...]
    curves: tuple[Curve, ...]


def add_block(part: StepPart[BlockTask]) -> dict[str, Any]:
    """Write a block's sums of every curve. Its parts come in a seeded order, so that the patches whose kernel distance
    is taken are not those of neighbours alone."""
    task = part.payload
    order = np.random.default_rng(part.index).permutation(len(task.files))
    for curve in task.curves:
        taker = BlockTaker(NUM_FEATURES)
        for place in order:
            for _, original, decoded in _pairs(task.files[place], curve):
                taker.add(original, decoded)
        buffer = io.BytesIO()
        np.savez(buffer, **taker.sums().to_arrays())
        part.folder.write(_sums_name(part.index, curve), buffer.getvalue())
    return {}


@dataclass(frozen=True)
class MergeTask:
    """A curve's distances from the sums of its blocks."""

    sums: Folder
    num_blocks: int
    curve: Curve
    draws: int


def merged_distances(part: StepPart[MergeTask]) -> dict[str, Any]:
    task = part.payload
    blocks = []
    for block in range(task.num_blocks):
        data = io.BytesIO(task.sums.read(_sums_name(block, task.curve)))
        with np.load(data, allow_pickle=False) as arrays:
            blocks.append(BlockSums.from_arrays(dict(arrays)))
    # A block in which no image has this system and setting says nothing of it.
    return asdict(distances_of_blocks([block for block in blocks if block.decoded.num], task.draws))


def measure_distances(
    engine: Engine,
    folder: Folder,
    files: Sequence[FeatureFile],
    curves: Sequence[Curve],
    *,
    num_patches: int,
    exact_patches: int,
    draws: int,
) -> tuple[dict[Curve, CurveDistances], int]:
    """Both distances of every curve, and over how many blocks they were taken; 0: over all patches at once.

    Intervals, of ``draws`` draws, are for our own systems. The features of a set that is cut into blocks are deleted.
    """

    def draws_of(curve: Curve) -> int:
        return draws if curve[0] in OUR_SYSTEMS else 0

    if num_patches <= exact_patches:
        exact = [ExactTask(tuple(files), curve, draws_of(curve)) for curve in curves]
        results = run_parts(engine, folder / "distances", exact, exact_distances, _quietly)
        return {curve: _distances(result) for curve, result in zip(curves, results, strict=True)}, 0
    num_blocks = min(MAX_BLOCKS, len(files))
    ends = [len(files) * block // num_blocks for block in range(num_blocks + 1)]
    blocks = [BlockTask(tuple(files[a:b]), tuple(curves)) for a, b in itertools.pairwise(ends)]
    run_parts(engine, folder / "sums", blocks, add_block, _quietly)
    merges = [MergeTask(folder / "sums", num_blocks, curve, draws_of(curve)) for curve in curves]
    results = run_parts(engine, folder / "distances", merges, merged_distances, _quietly)
    for home in dict.fromkeys(file.folder.uri for file in files):
        Folder(home).delete("features")
    (folder / "sums").delete("blocks")
    return {curve: _distances(result) for curve, result in zip(curves, results, strict=True)}, num_blocks


def _distances(result: Mapping[str, Any]) -> CurveDistances:
    fd_drawn, kd_drawn = (
        None if (drawn := result[name]) is None else Drawn(drawn["value"], tuple(drawn["draws"]))
        for name in ("fd_drawn", "kd_drawn")
    )
    return CurveDistances(result["fd"], result["kd"], fd_drawn, kd_drawn)


def _sums_name(block: int, curve: Curve) -> str:
    return f"blocks/{block:05d}-{hashlib.sha256(json.dumps(curve).encode()).hexdigest()[:16]}.npz"


def _quietly(done: int, total: int) -> None:
    del done, total
