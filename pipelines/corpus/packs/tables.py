"""Read the pictures of a Parquet file by row groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hfd.errors import DataError
from hfd.image.tree import Selection
from pipelines.corpus.packs.fields import chosen_fields
from pipelines.corpus.packs.pack import Keys, Member, MemberSettings, Pack, is_chosen, too_large

TABLE_SUFFIXES = frozenset({".parquet"})
USUAL = "image"
"""The column that is meant where several could be."""

BATCH_BYTES = 16 << 20
MAX_GROUP_BYTES = 4 << 30


def read_table(
    file: BinaryIO, pack: Pack, settings: MemberSettings, selection: Selection | None = None
) -> Iterator[Member]:
    """Yield the pictures of a Parquet file, in its order: of a binary column, or of structs of ``bytes`` and ``path``.

    ``selection``: counts those whose path is to be ignored; other names do not matter, since the column holds pictures.

    Raises:
        DataError: one line; ``reason`` is ``no-column`` or ``damaged``, after the members before the damage.
    """
    keys, row = Keys(pack), 0
    selection = settings.selection() if selection is None else selection
    try:
        table = pq.ParquetFile(file)
        column = image_column(table.schema_arrow, pack, settings.image_column)
        _check_columns(table.schema_arrow, pack, settings)
        for group in range(table.num_row_groups):
            for batch in _batches(table, group, [column, *settings.columns], pack):
                fields = batch.select(list(settings.columns)).to_pylist()
                for value, stated in zip(batch[column], fields, strict=True):
                    name, data = _picture(value, row)
                    row += 1
                    if selection.ignores is not None and selection.ignores(name):
                        selection.takes(name)
                        continue
                    key = keys.key(name)
                    if is_chosen(key, pack.share):
                        yield _member(key, data, pack, settings, stated)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{pack.key}: got a Parquet file that is cut or damaged after {row} rows, expected a whole one. Write it "
            "again",
            reason="damaged",
        ) from error
    if not row:
        raise DataError(f"{pack.key}: got a Parquet file without rows. Leave it out", reason="empty")


def image_column(schema: pa.Schema, pack: Pack, stated: str | None) -> str:
    """Return the name of the column of pictures. Raises :class:`DataError` that names the candidates."""
    candidates = [column.name for column in schema if _holds_pictures(column.type)]
    if stated is not None and stated in candidates:
        return stated
    if stated is None and (len(candidates) == 1 or USUAL in candidates):
        return USUAL if USUAL in candidates else candidates[0]
    named = ", ".join(candidates) or f"none; all columns: {', '.join(schema.names)}"
    got = f"no column {stated} of pictures" if stated is not None else f"{len(candidates) or 'no'} columns of pictures"
    raise DataError(
        f"{pack.key}: got {got}, expected one of bytes or of structs with bytes (candidates: {named}). Set "
        "data.image_column",
        reason="no-column",
    )


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _check_columns(schema: pa.Schema, pack: Pack, settings: MemberSettings) -> None:
    missing = [name for name in settings.columns if name not in schema.names]
    if missing:
        raise DataError(
            f"{pack.key}: got no column {', '.join(missing)}, which data.metadata or data.where names, expected one of "
            f"{', '.join(schema.names)}. Correct the setting",
            reason="no-column",
        )


def _batches(table: pq.ParquetFile, group: int, columns: list[str], pack: Pack) -> Iterator[pa.RecordBatch]:
    about = table.metadata.row_group(group)
    if about.total_byte_size > MAX_GROUP_BYTES:
        raise DataError(
            f"{pack.key}: got a row group of {about.total_byte_size} bytes, expected at most {MAX_GROUP_BYTES}. "
            "Write smaller row groups",
            reason="damaged",
        )
    rows = max(1, BATCH_BYTES * about.num_rows // max(1, about.total_byte_size))
    yield from table.iter_batches(batch_size=rows, row_groups=[group], columns=list(dict.fromkeys(columns)))


def _picture(value: Any, row: int) -> tuple[str, pa.Scalar | None]:
    """Return the name of a picture, from its path or its row, and its bytes."""
    if isinstance(value, pa.StructScalar):
        path = value["path"].as_py() if value.is_valid and "path" in value else None
        data = value["bytes"] if value.is_valid else None
        return (str(path) if path else f"{row:08d}"), data
    return f"{row:08d}", value


def _member(
    key: str, value: pa.Scalar | None, pack: Pack, settings: MemberSettings, stated: dict[str, object]
) -> Member:
    buffer = value.as_buffer() if value is not None and value.is_valid else None
    size = 0 if buffer is None else buffer.size
    data: bytes | DataError
    if buffer is None:
        data = DataError(f"{key}: got a row without bytes, expected a picture in it. Write its bytes", reason="empty")
    elif size > settings.max_bytes:
        data = too_large(key, size, settings)
    else:
        data = buffer.to_pybytes()
    return Member(key, size, pack.version, data, chosen_fields(stated, settings.columns))
