"""The parts of an evaluation: images measured by a worker, whose rows and features stay in files.

A picture too large for one unit of stage 2 is only coded here; :mod:`pipelines.evaluate.large_images` samples it.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hfd.codec.codec import Codec
from hfd.data.shards import RowGroup, read_row_group
from hfd.errors import DataError
from hfd.geometry.plan import UnitKind, plan_units
from hfd.geometry.tiles import Reach
from hfd.image.load import RgbArray, encode_webp_lossless, load_rgb
from hfd.io.storage import Folder
from hfd.metrics.table import image_metrics
from pipelines.corpus.listing import Photo
from pipelines.evaluate.distances import write_features
from pipelines.evaluate.measure import (
    Coded,
    Curve,
    Measured,
    MeasureSettings,
    code,
    judge,
    sample_batch,
    samplings,
    setting_label,
)
from pipelines.runs.parts import StepPart, killed_worker

SHOWN_PX = 1024
"""The report shows this much of a side at most: the middle of a larger picture."""

INDEX = "index"
"""The column of a part's rows, beside those of the table, that says which image of the evaluation they are of."""


@dataclass(frozen=True)
class HeldOut:
    """A validation crop in a shard."""

    crops: Folder
    group: RowGroup
    row: int

    @property
    def key(self) -> str:
        return f"{self.group.shard}#{self.group.index}.{self.row}"

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        del max_pixels
        row = read_row_group(self.crops, self.group)[self.row]
        return row.id, row.pictures["x"]


@dataclass(frozen=True)
class Listed:
    """A picture of a folder or prefix."""

    photo: Photo

    @property
    def key(self) -> str:
        return self.photo.key

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        return self.photo.key, load_rgb(self.photo.read(), name=self.photo.key, max_pixels=max_pixels)


@dataclass(frozen=True)
class Task:
    """One image: its place in the evaluation, and whether it is to be shown in the report."""

    index: int
    image: HeldOut | Listed
    shown: bool


@dataclass(frozen=True)
class PartPlan:
    """The images of one part; ``killers``: places in it of those that are rejected unseen."""

    tasks: tuple[Task, ...]
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

    The result holds, beside a digest: ``rejects``; ``patches`` of the originals; ``large``: what :func:`postponed` says
    of the pictures whose stage 2 is done by tiles.
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
    patches = write_measured(part, collector.measured)
    return {
        "digest": digest.hexdigest(),
        "rejects": [reject for _, reject in sorted(collector.rejects.items())],
        "patches": patches,
        "large": [large for _, large in sorted(collector.large.items())],
    }


class ImageCollector:
    """Collects a part's images; batches small ones of equal size."""

    def __init__(self, folder: Folder, plan: PartPlan, codec: Codec) -> None:
        self._folder, self._codec, self._settings, self._max_pixels = folder, codec, plan.settings, plan.max_pixels
        self._waiting: list[tuple[Task, Coded]] = []
        self._samplings = samplings(codec, plan.settings)
        self.measured: dict[int, Measured] = {}
        self.digests: dict[int, bytes] = {}
        self.rejects: dict[int, dict[str, str]] = {}
        self.large: dict[int, dict[str, Any]] = {}

    def take(self, task: Task) -> None:
        try:
            name, x = task.image.load(self._max_pixels)
            coded = code(self._codec, name, x, functools.partial(keep, self._folder, f"files/{name}.hfd"))
        except DataError as error:
            self._reject(task, error)
            return
        pixels = x.shape[0] * x.shape[1]
        if self._samplings and pixels > self._settings.tile_pixels:
            reaches = [self._codec.reach(sampling) for sampling in self._samplings]
            self.large[task.index] = postponed(self._folder, task, coded, [asdict(reach) for reach in reaches])
            self.digests[task.index] = hashlib.sha256(coded.data).digest()
        elif 2 * pixels > self._settings.batch_pixels:
            self._finish([(task, coded)])
        else:
            self._waiting.append((task, coded))

    def finish_waiting(self) -> None:
        """Sample the pictures that share a batch, as planned, and measure them."""
        if not self._waiting:
            return
        sizes = [(coded.x.shape[0], coded.x.shape[1]) for _, coded in self._waiting]
        batches = batches_of(sizes, self._settings.batch_pixels)
        for batch in batches:
            self._finish([self._waiting[place] for place in batch])
        self._waiting = []

    def _finish(self, batch: Sequence[tuple[Task, Coded]]) -> None:
        samples = sample_batch(self._codec, [coded for _, coded in batch], self._settings)
        for (task, coded), found in zip(batch, samples, strict=True):
            try:
                measured = judge(coded, found, self._settings)
            except DataError as error:
                self._reject(task, error)
                continue
            self.measured[task.index] = measured
            self.digests[task.index] = digest_of_pictures(measured)
            if task.shown:
                keep_pictures(self._folder, task.index, coded.x, measured)

    def _reject(self, task: Task, error: DataError) -> None:
        if error.is_outage:
            raise error
        self.rejects[task.index] = {"photo": task.image.key, "reason": error.reason, "message": str(error)}


def batches_of(sizes: Sequence[tuple[int, int]], batch_pixels: int) -> list[tuple[int, ...]]:
    """Which pictures, all of them small, share a batch."""
    nowhere = Reach(0, 0, 1)
    units = plan_units(sizes, nowhere, unit_pixels=batch_pixels, batch_pixels=batch_pixels)
    assert all(unit.kind is UnitKind.BATCH for unit in units)
    return [unit.pictures for unit in units]


def postponed(folder: Folder, task: Task, coded: Coded, reaches: Sequence[dict[str, int]]) -> dict[str, Any]:
    """What is left of a large picture after stage 1: x_hat in a file of raw pixels, and the rest as JSON."""
    pixels = f"pixels/{task.index:08d}"
    folder.write(f"{pixels}/x_hat", coded.x_hat.tobytes())
    return {
        "index": task.index,
        "name": coded.name,
        "size": list(coded.x.shape[:2]),
        "seed": coded.seed,
        "bpp_est": coded.bpp_est,
        "encode_s": coded.encode_s,
        "stage1_s": coded.stage1_s,
        "reaches": list(reaches),
        "pixels": pixels,
    }


def image_schema() -> pa.Schema:
    """The columns of ``images.parquet``."""
    fields = [(name, pa.string()) for name in ("image", "system", "setting")]
    fields += [(name, pa.int64()) for name in ("width", "height", "num_bytes")]
    return pa.schema(fields + [(metric.name, pa.float64()) for metric in image_metrics()])


def digest_of_pictures(measured: Measured) -> bytes:
    digest = hashlib.sha256(measured.data)
    for picture in measured.pictures.values():
        digest.update(picture.data)
    return digest.digest()


def write_measured(part: StepPart[Any], measured: dict[int, Measured]) -> int:
    """Rows and features of a part's images, in their order, to files. Returns the patches of the originals."""
    images = [measured[place] for place in sorted(measured)]
    write_features(part.folder, feature_name(part.index, part.count), images)
    rows = [{INDEX: place, **row.to_record()} for place in sorted(measured) for row in measured[place].rows]
    table = pa.Table.from_pylist(rows, schema=image_schema().insert(0, pa.field(INDEX, pa.int64())))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    part.folder.write(row_name(part.index, part.count), buffer.getvalue())
    return sum(len(image.original) for image in images)


def feature_name(index: int, count: int) -> str:
    return f"features/{index:05d}-of-{count:05d}.npz"


def row_name(index: int, count: int) -> str:
    return f"rows/{index:05d}-of-{count:05d}.parquet"


def keep(folder: Folder, name: str, data: bytes) -> bytes:
    folder.write(name, data)
    return folder.read(name)


def keep_pictures(folder: Folder, index: int, x: RgbArray, measured: Measured) -> None:
    """The versions that the report shows: original, both stages, and AVIF near our rate; large ones cut."""
    prefix, pictures = f"pictures/{index:08d}", measured.pictures
    wanted: list[tuple[Curve, RgbArray]] = [(("original", ""), x)]
    wanted += [(curve, pictures[curve]) for curve in pictures if curve[0] in ("autoencoder", "sample")]
    near = [curve for side in ("at most", "at least") if (curve := ("avif", setting_label(side, 1.0))) in pictures]
    wanted += [(curve, pictures[curve]) for curve in near[:1]]
    names = "".join(f"{system}|{setting}\n" for (system, setting), _ in wanted)
    for number, (_, picture) in enumerate(wanted):
        folder.write(f"{prefix}/{number}.webp", encode_webp_lossless(_middle(picture)))
    folder.write(f"{prefix}/names.txt", f"{measured.name}\n{names}".encode())


def _middle(x: RgbArray) -> RgbArray:
    top, left = (max(0, (side - SHOWN_PX) // 2) for side in x.shape[:2])
    return x[top : top + SHOWN_PX, left : left + SHOWN_PX]
