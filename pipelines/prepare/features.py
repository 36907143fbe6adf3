"""Features of photographs by EfficientNet-Lite0: computed on workers, kept in a table for each part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hfd.errors import DataError
from hfd.io.storage import Folder

if TYPE_CHECKING:
    from hfd.data.feature_codes import Features, Rows
    from hfd.image.load import RgbArray

NUM_FEATURES = 1280
ROWS_PER_GROUP = 1024
"""2.6 MB: the most that a worker holds."""

_SCHEMA = pa.schema([("photo", pa.string()), ("features", pa.binary(2 * NUM_FEATURES))])


def features_name(index: int, count: int) -> str:
    return f"features/{index:05d}-of-{count:05d}.parquet"


class FeatureWriter:
    """Writes the features of the photographs of a part, a row group at a time.

    The network takes one photograph at a time, so that a grown corpus has the features of one made from nothing.
    """

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._rows: list[tuple[str, bytes]] = []

    def add(self, key: str, thumbnail: RgbArray) -> None:
        """Add a photograph by :func:`hfd.data.near_features.thumbnail`."""
        # Imports torch, which takes a second: only where photographs are compared by features.
        from hfd.metrics.features import effnet_features

        self.add_row(key, effnet_features()(thumbnail[None]).astype(np.float16).tobytes())

    def add_row(self, key: str, row: bytes) -> None:
        """Add a photograph by its features in an earlier snapshot."""
        self._rows.append((key, row))
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def finish(self) -> None:
        self._flush(len(self._rows))

    def _flush(self, number: int) -> None:
        rows, self._rows = self._rows[:number], self._rows[number:]
        if rows:
            columns = {"photo": [key for key, _ in rows], "features": [row for _, row in rows]}
            self._writer.write_table(pa.table(columns, schema=_SCHEMA), row_group_size=ROWS_PER_GROUP)


@contextlib.contextmanager
def open_features(folder: Folder, index: int, count: int) -> Iterator[FeatureWriter]:
    """Open the table of a part, which appears only if the block ends without an error."""
    with (
        folder.writing(features_name(index, count)) as stream,
        pq.ParquetWriter(stream, _SCHEMA, compression="none", use_dictionary=False) as file,
    ):
        writer = FeatureWriter(file)
        yield writer
        writer.finish()


class EarlierFeatures:
    """Features of one part of a finished snapshot; a row group is in memory, and is read once if keys come in order."""

    def __init__(self, folder: Folder, index: int, count: int) -> None:
        """Open the table. Raises :class:`DataError` for one that is missing or damaged."""
        self._name = f"{folder.uri}/{features_name(index, count)}"
        with _readable(self._name):
            self._file = pq.ParquetFile(folder.open_input(features_name(index, count)))
            keys = self._file.read(columns=["photo"])["photo"].to_pylist()
        self._position = {key: position for position, key in enumerate(keys)}
        self._group: tuple[int, pa.Table] | None = None

    def row(self, key: str) -> bytes | None:
        """Return the features of a photograph, None for one without. Raises :class:`DataError` for a damaged table."""
        if (position := self._position.get(key)) is None:
            return None
        index, offset = divmod(position, ROWS_PER_GROUP)
        if self._group is None or self._group[0] != index:
            with _readable(self._name):
                self._group = index, self._file.read_row_group(index, columns=["features"])
        return bytes(self._group[1]["features"][offset].as_py())


@dataclass(frozen=True, eq=False)
class PhotoFeatures:
    """The features of all photographs that have some: ``rows`` (P, 1280) in the order of ``keys``."""

    keys: pa.Array
    rows: Features

    def find(self, photos: pa.ChunkedArray) -> tuple[Rows, Rows]:
        """Return the positions of the photographs that have features, and the numbers of their rows."""
        found = pc.index_in(photos, value_set=self.keys)
        positions = np.flatnonzero(pc.is_valid(found).to_numpy())
        return positions, found.drop_null().to_numpy().astype(np.intp)


def read_features(folder: Folder, count: int, most: int) -> PhotoFeatures:
    """Read the features of all parts, of at most ``most`` photographs, 2.6 kB each, and a row group at a time more.

    Raises:
        DataError: a table that is missing or damaged.
    """
    rows, keys = np.empty((most, NUM_FEATURES), dtype=np.float16), list[str]()
    for index in range(count):
        name = features_name(index, count)
        with folder.open_input(name) as source, _readable(f"{folder.uri}/{name}"):
            for batch in pq.ParquetFile(source).iter_batches(ROWS_PER_GROUP):
                data = np.frombuffer(b"".join(batch["features"].to_pylist()), dtype=np.float16)
                rows[len(keys) : len(keys) + len(batch)] = data.reshape(-1, NUM_FEATURES)
                keys += batch["photo"].to_pylist()
    return PhotoFeatures(pa.array(keys, pa.string()), rows[: len(keys)])


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{name}: got no readable table. Delete its folder and run again", reason="damaged") from error
