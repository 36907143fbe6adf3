"""``s3://`` prefixes on ``pyarrow.fs``: the remote half of :class:`hfd.io.storage.Folder`.

Imported for remote URIs only, so that the codec runs without pyarrow. Every call is retried while a server is
unavailable.
"""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import pyarrow as pa
import pyarrow.fs as pafs

from hfd.errors import ConfigError, DataError
from hfd.io.failures import brief, no_bucket, one_line, with_retries
from hfd.io.seekable import SeekableFile
from hfd.io.uris import parse_s3

T = TypeVar("T")


class Prefix:
    """The objects below a URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            place = parse_s3(uri)
            self._base = f"{place.bucket}/{place.prefix}".rstrip("/")
            self._filesystem = _connected(replace(place, prefix="").arrow_uri, os.getpid(), _aws_variables())
        except ConfigError as error:
            raise DataError(str(error)) from error
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(
                f"{uri}: got an unusable URI, expected a folder or s3://bucket/prefix ({brief(error)})"
            ) from error

    def _at(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _do(self, name: str, call: Callable[[], T]) -> T:
        return with_retries(f"{self.uri}/{name}", call)

    def exists(self, name: str) -> bool:
        return self._do(name, lambda: bool(self._info(self._at(name)).type != pafs.FileType.NotFound))

    def _info(self, path: str) -> Any:
        return self._filesystem.get_file_info(path)

    def read(self, name: str) -> bytes:
        def fetch() -> bytes:
            with self._filesystem.open_input_stream(self._at(name)) as stream:
                return cast(bytes, stream.read())

        return self._do(name, fetch)

    def open_input(self, name: str) -> io.RawIOBase:
        """Open a seekable file."""
        file = self._do(name, lambda: self._filesystem.open_input_file(self._at(name)))
        return _RetryingFile(f"{self.uri}/{name}", file)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a stream that is uploaded when the block ends without an error."""
        # An Arrow stream to S3 publishes its contents even when it is only deleted: open it after the block has
        # succeeded.
        what = f"{self.uri}/{name} through {tempfile.gettempdir()}"  # the disk that may be full
        with one_line(what), tempfile.NamedTemporaryFile(prefix="hfd-upload-") as spool:
            yield cast(IO[bytes], spool)
            spool.flush()
            self._do(name, lambda: upload(Path(spool.name), self._filesystem, self._at(name)))

    def delete(self, name: str) -> None:
        path = self._at(name)

        def remove() -> None:
            kind = self._info(path).type
            if kind == pafs.FileType.Directory:
                self._filesystem.delete_dir(path)
            elif kind == pafs.FileType.File:
                self._filesystem.delete_file(path)

        self._do(name, remove)

    def files(self) -> list[tuple[str, int, str]]:
        """Yield (key, size in bytes, stamp) of every object below the prefix."""
        found = self._do("", self._listing)
        start = len(self._base)
        return [
            (item.path[start:].lstrip("/"), int(item.size or 0), str(item.mtime_ns))
            for item in found
            if item.type == pafs.FileType.File
        ]

    def _listing(self) -> list[Any]:
        kind = self._info(self._base).type
        if kind == pafs.FileType.File:
            raise DataError(f"{self.uri}: got a file, expected a folder", reason="not-a-folder")
        bucket = self._base.partition("/")[0]
        if kind == pafs.FileType.NotFound and self._info(bucket).type == pafs.FileType.NotFound:
            raise no_bucket(self.uri)
        return cast(list[Any], self._filesystem.get_file_info(pafs.FileSelector(self._base, True, True)))


@functools.lru_cache(maxsize=16)
def _connected(bucket_uri: str, process: int, environment: tuple[tuple[str, str], ...]) -> Any:
    """Arrow's file system of a bucket. Threads share it; it keeps connections open, and making one takes 25 ms.

    A forked process must not use those of its parent, and a file system keeps the environment it began with.
    """
    del process, environment
    return pafs.FileSystem.from_uri(bucket_uri)[0]


def _aws_variables() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


def upload(source: Path, filesystem: Any, path: str) -> None:
    """Upload in one write and one close. ``copy_files`` would lose errors: it leaves closing to a destructor
    (pyarrow 25)."""
    data: Any = pa.memory_map(str(source)).read_buffer() if source.stat().st_size else b""
    stream = filesystem.open_output_stream(path)
    stream.write(data)
    stream.close()


class _RetryingFile(SeekableFile):
    """A remote file whose reads are retried while the server is unavailable."""

    def __init__(self, what: str, file: Any) -> None:
        super().__init__(int(file.size()))
        self._what, self._file = what, file

    def size(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        start = self._position
        count = self._size - start if size is None or size < 0 else min(size, self._size - start)
        data = with_retries(self._what, lambda: cast(bytes, self._file.read_at(max(0, count), start)))
        self._position += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
