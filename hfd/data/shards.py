"""Shards: Parquet files of uncompressed uint8 pixels, in row groups that one read brings in.

A shard holds rows of one split. Columns ``id``, ``photo``, ``content`` (strings), ``height``, ``width``
(int32) and one binary column per picture (``x``; after ``reconstruct`` also ``x_hat``), row-major HWC.
Dictionary encoding is off: trying it on pixels costs ninefold. Pages carry a CRC32, checked when read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hfd.data.crops import SourceCrop, Split
from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.io.storage import Folder

ROWS_PER_GROUP = 16
SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True)
class Row:
    """One source crop as stored. ``pictures`` maps ``"x"`` (and ``"x_hat"``) to uint8 (H, W, 3) views."""

    id: str
    photo: str
    content: str
    pictures: dict[str, RgbArray]


@dataclass(frozen=True)
class RowGroup:
    """Where a row group is and how many rows it holds."""

    shard: str
    index: int
    num_rows: int


def shard_name(split: Split, index: int, count: int) -> str:
    return f"{split}-{index:05d}-of-{count:05d}.parquet"


def row_of(crop: SourceCrop) -> Row:
    return Row(id=crop.id, photo=crop.photo, content=crop.content, pictures={"x": crop.x})


def _schema(pictures: Sequence[str]) -> pa.Schema:
    fields = [("id", pa.string()), ("photo", pa.string()), ("content", pa.string())]
    fields += [("height", pa.int32()), ("width", pa.int32())]
    return pa.schema(fields + [(name, pa.binary()) for name in pictures])


class ShardWriter:
    """Writes rows to an open stream, a row group at a time, so that memory holds one group at most."""

    def __init__(self, stream: IO[bytes], pictures: Sequence[str]) -> None:
        self._schema = _schema(pictures)
        self._pictures = tuple(pictures)
        self._writer = pq.ParquetWriter(
            stream,
            self._schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self._pending: list[Row] = []

    def add(self, row: Row) -> None:
        self._pending.append(row)
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the stream, whose bytes will be thrown away."""
        with suppress(Exception):
            self._writer.close()
        # Still open, it would try to close once more when it is collected, and complain on the terminal.
        self._writer.is_open = False

    def _flush(self) -> None:
        rows, self._pending = self._pending, []
        if not rows:
            return
        columns = {
            "id": [row.id for row in rows],
            "photo": [row.photo for row in rows],
            "content": [row.content for row in rows],
            "height": [row.pictures["x"].shape[0] for row in rows],
            "width": [row.pictures["x"].shape[1] for row in rows],
        }
        for name in self._pictures:
            columns[name] = _binary([row.pictures[name] for row in rows])
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=ROWS_PER_GROUP)


def _binary(pictures: Sequence[RgbArray]) -> pa.Array:
    """Pixels as one binary column. Built from its buffers: Arrow's own conversion of views never lets go of them."""
    offsets = np.concatenate([[0], np.cumsum([picture.size for picture in pictures])]).astype(np.int32)
    data = b"".join(np.ascontiguousarray(picture).data for picture in pictures)
    return pa.Array.from_buffers(pa.binary(), len(pictures), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


@contextmanager
def open_shard(folder: Folder, name: str, pictures: Sequence[str]) -> Iterator[ShardWriter]:
    """A writer whose rows appear as a shard when the block ends well, and nowhere otherwise."""
    with folder.writing(name) as stream:
        writer = ShardWriter(stream, pictures)
        try:
            yield writer
            writer.close()
        except BaseException:
            writer.abandon()
            raise


def read_row_group(folder: Folder, group: RowGroup, columns: Sequence[str] = ("x",)) -> list[Row]:
    """The rows of a group, pictures as read-only views of one Arrow buffer."""
    with _readable(folder, group.shard) as file:
        table = file.read_row_group(group.index, columns=["id", "photo", "content", "height", "width", *columns])
        sizes = list(zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True))
        pictures = {name: _views(table[name], sizes) for name in columns}
        names = zip(table["id"].to_pylist(), table["photo"].to_pylist(), table["content"].to_pylist(), strict=True)
    return [
        Row(id=id_, photo=photo, content=content, pictures={name: pictures[name][i] for name in columns})
        for i, (id_, photo, content) in enumerate(names)
    ]


@contextmanager
def _readable(folder: Folder, shard: str) -> Iterator[pq.ParquetFile]:
    """An open shard whose pages are checked against their CRC32. Whatever damage does to reading it is one line."""
    with folder.open_input(shard) as source:
        try:
            yield pq.ParquetFile(source, page_checksum_verification=True)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise DataError(
                f"{folder.uri}/{shard}: not a readable shard. Delete it and run again", reason="damaged"
            ) from error


def _views(column: pa.ChunkedArray, sizes: list[tuple[int, int]]) -> list[RgbArray]:
    views = []
    for value, (height, width) in zip((value for chunk in column.chunks for value in chunk), sizes, strict=True):
        views.append(np.frombuffer(value.as_buffer(), dtype=np.uint8).reshape(height, width, 3))
    return views


def shard_names(folder: Folder, split: Split) -> list[str]:
    """The shards of a split, in order."""
    names = (entry.key for entry in folder.files())
    return [name for name in names if name.startswith(f"{split}-") and name.endswith(".parquet")]


def row_groups_of(folder: Folder, shard: str) -> list[RowGroup]:
    """The row groups of a shard, from its footer."""
    with _readable(folder, shard) as file:
        metadata = file.metadata
        return [RowGroup(shard, i, metadata.row_group(i).num_rows) for i in range(metadata.num_row_groups)]


def list_row_groups(folder: Folder, split: Split) -> list[RowGroup]:
    """Every row group of a split in the order of shards."""
    return [group for name in shard_names(folder, split) for group in row_groups_of(folder, name)]


def iterate_shard(folder: Folder, shard: str, columns: Sequence[str] = ("x",)) -> Iterator[Row]:
    """The rows of a shard, a row group in memory at a time."""
    for group in row_groups_of(folder, shard):
        yield from read_row_group(folder, group, columns)


def iterate_rows(folder: Folder, split: Split, columns: Sequence[str] = ("x",)) -> Iterator[Row]:
    """The rows of a split, in order."""
    for name in shard_names(folder, split):
        yield from iterate_shard(folder, name, columns)
