"""A row of the photo table: one photograph, its measures, the reason for rejecting it, and the place of its crops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa

from hfd.data.crops import Split


def _column(kind: pa.DataType, **options: Any) -> Any:
    return field(metadata={"arrow": kind}, **options)


@dataclass(frozen=True)
class PhotoRecord:
    """One photograph. Its fields, in this order, are the columns of ``PHOTO_SCHEMA``; None is null.

    ``crops``, ``pixels``, ``digest``: of its source crops, also if a duplicate of it was kept instead. ``reason``:
    None if it was kept. ``part``, ``row``: the shard of its split, and its first row there; None: no rows.
    """

    photo: str = _column(pa.string())
    size: int = _column(pa.int64())
    stamp: str = _column(pa.string())
    content: str | None = _column(pa.string(), default=None)
    format: str | None = _column(pa.string(), default=None)
    jpeg_quality: int | None = _column(pa.int32(), default=None)
    width: int | None = _column(pa.int32(), default=None)
    height: int | None = _column(pa.int32(), default=None)
    colourfulness: float | None = _column(pa.float64(), default=None)
    sharpness: float | None = _column(pa.float64(), default=None)
    clipped_share: float | None = _column(pa.float64(), default=None)
    hash: int | None = _column(pa.uint64(), default=None)
    split: Split | None = _column(pa.string(), default=None)  # noqa: RUF009 -- a field
    crops: int = _column(pa.int32(), default=0)
    pixels: int = _column(pa.int64(), default=0)
    digest: str | None = _column(pa.string(), default=None)
    reason: str | None = _column(pa.string(), default=None)
    message: str | None = _column(pa.string(), default=None)
    part: int | None = _column(pa.int32(), default=None)
    row: int | None = _column(pa.int64(), default=None)


PHOTO_SCHEMA = pa.schema([(one.name, one.metadata["arrow"]) for one in fields(PhotoRecord)])


def records_to_table(records: Iterable[PhotoRecord]) -> pa.Table:
    return pa.Table.from_pylist([vars(record) for record in records], schema=PHOTO_SCHEMA)


def table_to_records(table: pa.Table) -> list[PhotoRecord]:
    return [PhotoRecord(**row) for row in table.to_pylist()]


def with_column(table: pa.Table, name: str, values: Sequence[object]) -> pa.Table:
    """Replace a column of a photo table."""
    column = PHOTO_SCHEMA.field(name)
    return table.set_column(PHOTO_SCHEMA.get_field_index(name), column, pa.array(values, column.type))
