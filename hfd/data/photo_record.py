"""A row of the photo table: one photograph, its measures, the reason for rejecting it, and the place of its crops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Texts that the source states; each name is a column of its own, ``metadata.caption``."""


PHOTO_SCHEMA = pa.schema([(one.name, one.metadata["arrow"]) for one in fields(PhotoRecord) if one.metadata])
_METADATA = "metadata."


def photo_schema(metadata: Sequence[str] = ()) -> pa.Schema:
    """Return the columns of a photo table with these names of metadata."""
    return pa.schema([*PHOTO_SCHEMA, *(pa.field(_METADATA + name, pa.string()) for name in metadata)])


def records_to_table(records: Iterable[PhotoRecord], metadata: Sequence[str] = ()) -> pa.Table:
    rows = [vars(record) | {_METADATA + name: text for name, text in record.metadata.items()} for record in records]
    return pa.Table.from_pylist(rows, schema=photo_schema(metadata))


def table_to_records(table: pa.Table) -> list[PhotoRecord]:
    return [_record(row) for row in table.to_pylist()]


def _record(row: dict[str, Any]) -> PhotoRecord:
    names = [name for name in row if name.startswith(_METADATA)]
    texts = {name.removeprefix(_METADATA): text for name in names if (text := row.pop(name)) is not None}
    return PhotoRecord(**row, metadata=texts)


def with_column(table: pa.Table, name: str, values: Sequence[object]) -> pa.Table:
    """Replace a column of a photo table."""
    column = PHOTO_SCHEMA.field(name)
    return table.set_column(PHOTO_SCHEMA.get_field_index(name), column, pa.array(values, column.type))
