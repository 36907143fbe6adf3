"""Work of one part of the prepare step: cut the photographs of a shard, or of a pack."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hfd.data.examine import Examined, examine
from hfd.data.photo_record import PhotoRecord, records_to_table
from hfd.errors import DataError
from hfd.image.tree import Selection, merged
from pipelines.corpus.packs.fields import satisfies, text_of, unmet
from pipelines.corpus.packs.members import members
from pipelines.corpus.packs.pack import Member, too_large
from pipelines.corpus.photo import Photo
from pipelines.corpus.read_ahead import read_ahead
from pipelines.prepare.copies import Copies
from pipelines.prepare.features import open_features
from pipelines.prepare.left_out import skipped_to_record
from pipelines.prepare.photo_table import part_table_name, records_between, write_table
from pipelines.prepare.plans import (
    FILTERED,
    PASSING_REASONS,
    EarlierSnapshot,
    ExamineSettings,
    PackPlan,
    ShardPlan,
    checked,
)
from pipelines.prepare.writers import PartWriters, open_writers
from pipelines.runs.parts import StepPart, killed_worker


def prepare_part(part: StepPart[ShardPlan | PackPlan]) -> dict[str, Any]:
    """Crop one shard's photographs, with one decoded photograph in memory at a time."""
    plan, index, count, folder = part.payload, part.index, part.count, part.folder
    copies, embedded = Copies(plan.earlier), plan.settings.embedded
    with contextlib.ExitStack() as stack:
        shards = stack.enter_context(open_writers(folder, index, count))
        features = stack.enter_context(open_features(folder, index, count)) if embedded else None
        writers = PartWriters(shards, features)
        selection = plan.settings.members.selection()
        found = (
            _loose(plan, copies, writers) if isinstance(plan, ShardPlan) else _packed(plan, copies, writers, selection)
        )
        records = [replace(record, part=index) for record in found]
    write_table(folder, part_table_name(index, count), records_to_table(records, plan.settings.members.metadata))
    skipped = skipped_to_record(merged(selection.skipped, copies.skipped))
    return {"photos": len(records), "copied": copies.count, **({"skipped": skipped} if skipped else {})}


def _loose(plan: ShardPlan, copies: Copies, writers: PartWriters) -> Iterator[PhotoRecord]:
    photos, known, allowed = tuple(plan.photos), _known(plan), plan.settings.members
    killers = {photos[killer].key for killer in plan.killers}

    def is_wanted(photo: Photo) -> bool:
        return not allowed.where or satisfies(photo.fields, allowed.where)

    def is_read(photo: Photo) -> bool:
        return (
            photo.key not in killers and photo.key not in known and photo.size <= allowed.max_bytes and is_wanted(photo)
        )

    fetched = read_ahead([photo for photo in photos if is_read(photo)])
    with contextlib.closing(fetched):
        for photo in photos:
            if photo.key in killers:
                yield _killer(photo)
            elif (earlier := known.get(photo.key)) is not None:
                copied = copies.copy(earlier, writers)
                # None: the earlier shard is damaged or gone.
                yield _add(photo, _read(photo), plan.settings, writers) if copied is None else copied
            elif is_read(photo):
                same, data = next(fetched)
                assert same is photo
                yield _add(photo, checked(data), plan.settings, writers)
            else:
                yield _add(photo, too_large(photo.key, photo.size, allowed), plan.settings, writers)


def _packed(plan: PackPlan, copies: Copies, writers: PartWriters, selection: Selection) -> Iterator[PhotoRecord]:
    """Copy the pictures of an unchanged pack without opening it, or read them from it."""
    known, done = _known_members(plan), set()
    for earlier in known:
        copied = copies.copy(earlier, writers)
        if copied is None:  # the earlier shard is damaged or gone: read the others from the pack
            break
        done.add(copied.photo)
        yield copied
    if known and len(done) == len(known):
        copies.take_skipped(known[0])
        return
    with contextlib.closing(members(plan.pack, plan.settings.members, selection)) as found:
        for number, member in enumerate(found):
            if member.key in done or plan.alone not in (None, number):
                continue
            yield _killer(member) if number in plan.killers else _add(member, member.data, plan.settings, writers)


def _killer(picture: Photo | Member) -> PhotoRecord:
    reject = killed_worker(picture.key)
    return _rejected(picture, reject["reason"], reject["message"])


def _read(photo: Photo) -> bytes | DataError:
    try:
        return photo.read()
    except DataError as error:
        return checked(error)


def _add(
    photo: Photo | Member, data: bytes | DataError, settings: ExamineSettings, writers: PartWriters
) -> PhotoRecord:
    """Examine a photograph and write its crops and features."""
    names = settings.members.metadata
    if (fault := unmet(photo.fields, settings.members.where)) is not None:
        return _with_metadata(_rejected(photo, FILTERED, f"{photo.key}: {fault} by data.where"), photo, names)
    if isinstance(data, DataError):
        return _with_metadata(_rejected(photo, data.reason, str(data)), photo, names)
    found = examine(
        data, photo.key, settings.crops, settings.filters, hashed=settings.hashed, embedded=settings.embedded
    )
    for crop in found.crops:
        writers.shards[found.split].add(crop)
    if writers.features is not None and found.thumbnail is not None:
        writers.features.add(photo.key, found.thumbnail)
    return _with_metadata(_record(photo, found), photo, names)


def _with_metadata(record: PhotoRecord, photo: Photo | Member, names: Sequence[str]) -> PhotoRecord:
    if not names:
        return record
    return replace(record, metadata={name: text_of(value) for name, value in photo.fields if name in names})


def _rejected(photo: Photo | Member, reason: str, message: str) -> PhotoRecord:
    return PhotoRecord(photo.key, photo.size, photo.stamp, reason=reason, message=message)


def _record(photo: Photo | Member, found: Examined) -> PhotoRecord:
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
    return replace(
        record, message=message, split=found.split, crops=len(found.crops), pixels=pixels, digest=_digest(found), row=0
    )


def _digest(found: Examined) -> str:
    digest = hashlib.sha256()
    for crop in found.crops:
        digest.update(f"{found.split} {crop.id} {crop.x.shape}".encode())
        digest.update(crop.x.data)
    return digest.hexdigest()


def _known(plan: ShardPlan) -> dict[str, PhotoRecord]:
    """Records of the earlier snapshot that are still valid, by key."""
    found = _earlier_records(plan.earlier, plan.photos[0].key, plan.photos[-1].key)
    return {
        photo.key: record
        for photo in plan.photos
        if (record := found.get(photo.key)) is not None
        and (record.size, record.stamp) == (photo.size, photo.stamp)
        and record.reason not in PASSING_REASONS
    }


def _known_members(plan: PackPlan) -> list[PhotoRecord]:
    """Records of all members of the pack in the earlier snapshot, in order; none if any is no longer valid."""
    found = list(_earlier_records(plan.earlier, *plan.pack.bounds).values())
    own = [record for record in found if record.photo == plan.pack.key or record.photo.startswith(f"{plan.pack.key}/")]
    valid = all(record.stamp == plan.pack.version and record.reason not in PASSING_REASONS for record in own)
    return own if valid else []


def _earlier_records(earlier: EarlierSnapshot | None, first: str, last: str) -> dict[str, PhotoRecord]:
    """Read the records of an earlier snapshot with keys in [first, last], in its order, by key."""
    if earlier is None:
        return {}
    try:
        return records_between(earlier.folder, first, last)
    except DataError as error:
        if error.is_outage:
            raise
        return {}  # the earlier output was deleted or damaged: make everything again
