"""Set metrics of an evaluation, computed by workers from the feature files of its parts, network by network.

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
from hfd.metrics.backbones import BACKBONES, BackboneName
from hfd.metrics.blocks import BlockCollector, BlockSums
from hfd.report.content import OUR_SYSTEMS
from hfd.report.summarise import Curve, CurveDistances, distances_of_blocks, distances_of_images
from pipelines.engine.base import Engine
from pipelines.evaluate.measure import Measured
from pipelines.runs.parts import StepPart, part_name, run_parts

MAX_BLOCKS = 32
"""Number of blocks of images. Each system and setting has a sum of 13 MB per block (34 MB for Inception-v3), from which
the bootstrap draws."""

EFFNET: BackboneName = "efficientnet"
"""The network that every evaluation has; its folders have no suffix."""

ORIGINAL: Curve = ("original", "")
DISTANCES = "distances"
"""Folder with one result file for each curve, in the order of curves."""


@dataclass(frozen=True)
class FeatureFile:
    """The features of one part's images."""

    folder: Folder
    name: str


def feature_folder(network: BackboneName) -> str:
    return f"features{_suffix(network)}"


def feature_name(index: int, count: int, network: BackboneName = EFFNET) -> str:
    return f"{feature_folder(network)}/{index:05d}-of-{count:05d}.npz"


def _suffix(network: BackboneName) -> str:
    return "" if network == EFFNET else f"-{network}"


def write_features(folder: Folder, name: str, images: Sequence[Measured], network: BackboneName = EFFNET) -> None:
    """Write the features of a part's images by image and curve, float32 (P, D) each, with their names."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    names: list[tuple[str, str, str]] = []
    for image in images:
        own = image.features[network]
        for curve, features in {ORIGINAL: own.original, **own.decoded}.items():
            arrays[str(len(names))] = features
            names.append((image.name, *curve))
    arrays["names"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    folder.write(name, buffer.getvalue())


@dataclass(frozen=True)
class CurveImages:
    """A curve over all its images or, with ``shared_with``, over those that another curve has too."""

    curve: Curve
    shared_with: Curve | None = None


def read_pairs(
    file: FeatureFile, of: CurveImages
) -> list[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Return (image, features of the original, features of its decoded version) of each of the images."""
    with file.folder.open_input(file.name) as stream, np.load(stream, allow_pickle=False) as arrays:
        names = [(image, (system, setting)) for image, system, setting in json.loads(arrays["names"].tobytes())]
        keys = {name: str(number) for number, name in enumerate(names)}
        images = [
            image
            for image, curve in names
            if curve == of.curve and (of.shared_with is None or (image, of.shared_with) in keys)
        ]
        return [(image, arrays[keys[image, ORIGINAL]], arrays[keys[image, of.curve]]) for image in images]


@dataclass(frozen=True)
class ExactTask:
    """A curve's distances from all its patches at once."""

    files: tuple[FeatureFile, ...]
    of: CurveImages
    draws: int
    network: BackboneName


def exact_distances(part: StepPart[ExactTask]) -> dict[str, Any]:
    """The curve's :class:`CurveDistances` as a record."""
    task = part.payload
    pairs = [pair for file in task.files for pair in read_pairs(file, task.of)]
    originals = {image: original for image, original, _ in pairs}
    decoded = {image: decoded for image, _, decoded in pairs}
    return asdict(distances_of_images(originals, decoded, task.draws, task.network))


@dataclass(frozen=True)
class BlockTask:
    """Parts whose images are summed for each of the curves."""

    files: tuple[FeatureFile, ...]
    curves: tuple[CurveImages, ...]
    network: BackboneName


def add_block(part: StepPart[BlockTask]) -> dict[str, Any]:
    """Write a block's sums of every curve.

    The parts are added in a seeded random order: kernel distances are computed between patches that are added
    together, which would otherwise be those of neighbouring images only.
    """
    task = part.payload
    order = np.random.default_rng(part.index).permutation(len(task.files))
    for of in task.curves:
        taker = BlockCollector(BACKBONES[task.network].dimension)
        for file_index in order:
            for _, original, decoded in read_pairs(task.files[file_index], of):
                taker.add(original, decoded)
        buffer = io.BytesIO()
        np.savez(buffer, **taker.sums().to_arrays())
        part.folder.write(_sums_name(part.index, of), buffer.getvalue())
    return {}


@dataclass(frozen=True)
class MergeTask:
    """A curve's distances from the sums of its blocks."""

    sums: Folder
    num_blocks: int
    of: CurveImages
    draws: int
    network: BackboneName


def merged_distances(part: StepPart[MergeTask]) -> dict[str, Any]:
    """The curve's :class:`CurveDistances` as a record."""
    task = part.payload
    blocks = []
    for block in range(task.num_blocks):
        data = io.BytesIO(task.sums.read(_sums_name(block, task.of)))
        with np.load(data, allow_pickle=False) as arrays:
            blocks.append(BlockSums.from_arrays(dict(arrays)))
    # A block may have none of these images.
    return asdict(distances_of_blocks([block for block in blocks if block.decoded.num], task.draws, task.network))


@dataclass(frozen=True)
class MeasuredDistances:
    """Distances of every curve; ``shared``: those over shared images; ``num_blocks``: by network, 0 for all patches at
    once."""

    of_curves: Mapping[Curve, CurveDistances]
    shared: Mapping[CurveImages, CurveDistances]
    num_blocks: Mapping[BackboneName, int]


def measure_distances(
    engine: Engine,
    folder: Folder,
    files: Mapping[BackboneName, Sequence[FeatureFile]],
    curves: Sequence[Curve],
    *,
    num_patches: Mapping[BackboneName, int],
    exact_patches: int,
    draws: int,
    shared: Sequence[CurveImages] = (),
) -> MeasuredDistances:
    """Compute the distances of every curve, and of the curves of ``shared`` over the images that they share.

    ``files``, ``num_patches``: by network. Our own systems get ``draws`` bootstrap draws over all their images. The
    features of a set that is cut into blocks are deleted.
    """
    of_curves = {curve: CurveDistances() for curve in curves}
    over = {of: CurveDistances() for of in shared}
    num_blocks: dict[BackboneName, int] = {}
    for network, own in files.items():
        num_blocks[network] = 0 if num_patches.get(network, 0) <= exact_patches else min(MAX_BLOCKS, len(own))
        part = _NetworkPart(engine, folder, network, own, num_blocks[network], draws)
        for curve, found in zip(curves, part.measure([CurveImages(curve) for curve in curves], ""), strict=True):
            of_curves[curve] |= found
        for of, found in zip(shared, part.measure(shared, "-shared") if shared else [], strict=True):
            over[of] |= found
        if num_blocks[network]:
            for home in dict.fromkeys(file.folder.uri for file in own):
                Folder(home).delete(feature_folder(network))
    return MeasuredDistances(of_curves, over, num_blocks)


@dataclass(frozen=True)
class _NetworkPart:
    """The distances over the features of one network."""

    engine: Engine
    folder: Folder
    network: BackboneName
    files: Sequence[FeatureFile]
    num_blocks: int
    draws: int

    def measure(self, wanted: Sequence[CurveImages], kind: str) -> list[CurveDistances]:
        draws_of = [self.draws if of.curve[0] in OUR_SYSTEMS and of.shared_with is None else 0 for of in wanted]
        pairs = list(zip(wanted, draws_of, strict=True))
        results = self.folder / f"{DISTANCES}{_suffix(self.network)}{kind}"
        if not self.num_blocks:
            exact = [ExactTask(tuple(self.files), of, num, self.network) for of, num in pairs]
            return _distances(run_parts(self.engine, results, exact, exact_distances, _quietly))
        sums = self.folder / f"sums{_suffix(self.network)}{kind}"
        ends = [len(self.files) * block // self.num_blocks for block in range(self.num_blocks + 1)]
        blocks = [BlockTask(tuple(self.files[a:b]), tuple(wanted), self.network) for a, b in itertools.pairwise(ends)]
        run_parts(self.engine, sums, blocks, add_block, _quietly)
        merges = [MergeTask(sums, self.num_blocks, of, num, self.network) for of, num in pairs]
        found = run_parts(self.engine, results, merges, merged_distances, _quietly)
        sums.delete("blocks")
        return _distances(found)


def read_distances(folder: Folder, curves: Sequence[Curve]) -> dict[Curve, CurveDistances]:
    """Read the distances that :func:`measure_distances` wrote into ``folder`` for the same curves."""
    names = [part_name(index, len(curves)) for index in range(len(curves))]
    found = {curve: CurveDistances() for curve in curves}
    for network in BACKBONES:
        home = folder / f"{DISTANCES}{_suffix(network)}"
        if network == EFFNET or home.exists(names[0] if names else ""):
            for curve, one in zip(curves, _distances([json.loads(home.read(name)) for name in names]), strict=True):
                found[curve] |= one
    return found


def _distances(records: Sequence[Mapping[str, Any]]) -> list[CurveDistances]:
    return [CurveDistances.from_record(record) for record in records]


def _sums_name(block: int, of: CurveImages) -> str:
    identity = json.dumps(of.curve if of.shared_with is None else (of.curve, of.shared_with))
    return f"blocks/{block:05d}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"


def _quietly(done: int, total: int) -> None:
    del done, total
