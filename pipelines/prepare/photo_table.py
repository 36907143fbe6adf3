"""A row for each photograph of a snapshot: what it is, whether it was kept, and where its crops are.

Parts write theirs to ``photos/``; the whole table, sorted by key, is ``photos.parquet``. A later snapshot reads it to
know what it need not fetch again.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hfd.data.shards import SPLITS
from hfd.errors import DataError
from hfd.io.storage import Folder

TABLE = "photos.parquet"
REJECTS = "rejects.parquet"
ROWS_PER_GROUP = 1024

SCHEMA = pa.schema(
    [
        ("photo", pa.string()), ("size", pa.int64()), ("stamp", pa.string()), ("content", pa.string()),
        ("format", pa.string()), ("jpeg_quality", pa.int32()), ("width", pa.int32()), ("height", pa.int32()),
        ("colourfulness", pa.float64()), ("sharpness", pa.float64()), ("clipped_share", pa.float64()),
        ("hash", pa.uint64()), ("split", pa.string()), ("crops", pa.int32()), ("pixels", pa.int64()),
        ("digest", pa.string()), ("reason", pa.string()), ("message", pa.string()), ("part", pa.int32()),
        ("row", pa.int64()),
    ]
)  # fmt: skip
"""``crops``, ``pixels``, ``digest``: of its source crops, also where it was not kept for being there twice.
``reason``: null where it is kept. ``part``, ``row``: the shard of its split, and its first row there; null: no rows."""


def part_table_name(index: int, count: int) -> str:
    return f"photos/{index:05d}-of-{count:05d}.parquet"


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROWS_PER_GROUP)
    folder.write(name, buffer.getvalue())


def read_part_tables(folder: Folder, count: int) -> pa.Table:
    """The rows of all parts, in order. Many small files: what counts on S3 is that they are read at once."""

    def read(index: int) -> pa.Table:
        return pq.read_table(io.BytesIO(folder.read(part_table_name(index, count))), schema=SCHEMA)

    with ThreadPoolExecutor(16) as pool:
        return pa.concat_tables(pool.map(read, range(count))).combine_chunks()


def rows_between(folder: Folder, first: str, last: str) -> dict[str, dict[str, Any]]:
    """The rows of a finished snapshot whose keys are in [first, last], by key; no other row group is read."""
    try:
        source = folder.open_input(TABLE)
        table = pq.read_table(source, filters=[("photo", ">=", first), ("photo", "<=", last)])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{folder.uri}/{TABLE}: not a readable table. Delete its folder", reason="damaged") from error
    return {row["photo"]: row for row in table.to_pylist()}


def number_rows(table: pa.Table) -> pa.Table:
    """The table with ``row`` as it is once the shards hold the crops of kept photographs and no others."""
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
    return table.set_column(SCHEMA.get_field_index("row"), SCHEMA.field("row"), pa.array(positions, pa.int64()))


def write_rejects(folder: Folder, table: pa.Table) -> None:
    """What was not kept, with its reason and a line that says why."""
    rejected = table.filter(pc.is_valid(table["reason"])).select(["photo", "reason", "message"])
    write_table(folder, REJECTS, rejected)


def count_crops(kept: pa.Table) -> dict[str, int]:
    """The number of crops of each split."""
    return {split: pc.sum(kept.filter(pc.equal(kept["split"], split))["crops"]).as_py() or 0 for split in SPLITS}


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)
