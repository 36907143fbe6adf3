"""The photo table of a snapshot, a :class:`PhotoRecord` for each photograph, sorted by key.

Each part writes its records to ``photos/``; ``photos.parquet`` is the whole table. A later snapshot reads it and copies
the crops of unchanged photographs.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hfd.data.photo_record import PhotoRecord, photo_schema, table_to_records, with_column
from hfd.data.shards import SPLITS
from hfd.errors import DataError
from hfd.io.storage import Folder

TABLE = "photos.parquet"
REJECTS = "rejects.parquet"
ROWS_PER_GROUP = 1024


def part_table_name(index: int, count: int) -> str:
    return f"photos/{index:05d}-of-{count:05d}.parquet"


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROWS_PER_GROUP)
    folder.write(name, buffer.getvalue())


def read_part_tables(folder: Folder, count: int, metadata: Sequence[str] = ()) -> pa.Table:
    """Read the rows of all parts, in order, in parallel: many small files are slow on S3."""
    schema = photo_schema(metadata)

    def read(index: int) -> pa.Table:
        return pq.read_table(io.BytesIO(folder.read(part_table_name(index, count))), schema=schema)

    with ThreadPoolExecutor(16) as pool:
        return pa.concat_tables(pool.map(read, range(count))).combine_chunks()


def records_between(folder: Folder, first: str, last: str) -> dict[str, PhotoRecord]:
    """Read the records of a finished snapshot with keys in [first, last], by key, from the row groups they are in."""
    try:
        source = folder.open_input(TABLE)
        table = pq.read_table(source, filters=[("photo", ">=", first), ("photo", "<=", last)])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{folder.uri}/{TABLE}: not a readable table. Delete its folder", reason="damaged") from error
    return {record.photo: record for record in table_to_records(table)}


def number_rows(table: pa.Table) -> pa.Table:
    """Set ``row`` to each kept photograph's first row in its shard, which holds kept photographs alone."""
    positions: list[int | None] = []
    filled: dict[tuple[int, str], int] = {}
    columns = (table[name].to_pylist() for name in ("part", "split", "crops", "reason"))
    for part, split, crops, reason in zip(*columns, strict=True):
        if reason is not None:
            positions.append(None)
            continue
        first = filled.get((part, split), 0)
        positions.append(first)
        filled[part, split] = first + crops
    return with_column(table, "row", positions)


def write_rejects(folder: Folder, table: pa.Table) -> None:
    """Write the table of dropped photographs, with reason and message."""
    rejected = table.filter(pc.is_valid(table["reason"])).select(["photo", "reason", "message"])
    write_table(folder, REJECTS, rejected)


def count_crops(kept: pa.Table) -> dict[str, int]:
    """Return the number of crops of each split."""
    return {split: pc.sum(kept.filter(pc.equal(kept["split"], split))["crops"]).as_py() or 0 for split in SPLITS}
