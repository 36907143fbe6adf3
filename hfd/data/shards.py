"""Shards: Parquet files of crops of one split, with uncompressed uint8 pixels, read by row groups.

Columns: those of ``CROP_COLUMNS`` and one binary column per picture (``x``; after ``reconstruct`` also ``x_hat``),
row-major HWC. Without dictionary encoding, whose trial on pixels takes nine times as long. Pages have a CRC32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hfd.data.crops import Crop, Split
from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.io.storage import Folder

ROWS_PER_GROUP = 16
SPLITS: tuple[Split, ...] = ("train", "validation")


CROP_COLUMNS = pa.schema(
    {"id": pa.string(), "photo": pa.string(), "content": pa.string(), "height": pa.int32(), "width": pa.int32()}
)


@dataclass(frozen=True)
class RowGroup:
    """Row group ``index`` of a shard, with its number of rows."""

    shard: str
    index: int
    num_rows: int


def shard_name(split: Split, index: int, count: int) -> str:
    return f"{split}-{index:05d}-of-{count:05d}.parquet"


class ShardWriter:
    """Writes crops to an open stream, a row group at a time: memory holds one group at most."""

    def __init__(self, stream: IO[bytes], pictures: Sequence[str]) -> None:
        self._schema = pa.schema([*CROP_COLUMNS, *(pa.field(name, pa.binary()) for name in pictures)])
        self._pictures = tuple(pictures)
        self._writer = pq.ParquetWriter(
            stream,
            self._schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self._pending: list[Crop] = []

    def add(self, crop: Crop) -> None:
        self._pending.append(crop)
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Close without writing pending crops; the caller discards the stream."""
        with suppress(Exception):
            self._writer.close()
        # An open writer would close again when it is collected, and print an error.
        self._writer.is_open = False

    def _flush(self) -> None:
        crops, self._pending = self._pending, []
        if not crops:
            return
        columns = {
            "id": [crop.id for crop in crops],
            "photo": [crop.photo for crop in crops],
            "content": [crop.content for crop in crops],
            "height": [crop.x.shape[0] for crop in crops],
            "width": [crop.x.shape[1] for crop in crops],
        }
        for name in self._pictures:
            columns[name] = _binary([crop.pictures[name] for crop in crops])
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=ROWS_PER_GROUP)


def _binary(pictures: Sequence[RgbArray]) -> pa.Array:
    """Pixels as one binary column, built from buffers: Arrow's own conversion never releases views."""
    offsets = np.concatenate([[0], np.cumsum([picture.size for picture in pictures])]).astype(np.int32)
    data = b"".join(np.ascontiguousarray(picture).data for picture in pictures)
    return pa.Array.from_buffers(pa.binary(), len(pictures), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


@contextmanager
def open_shard(folder: Folder, name: str, pictures: Sequence[str]) -> Iterator[ShardWriter]:
    """Open a writer whose shard appears only if the block ends without an error."""
    with folder.writing(name) as stream:
        writer = ShardWriter(stream, pictures)
        try:
            yield writer
            writer.close()
        except BaseException:
            writer.abandon()
            raise


def read_row_group(folder: Folder, group: RowGroup, columns: Sequence[str] = ("x",)) -> list[Crop]:
    """Read the crops of a group, pictures as read-only views of one Arrow buffer."""
    with _readable(folder, group.shard) as file:
        table = file.read_row_group(group.index, columns=[*CROP_COLUMNS.names, *columns])
        ids, photos, contents, heights, widths = (table[name].to_pylist() for name in CROP_COLUMNS.names)
        sizes = list(zip(heights, widths, strict=True))
        pictures = {name: _views(table[name], sizes) for name in columns}
    return [
        Crop(*names, {name: pictures[name][i] for name in columns})
        for i, names in enumerate(zip(ids, photos, contents, strict=True))
    ]


@contextmanager
def _readable(folder: Folder, shard: str) -> Iterator[pq.ParquetFile]:
    """Open a shard, checking pages against their CRC32. Raises :class:`DataError` for any damage."""
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
    """List the shards of a split, in order."""
    names = (entry.key for entry in folder.files())
    return [name for name in names if name.startswith(f"{split}-") and name.endswith(".parquet")]


def row_groups_of(folder: Folder, shard: str) -> list[RowGroup]:
    """List the row groups of a shard, from its footer."""
    with _readable(folder, shard) as file:
        metadata = file.metadata
        return [RowGroup(shard, i, metadata.row_group(i).num_rows) for i in range(metadata.num_row_groups)]


def list_row_groups(folder: Folder, split: Split) -> list[RowGroup]:
    """List the row groups of a split, in the order of shards."""
    return [group for name in shard_names(folder, split) for group in row_groups_of(folder, name)]


def iterate_shard(folder: Folder, shard: str, columns: Sequence[str] = ("x",)) -> Iterator[Crop]:
    """Read the crops of a shard, with one row group in memory at a time."""
    for group in row_groups_of(folder, shard):
        yield from read_row_group(folder, group, columns)


def iterate_rows(folder: Folder, split: Split, columns: Sequence[str] = ("x",)) -> Iterator[Crop]:
    """Read the crops of a split, in order."""
    for name in shard_names(folder, split):
        yield from iterate_shard(folder, name, columns)
