"""What workers do for the prepare step: cut a shard's photographs, and drop from it what is there twice."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hfd.data.crops import CropSettings, SourceCrop
from hfd.data.examine import Examined, examine
from hfd.data.filters import FilterSettings
from hfd.data.shards import (
    ROWS_PER_GROUP,
    SPLITS,
    Row,
    RowGroup,
    ShardWriter,
    iterate_shard,
    open_shard,
    read_row_group,
    row_of,
    shard_name,
)
from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.listing import Photo
from pipelines.corpus.read_ahead import read_ahead
from pipelines.prepare.photo_table import part_table_name, rows_between, table_of, write_table
from pipelines.runs.parts import KILLED_WORKER, StepPart, killed_worker

GLOBAL_REASONS = ("in-evaluation", "duplicate", "near-duplicate")
"""Given by comparison with other pictures, after all parts; every other reason is a photograph's own."""

PASSING_REASONS = ("changed", "missing", "permission", KILLED_WORKER)
"""Of the moment: a later snapshot tries these photographs again."""


@dataclass(frozen=True)
class ExamineSettings:
    """How a photograph is judged and cut, whatever else is in the corpus."""

    crops: CropSettings
    filters: FilterSettings
    hashed: bool


@dataclass(frozen=True)
class EarlierSnapshot:
    """A finished snapshot whose photographs were judged and cut by the same settings, in ``count`` parts."""

    folder: Folder
    count: int


@dataclass(frozen=True)
class ShardPlan:
    """The photographs of one shard, in the corpus's order, and how they are cut."""

    photos: tuple[Photo, ...]
    settings: ExamineSettings
    earlier: EarlierSnapshot | None = None
    killers: frozenset[int] = frozenset()
    """Indices of photographs to reject without reading them: workers died on them."""

    def __len__(self) -> int:
        return len(self.photos)

    def only(self, index: int) -> ShardPlan:
        return replace(self, photos=(self.photos[index],), killers=frozenset())

    def rejecting(self, indices: frozenset[int]) -> ShardPlan:
        return replace(self, killers=self.killers | indices)


@dataclass(frozen=True)
class RewritePlan:
    """A shard without the photographs in ``dropped``, and with those in ``missing``, which it lacks so far.

    ``order``: the keys of those that it will hold, in order. ``index`` of ``count`` shards in ``folder``.
    """

    folder: Folder
    index: int
    count: int
    order: tuple[str, ...]
    missing: tuple[Photo, ...]
    settings: ExamineSettings


def prepare_part(part: StepPart[ShardPlan]) -> dict[str, Any]:
    """Crop one shard's photographs, with one decoded photograph in memory at a time."""
    plan, index, count, folder = part.payload, part.index, part.count, part.folder
    known = _known(plan)
    killers = {plan.photos[killer].key for killer in plan.killers}
    fetched = read_ahead([photo for photo in plan.photos if photo.key not in known and photo.key not in killers])
    rows: list[dict[str, Any]] = []
    with contextlib.closing(fetched), _shard(folder, index, count) as writers:
        copies = _Copies(plan.earlier)
        for photo in plan.photos:
            if photo.key in killers:
                rows.append(_unseen(photo) | killed_worker(photo.key) | {"part": index})
                continue
            row = known.get(photo.key)
            if row is not None:
                copied = copies.crops_of(row)
                if copied is not None:
                    for crop in copied:
                        writers[row["split"]].add(crop)
                    rows.append({**row, "part": index, "row": 0 if copied else None})
                    continue
                one = _read(photo)  # what it was copied from is damaged or gone
            else:
                same, data = next(fetched)
                assert same is photo
                one = _checked(data)
            rows.append(_add(photo, one, plan.settings, writers) | {"part": index})
    write_table(folder, part_table_name(index, count), table_of(rows))
    return {"photos": len(rows), "copied": copies.count}


def rewrite_part(part: StepPart[RewritePlan]) -> dict[str, Any]:
    """Rewrite a shard with exactly the photographs of its plan. Idempotent: existing crops are copied."""
    plan = part.payload
    missing = {photo.key: photo for photo in plan.missing}
    held = {split: _by_photo(plan.folder, shard_name(split, plan.index, plan.count)) for split in SPLITS}
    fetched = 0
    with _shard(plan.folder, plan.index, plan.count) as writers:
        waiting = {split: next(held[split], None) for split in SPLITS}
        for key in plan.order:
            found = False
            for split in SPLITS:
                # Both are in the order of keys: what comes before this one is not to stay.
                while (group := waiting[split]) is not None and group[0] < key:
                    waiting[split] = next(held[split], None)
                if group is not None and group[0] == key:
                    found = True
                    for row in group[1]:
                        writers[split].add(row)
            if not found and key in missing:
                photo = missing[key]
                fetched += 1
                examined = examine(
                    photo.read(), key, plan.settings.crops, plan.settings.filters, hashed=plan.settings.hashed
                )
                if examined.error is not None:
                    raise examined.error
                for crop in examined.crops:
                    writers[crop.split].add(row_of(crop))
    return {"photos": len(plan.order), "fetched": fetched}


@contextlib.contextmanager
def _shard(folder: Folder, index: int, count: int) -> Iterator[dict[str, ShardWriter]]:
    with contextlib.ExitStack() as stack:
        yield {
            split: stack.enter_context(open_shard(folder, shard_name(split, index, count), ("x",))) for split in SPLITS
        }


def _by_photo(folder: Folder, shard: str) -> Iterator[tuple[str, list[Row]]]:
    """The rows of a shard, photograph by photograph."""
    key, rows = "", list[Row]()
    for row in iterate_shard(folder, shard):
        if rows and row.photo != key:
            yield key, rows
            rows = []
        key = row.photo
        rows.append(row)
    if rows:
        yield key, rows


def _read(photo: Photo) -> bytes | DataError:
    try:
        return photo.read()
    except DataError as error:
        return _checked(error)


def _checked(data: bytes | DataError) -> bytes | DataError:
    """Raises an outage; any other failure to fetch is the photograph's own."""
    if isinstance(data, DataError) and data.is_outage:
        raise data
    return data


def _add(
    photo: Photo, data: bytes | DataError, settings: ExamineSettings, writers: Mapping[str, ShardWriter]
) -> dict[str, Any]:
    """Judge a photograph, write its crops, and return its row."""
    row = _unseen(photo)
    if isinstance(data, DataError):
        return row | {"reason": data.reason, "message": str(data)}
    found = examine(data, photo.key, settings.crops, settings.filters, hashed=settings.hashed)
    row |= _facts(found)
    if found.error is not None:
        return row | {"reason": found.error.reason, "message": str(found.error)}
    for crop in found.crops:
        writers[crop.split].add(row_of(crop))
    pixels = sum(crop.x.shape[0] * crop.x.shape[1] for crop in found.crops)
    return row | {
        "split": found.crops[0].split,
        "crops": len(found.crops),
        "pixels": pixels,
        "digest": _digest(found.crops),
        "row": 0,
    }


def _unseen(photo: Photo) -> dict[str, Any]:
    return {"photo": photo.key, "size": photo.size, "stamp": photo.stamp, "crops": 0, "pixels": 0}


def _facts(found: Examined) -> dict[str, Any]:
    return {
        "content": found.content,
        "format": found.format,
        "jpeg_quality": found.jpeg_quality,
        "width": found.width,
        "height": found.height,
        "colourfulness": found.looks.colourfulness,
        "sharpness": found.looks.sharpness,
        "clipped_share": found.looks.clipped_share,
        "hash": found.hash,
    }


def _digest(crops: Sequence[SourceCrop]) -> str:
    digest = hashlib.sha256()
    for crop in crops:
        digest.update(f"{crop.split} {crop.id} {crop.x.shape}".encode())
        digest.update(crop.x.data)
    return digest.hexdigest()


def _known(plan: ShardPlan) -> dict[str, dict[str, Any]]:
    """The rows of photographs that the earlier snapshot has judged, by key."""
    if plan.earlier is None:
        return {}
    try:
        found = rows_between(plan.earlier.folder, plan.photos[0].key, plan.photos[-1].key)
    except DataError as error:
        if error.is_outage:
            raise
        return {}  # an output that was deleted or damaged: everything is made again, the same
    known = {}
    for photo in plan.photos:
        row = found.get(photo.key)
        if row is None or (row["size"], row["stamp"]) != (photo.size, photo.stamp) or row["reason"] in PASSING_REASONS:
            continue
        known[photo.key] = row
    return known


class _Copies:
    """Crops out of an earlier snapshot's shards, whose row groups are read once when keys come in order."""

    def __init__(self, earlier: EarlierSnapshot | None) -> None:
        self._earlier = earlier
        self._read: dict[str, tuple[RowGroup, list[Row]]] = {}
        self.count = 0

    def crops_of(self, row: dict[str, Any]) -> list[Row] | None:
        """A photograph's crops, none if it was rejected; None where they cannot be had.

        ``row`` loses a reason that came from comparison: what it is compared with may have changed.
        """
        if row["reason"] in GLOBAL_REASONS:
            row["reason"] = row["message"] = None
            self.count += 1
            return []
        if row["reason"] is not None:
            self.count += 1
            return []
        try:
            rows = [self._row(row, row["row"] + offset) for offset in range(row["crops"])]
        except (DataError, IndexError) as error:
            if isinstance(error, DataError) and error.is_outage:
                raise
            return None
        if any(one.photo != row["photo"] for one in rows):
            return None
        self.count += 1
        return rows

    def _row(self, row: dict[str, Any], number: int) -> Row:
        assert self._earlier is not None
        shard = shard_name(row["split"], row["part"], self._earlier.count)
        group, rows = self._read.get(row["split"], (None, []))
        if group is None or (group.shard, group.index) != (shard, number // ROWS_PER_GROUP):
            group = RowGroup(shard, number // ROWS_PER_GROUP, 0)
            rows = read_row_group(self._earlier.folder, group)
            self._read[row["split"]] = (group, rows)
        return rows[number % ROWS_PER_GROUP]
