"""Measure the images of one part on a worker; rows, features and files stay in the step's folder.

A picture too large for one unit of stage 2 is only coded here; :mod:`pipelines.evaluate.large_images` samples it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hfd.codec.codec import Codec
from hfd.data.crops import Crop
from hfd.data.shards import RowGroup, read_row_group
from hfd.errors import DataError
from hfd.geometry.plan import UnitKind, plan_units
from hfd.geometry.tiles import Reach
from hfd.image.load import RgbArray, encode_webp_lossless, load_rgb
from hfd.image.notes import collected_notes
from hfd.image.square import centre_square
from hfd.io.storage import Folder
from hfd.metrics.backbones import BackboneName
from hfd.metrics.original import Original
from hfd.metrics.table import image_metrics
from hfd.report.summarise import Curve
from pipelines.corpus.photo import Photo
from pipelines.evaluate.decoded import DecodedPicture, add_decoded
from pipelines.evaluate.distances import EFFNET, ORIGINAL, feature_name, write_features
from pipelines.evaluate.measure import Coded, Measured, MeasureSettings, code, measure, sample_batch, samplings
from pipelines.evaluate.rate_names import SIDES, setting_label
from pipelines.evaluate.results import ExamplePictures, LargeImage, PartResult, rejection
from pipelines.runs.parts import StepPart, killed_worker

SHOWN_PX = 1024
"""Longest side in the report, px; larger pictures are cropped to their centre."""

INDEX = "index"
"""An additional column of a part's rows: the image's index in the evaluation."""


@dataclass(frozen=True)
class ValidationCrop:
    """A validation crop in a shard."""

    crops: Folder
    group: RowGroup
    row: int

    @property
    def decoded(self) -> tuple[DecodedPicture, ...]:
        """No other system has decoded a crop of our own."""
        return ()

    @property
    def key(self) -> str:
        return f"{self.group.shard}#{self.group.index}.{self.row}"

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        del max_pixels
        row = _read_group(self.crops, self.group)[self.row]
        return row.id, row.pictures["x"]


@functools.lru_cache(maxsize=1)
def _read_group(crops: Folder, group: RowGroup) -> list[Crop]:
    """Read a row group, cached: it can only be read whole, and a worker measures its crops one after another."""
    return read_row_group(crops, group)


@dataclass(frozen=True)
class CorpusPhoto:
    """A picture of a folder or prefix, and what other systems made of it."""

    photo: Photo
    decoded: tuple[DecodedPicture, ...] = ()

    @property
    def key(self) -> str:
        return self.photo.key

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        with collected_notes() as notes:
            x = load_rgb(self.photo.read(), name=self.photo.key, max_pixels=max_pixels)
        for note in notes:
            print(f"hfd: {self.photo.key}: {note.text}", file=sys.stderr, flush=True)
        return self.photo.key, x


EvaluatedImage = ValidationCrop | CorpusPhoto


@dataclass(frozen=True)
class ImageTask:
    """One image: its index in the evaluation, whether the report shows it, and ``evaluate.square_px``."""

    index: int
    image: EvaluatedImage
    shown: bool
    square_px: int | None = None

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        """Return the name and the pixels to measure. Raises :class:`DataError`."""
        name, x = self.image.load(max_pixels)
        return name, x if self.square_px is None else centre_square(x, self.square_px)


@dataclass(frozen=True)
class PartPlan:
    """The images of one part; ``killers``: positions of the images to reject without loading them."""

    tasks: tuple[ImageTask, ...]
    settings: MeasureSettings
    max_pixels: int
    killers: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.tasks)

    def only(self, index: int) -> PartPlan:
        return replace(self, tasks=(self.tasks[index],), killers=frozenset())

    def rejecting(self, indices: frozenset[int]) -> PartPlan:
        return replace(self, killers=self.killers | indices)


def evaluate_part(part: StepPart[PartPlan], codec: Codec) -> dict[str, Any]:
    """Measure the images of one part; rows, features, files and shown pictures go to the step's folder.

    Returns the record of a :class:`PartResult`.
    """
    plan = part.payload
    collector = ImageCollector(part.folder, plan, codec)
    for position, task in enumerate(plan.tasks):
        if position in plan.killers:
            collector.rejects[task.index] = killed_worker(task.image.key)
        else:
            collector.take(task)
    collector.finish_waiting()
    digest = hashlib.sha256()
    for task_index in sorted(collector.digests):
        digest.update(collector.digests[task_index])
    patches = write_measured(part, collector.measured, plan.settings.networks)
    rejects = [collector.rejects[image] for image in sorted(collector.rejects)]
    large = [collector.large[image] for image in sorted(collector.large)]
    return PartResult(digest.hexdigest(), rejects, patches, large).to_record()


class ImageCollector:
    """Collects a part's images; samples small ones of equal size in batches."""

    def __init__(self, folder: Folder, plan: PartPlan, codec: Codec) -> None:
        self._folder, self._codec, self._settings, self._max_pixels = folder, codec, plan.settings, plan.max_pixels
        self._waiting: list[tuple[ImageTask, Coded]] = []
        self._samplings = samplings(codec, plan.settings)
        self.measured: dict[int, Measured] = {}
        self.digests: dict[int, bytes] = {}
        self.rejects: dict[int, dict[str, str]] = {}
        self.large: dict[int, LargeImage] = {}

    def take(self, task: ImageTask) -> None:
        try:
            name, x = task.load(self._max_pixels)
            keep = functools.partial(store, self._folder, f"files/{name}.hfd")
            coded = code(self._codec, name, x, keep, self._settings.rate, self._settings.refine_steps)
        except DataError as error:
            self._reject(task, error)
            return
        pixels = x.shape[0] * x.shape[1]
        if self._samplings and pixels > self._settings.tile_pixels:
            reaches = tuple(self._codec.reach(sampling) for sampling in self._samplings)
            self.large[task.index] = postpone(self._folder, task, coded, reaches)
            self.digests[task.index] = hashlib.sha256(coded.data).digest()
        elif 2 * pixels > self._settings.batch_pixels:
            self._finish([(task, coded)])
        else:
            self._waiting.append((task, coded))

    def finish_waiting(self) -> None:
        """Sample and measure the pictures that share a batch."""
        sizes = [(coded.x.shape[0], coded.x.shape[1]) for _, coded in self._waiting]
        for batch in batches_of(sizes, self._settings.batch_pixels):
            self._finish([self._waiting[position] for position in batch])
        self._waiting = []

    def _finish(self, batch: Sequence[tuple[ImageTask, Coded]]) -> None:
        samples = sample_batch(self._codec, [coded for _, coded in batch], self._settings)
        for (task, coded), own in zip(batch, samples, strict=True):
            try:
                original = Original(coded.x)
                measured = measure(coded, own, self._settings, original)
                add_decoded(measured, original, task.image.decoded, self._settings)
            except DataError as error:
                self._reject(task, error)
                continue
            self.measured[task.index] = measured
            self.digests[task.index] = digest_of_pictures(measured)
            if task.shown:
                write_pictures(self._folder, task, coded.x, measured)

    def _reject(self, task: ImageTask, error: DataError) -> None:
        if error.is_outage:
            raise error
        self.rejects[task.index] = rejection(task.image.key, error)


def batches_of(sizes: Sequence[tuple[int, int]], batch_pixels: int) -> list[tuple[int, ...]]:
    """Indices of the pictures, all of them small, that share each batch."""
    if not sizes:
        return []
    units = plan_units(sizes, Reach(0, 0, 1), unit_pixels=batch_pixels, batch_pixels=batch_pixels)
    assert all(unit.kind is UnitKind.BATCH for unit in units)
    return [unit.pictures for unit in units]


def postpone(folder: Folder, task: ImageTask, coded: Coded, reaches: tuple[Reach, ...]) -> LargeImage:
    """Write x_hat of a large picture as raw pixels, from which its tiles are sampled."""
    pixels, (height, width) = f"pixels/{task.index:08d}", coded.x.shape[:2]
    folder.write(f"{pixels}/x_hat", coded.x_hat.tobytes())
    times = coded.encode_s, coded.stage1_s
    facts = coded.name, (height, width), coded.seed, coded.bpp_est
    return LargeImage(task.index, *facts, *times, reaches, pixels, coded.is_grey)


def image_schema(measured: Collection[str] = ()) -> pa.Schema:
    """Return the columns of ``images.parquet``; of optional metrics those whose names are in ``measured``."""
    fields = [(name, pa.string()) for name in ("image", "system", "setting")]
    fields += [(name, pa.int64()) for name in ("width", "height", "num_bytes")]
    return pa.schema(fields + [(metric.name, pa.float64()) for metric in image_metrics(measured)])


def digest_of_pictures(measured: Measured) -> bytes:
    digest = hashlib.sha256(measured.data)
    for picture in measured.pictures.values():
        digest.update(picture.data)
    return digest.digest()


def write_measured(
    part: StepPart[Any], measured: dict[int, Measured], networks: Sequence[BackboneName] = (EFFNET,)
) -> dict[BackboneName, int]:
    """Write the rows and features of a part's images in order. Returns the number of patches by network."""
    images = [measured[image] for image in sorted(measured)]
    for network in networks:
        write_features(part.folder, feature_name(part.index, part.count, network), images, network)
    rows = [{INDEX: image, **row.to_record()} for image in sorted(measured) for row in measured[image].rows]
    schema = image_schema({name for row in rows for name in row}).insert(0, pa.field(INDEX, pa.int64()))
    table = pa.Table.from_pylist(rows, schema=schema)
    part.folder.write(row_name(part.index, part.count), parquet_bytes(table))
    return {network: sum(image.num_patches(network) for image in images) for network in networks}


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def row_name(index: int, count: int) -> str:
    return f"rows/{index:05d}-of-{count:05d}.parquet"


def store(folder: Folder, name: str, data: bytes) -> bytes:
    """Write a file and return its bytes as read back."""
    folder.write(name, data)
    return folder.read(name)


def write_pictures(folder: Folder, task: ImageTask, x: RgbArray, measured: Measured) -> None:
    """Write the versions that the report shows: original, both stages, AVIF near our rate, and those made elsewhere."""
    near = [curve for side in SIDES if (curve := ("avif", setting_label(side, 1.0))) in measured.pictures]
    write_versions(folder, task, x, measured, near[:1])


def write_versions(
    folder: Folder, task: ImageTask, x: RgbArray, measured: Measured, baselines: Sequence[Curve]
) -> None:
    """Write the original, our pictures, those of ``baselines`` and those made elsewhere."""
    pictures = {ORIGINAL: x, **measured.pictures}
    wanted: list[Curve] = [curve for curve in pictures if curve[0] in (ORIGINAL[0], "autoencoder", "sample")]
    wanted += baselines
    wanted += [curve for one in task.image.decoded if (curve := (one.system, one.setting)) in pictures]
    home = folder / f"pictures/{task.index:08d}"
    for number, curve in enumerate(wanted):
        home.write(f"{number}.webp", encode_webp_lossless(_middle(pictures[curve])))
    ExamplePictures(measured.name, tuple(wanted)).write(home)


def _middle(x: RgbArray) -> RgbArray:
    top, left = (max(0, (side - SHOWN_PX) // 2) for side in x.shape[:2])
    return x[top : top + SHOWN_PX, left : left + SHOWN_PX]
