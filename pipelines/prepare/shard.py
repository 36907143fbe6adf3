"""Work of one part of the prepare step: cut a shard's photographs, or rewrite a shard without duplicates."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hfd.data.crops import Crop, CropSettings
from hfd.data.examine import Examined, examine
from hfd.data.filters import FilterSettings
from hfd.data.photo_record import PhotoRecord, records_to_table
from hfd.data.shards import (
    ROWS_PER_GROUP,
    SPLITS,
    RowGroup,
    ShardWriter,
    iterate_shard,
    open_shard,
    read_row_group,
    shard_name,
)
from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.listing import Photo
from pipelines.corpus.read_ahead import read_ahead
from pipelines.prepare.photo_table import part_table_name, records_between, write_table
from pipelines.runs.parts import KILLED_WORKER, StepPart, killed_worker

GLOBAL_REASONS = ("in-evaluation", "duplicate", "near-duplicate")
"""Reasons from comparison with other pictures, after all parts; all others are a photograph's own."""

PASSING_REASONS = ("changed", "missing", "permission", "archived", "encrypted", KILLED_WORKER)
"""Temporary reasons: a later snapshot tries these photographs again."""


@dataclass(frozen=True)
class ExamineSettings:
    """Settings for examining and cutting one photograph, independent of the rest of the corpus."""

    crops: CropSettings
    filters: FilterSettings
    hashed: bool


@dataclass(frozen=True)
class EarlierSnapshot:
    """A finished snapshot in ``count`` parts, made with the same settings."""

    folder: Folder
    count: int


@dataclass(frozen=True)
class ShardPlan:
    """The photographs of one shard, in the corpus's order, and the settings."""

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
    """Shard ``index`` of ``count`` in ``folder``, to be rewritten with the photographs ``order`` (keys, sorted).

    ``missing``: those of them that the shard lacks so far.
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
    records: list[PhotoRecord] = []
    with contextlib.closing(fetched), _shard(folder, index, count) as writers:
        copies = _Copies(plan.earlier)
        for photo in plan.photos:
            if photo.key in killers:
                reject = killed_worker(photo.key)
                record = _rejected(photo, reject["reason"], reject["message"])
            elif (earlier := known.get(photo.key)) is not None:
                copied = copies.copy(earlier, writers)
                # None: the earlier shard is damaged or gone.
                record = _add(photo, _read(photo), plan.settings, writers) if copied is None else copied
            else:
                same, data = next(fetched)
                assert same is photo
                record = _add(photo, _checked(data), plan.settings, writers)
            records.append(replace(record, part=index))
    write_table(folder, part_table_name(index, count), records_to_table(records))
    return {"photos": len(records), "copied": copies.count}


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
                # Both are sorted by key: skip earlier photographs of the shard.
                while (group := waiting[split]) is not None and group[0] < key:
                    waiting[split] = next(held[split], None)
                if group is not None and group[0] == key:
                    found = True
                    for crop in group[1]:
                        writers[split].add(crop)
            if not found and key in missing:
                photo = missing[key]
                fetched += 1
                examined = examine(
                    photo.read(), key, plan.settings.crops, plan.settings.filters, hashed=plan.settings.hashed
                )
                if examined.error is not None:
                    raise examined.error
                for crop in examined.crops:
                    writers[examined.split].add(crop)
    return {"photos": len(plan.order), "fetched": fetched}


@contextlib.contextmanager
def _shard(folder: Folder, index: int, count: int) -> Iterator[dict[str, ShardWriter]]:
    with contextlib.ExitStack() as stack:
        yield {
            split: stack.enter_context(open_shard(folder, shard_name(split, index, count), ("x",))) for split in SPLITS
        }


def _by_photo(folder: Folder, shard: str) -> Iterator[tuple[str, list[Crop]]]:
    """Iterate over the photographs of a shard and their crops."""
    for photo, crops in itertools.groupby(iterate_shard(folder, shard), key=lambda crop: crop.photo):
        yield photo, list(crops)


def _read(photo: Photo) -> bytes | DataError:
    try:
        return photo.read()
    except DataError as error:
        return _checked(error)


def _checked(data: bytes | DataError) -> bytes | DataError:
    """Raise an outage; any other failure to fetch rejects the photograph."""
    if isinstance(data, DataError) and data.is_outage:
        raise data
    return data


def _add(
    photo: Photo, data: bytes | DataError, settings: ExamineSettings, writers: Mapping[str, ShardWriter]
) -> PhotoRecord:
    """Examine a photograph and write its crops."""
    if isinstance(data, DataError):
        return _rejected(photo, data.reason, str(data))
    found = examine(data, photo.key, settings.crops, settings.filters, hashed=settings.hashed)
    for crop in found.crops:
        writers[found.split].add(crop)
    return _record(photo, found)


def _rejected(photo: Photo, reason: str, message: str) -> PhotoRecord:
    return PhotoRecord(photo.key, photo.size, photo.stamp, reason=reason, message=message)


def _record(photo: Photo, found: Examined) -> PhotoRecord:
    record = PhotoRecord(
        photo.key,
        photo.size,
        photo.stamp,
        content=found.content,
        format=found.format,
        jpeg_quality=found.jpeg_quality,
        width=found.width,
        height=found.height,
        colourfulness=found.measures.colourfulness,
        sharpness=found.measures.sharpness,
        clipped_share=found.measures.clipped_share,
        hash=found.hash,
    )
    if found.error is not None:
        return replace(record, reason=found.error.reason, message=str(found.error))
    pixels = sum(crop.x.shape[0] * crop.x.shape[1] for crop in found.crops)
    message = "; ".join(note.text for note in found.notes) or None
    record = replace(record, message=message)
    return replace(record, split=found.split, crops=len(found.crops), pixels=pixels, digest=_digest(found), row=0)


def _digest(found: Examined) -> str:
    digest = hashlib.sha256()
    for crop in found.crops:
        digest.update(f"{found.split} {crop.id} {crop.x.shape}".encode())
        digest.update(crop.x.data)
    return digest.hexdigest()


def _known(plan: ShardPlan) -> dict[str, PhotoRecord]:
    """Records of the earlier snapshot that are still valid, by key."""
    if plan.earlier is None:
        return {}
    try:
        found = records_between(plan.earlier.folder, plan.photos[0].key, plan.photos[-1].key)
    except DataError as error:
        if error.is_outage:
            raise
        return {}  # the earlier output was deleted or damaged: make everything again
    return {
        photo.key: record
        for photo in plan.photos
        if (record := found.get(photo.key)) is not None
        and (record.size, record.stamp) == (photo.size, photo.stamp)
        and record.reason not in PASSING_REASONS
    }


class _Copies:
    """Copies crops out of an earlier snapshot's shards; reads each row group once if keys come in order."""

    def __init__(self, earlier: EarlierSnapshot | None) -> None:
        self._earlier = earlier
        self._read: dict[str, tuple[RowGroup, list[Crop]]] = {}
        self.count = 0

    def copy(self, record: PhotoRecord, writers: Mapping[str, ShardWriter]) -> PhotoRecord | None:
        """Write a photograph's crops and return its new record; None if the crops cannot be read.

        The record loses a reason that came from comparison, since the other pictures may have changed.
        """
        crops: list[Crop] = []
        if record.reason in GLOBAL_REASONS:
            record = replace(record, reason=None, message=None)
        elif record.reason is None:
            try:
                crops = [self._crop(record, number) for number in range(record.crops)]
            except (DataError, IndexError) as error:
                if isinstance(error, DataError) and error.is_outage:
                    raise
                return None
            if any(crop.photo != record.photo for crop in crops):
                return None
        for crop in crops:
            assert record.split is not None
            writers[record.split].add(crop)
        self.count += 1
        return replace(record, row=0 if crops else None)

    def _crop(self, record: PhotoRecord, number: int) -> Crop:
        assert self._earlier is not None and record.split is not None
        assert record.part is not None and record.row is not None
        shard, row = shard_name(record.split, record.part, self._earlier.count), record.row + number
        group, crops = self._read.get(record.split, (None, []))
        if group is None or (group.shard, group.index) != (shard, row // ROWS_PER_GROUP):
            group = RowGroup(shard, row // ROWS_PER_GROUP, 0)
            crops = read_row_group(self._earlier.folder, group)
            self._read[record.split] = (group, crops)
        return crops[row % ROWS_PER_GROUP]
