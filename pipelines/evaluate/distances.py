"""Frechet and kernel distances of an evaluation, computed by workers from the feature files of its parts.

The driver reads no features. One worker for each system and setting reads a set of at most ``evaluate.exact_patches``
patches whole. A larger set is cut into blocks of parts: workers sum each block, and others merge the sums
(:mod:`hfd.metrics.blocks`).
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfd.io.storage import Folder
from hfd.metrics.blocks import BlockCollector, BlockSums
from hfd.metrics.features import NUM_FEATURES
from hfd.report.content import OUR_SYSTEMS
from hfd.report.summarise import Curve, CurveDistances, distances_of_blocks, distances_of_images
from pipelines.engine.base import Engine
from pipelines.evaluate.measure import Measured
from pipelines.runs.parts import StepPart, part_name, run_parts

MAX_BLOCKS = 32
"""Number of blocks of images. Each system and setting has a sum of 13 MB per block, from which the bootstrap draws."""

ORIGINAL: Curve = ("original", "")
DISTANCES = "distances"
"""Folder with one result file for each curve, in the order of curves."""


@dataclass(frozen=True)
class FeatureFile:
    """The features of one part's images."""

    folder: Folder
    name: str


def write_features(folder: Folder, name: str, images: Sequence[Measured]) -> None:
    """Write the features of a part's images by image and curve, float32 (P, D) each, with their names."""
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


def read_pairs(file: FeatureFile, curve: Curve) -> list[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Return (image, features of the original, features of its decoded version) of every image on the curve."""
    with file.folder.open_input(file.name) as stream, np.load(stream, allow_pickle=False) as arrays:
        names = [(image, (system, setting)) for image, system, setting in json.loads(arrays["names"].tobytes())]
        keys = {name: str(number) for number, name in enumerate(names)}
        images = [image for image, of in names if of == curve]
        return [(image, arrays[keys[image, ORIGINAL]], arrays[keys[image, curve]]) for image in images]


@dataclass(frozen=True)
class ExactTask:
    """A curve's distances from all its patches at once."""

    files: tuple[FeatureFile, ...]
    curve: Curve
    draws: int


def exact_distances(part: StepPart[ExactTask]) -> dict[str, Any]:
    """The curve's :class:`CurveDistances` as a record."""
    task = part.payload
    pairs = [pair for file in task.files for pair in read_pairs(file, task.curve)]
    originals = {image: original for image, original, _ in pairs}
    return asdict(distances_of_images(originals, {image: decoded for image, _, decoded in pairs}, task.draws))


@dataclass(frozen=True)
class BlockTask:
    """Parts whose images are summed for each of the curves."""

    files: tuple[FeatureFile, ...]
    curves: tuple[Curve, ...]


def add_block(part: StepPart[BlockTask]) -> dict[str, Any]:
    """Write a block's sums of every curve.

    The parts are added in a seeded random order: kernel distances are computed between patches that are added
    together, which would otherwise be those of neighbouring images only.
    """
    task = part.payload
    order = np.random.default_rng(part.index).permutation(len(task.files))
    for curve in task.curves:
        taker = BlockCollector(NUM_FEATURES)
        for file_index in order:
            for _, original, decoded in read_pairs(task.files[file_index], curve):
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
    """The curve's :class:`CurveDistances` as a record."""
    task = part.payload
    blocks = []
    for block in range(task.num_blocks):
        data = io.BytesIO(task.sums.read(_sums_name(block, task.curve)))
        with np.load(data, allow_pickle=False) as arrays:
            blocks.append(BlockSums.from_arrays(dict(arrays)))
    # A block may have no image with this system and setting.
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
    """Compute both distances of every curve; return them and the number of blocks, 0 for all patches at once.

    Our own systems get ``draws`` bootstrap draws. The features of a set that is cut into blocks are deleted.
    """

    def draws_of(curve: Curve) -> int:
        return draws if curve[0] in OUR_SYSTEMS else 0

    if num_patches <= exact_patches:
        exact = [ExactTask(tuple(files), curve, draws_of(curve)) for curve in curves]
        results = run_parts(engine, folder / DISTANCES, exact, exact_distances, _quietly)
        return _by_curve(curves, results), 0
    num_blocks = min(MAX_BLOCKS, len(files))
    ends = [len(files) * block // num_blocks for block in range(num_blocks + 1)]
    blocks = [BlockTask(tuple(files[a:b]), tuple(curves)) for a, b in itertools.pairwise(ends)]
    run_parts(engine, folder / "sums", blocks, add_block, _quietly)
    merges = [MergeTask(folder / "sums", num_blocks, curve, draws_of(curve)) for curve in curves]
    results = run_parts(engine, folder / DISTANCES, merges, merged_distances, _quietly)
    for home in dict.fromkeys(file.folder.uri for file in files):
        Folder(home).delete("features")
    (folder / "sums").delete("blocks")
    return _by_curve(curves, results), num_blocks


def read_distances(folder: Folder, curves: Sequence[Curve]) -> dict[Curve, CurveDistances]:
    """Read the distances that :func:`measure_distances` wrote into ``folder`` for the same curves."""
    names = [part_name(index, len(curves)) for index in range(len(curves))]
    return _by_curve(curves, [json.loads((folder / DISTANCES).read(name)) for name in names])


def _by_curve(curves: Sequence[Curve], records: Sequence[Mapping[str, Any]]) -> dict[Curve, CurveDistances]:
    return {curve: CurveDistances.from_record(record) for curve, record in zip(curves, records, strict=True)}


def _sums_name(block: int, curve: Curve) -> str:
    return f"blocks/{block:05d}-{hashlib.sha256(json.dumps(curve).encode()).hexdigest()[:16]}.npz"


def _quietly(done: int, total: int) -> None:
    del done, total
