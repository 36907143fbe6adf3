"""Copy the crops and features of unchanged photographs out of an earlier snapshot."""

from __future__ import annotations

import json
from dataclasses import replace

from hfd.data.crops import Crop
from hfd.data.photo_record import PhotoRecord
from hfd.data.shards import ROWS_PER_GROUP, RowGroup, read_row_group, shard_name
from hfd.errors import DataError
from hfd.image.tree import Skipped
from pipelines.prepare.features import EarlierFeatures
from pipelines.prepare.left_out import skipped_of_record
from pipelines.prepare.plans import GLOBAL_REASONS, EarlierSnapshot
from pipelines.prepare.writers import PartWriters
from pipelines.runs.parts import part_name


class Copies:
    """Copies crops and features out of an earlier snapshot; reads each row group once if keys come in order."""

    def __init__(self, earlier: EarlierSnapshot | None) -> None:
        self._earlier = earlier
        self._read: dict[str, tuple[RowGroup, list[Crop]]] = {}
        self._features: tuple[int, EarlierFeatures] | None = None
        self.count = 0
        self.skipped = Skipped()
        """Files that the earlier snapshot left out of a pack that is not opened now."""

    def take_skipped(self, record: PhotoRecord) -> None:
        """Take what the earlier snapshot left out of the pack of a record."""
        assert self._earlier is not None and record.part is not None
        try:
            result = json.loads(self._earlier.folder.read(part_name(record.part, self._earlier.count)))
            self.skipped = skipped_of_record(result.get("skipped", ()))
        except (DataError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, DataError) and error.is_outage:
                raise
            # Counts alone: the earlier output was damaged.

    def copy(self, record: PhotoRecord, writers: PartWriters) -> PhotoRecord | None:
        """Write a photograph's crops and features and return its new record; None if they cannot be read.

        The record loses a reason that came from comparison, since the other pictures may have changed.
        """
        crops: list[Crop] = []
        row: bytes | None = None
        try:
            if record.reason is None:
                crops = [self._crop(record, number) for number in range(record.crops)]
            if writers.features is not None and record.reason in (None, *GLOBAL_REASONS):
                row = self._features_of(record)
        except (DataError, IndexError) as error:
            if isinstance(error, DataError) and error.is_outage:
                raise
            return None
        if any(crop.photo != record.photo for crop in crops):
            return None
        if record.reason in GLOBAL_REASONS:
            record = replace(record, reason=None, message=None)
        for crop in crops:
            assert record.split is not None
            writers.shards[record.split].add(crop)
        if writers.features is not None and row is not None:
            writers.features.add_row(record.photo, row)
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

    def _features_of(self, record: PhotoRecord) -> bytes | None:
        """Return the features of a photograph; None for one without detail."""
        assert self._earlier is not None and record.part is not None
        if self._features is None or self._features[0] != record.part:
            self._features = record.part, EarlierFeatures(self._earlier.folder, record.part, self._earlier.count)
        return self._features[1].row(record.photo)
