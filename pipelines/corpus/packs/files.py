"""Packs as seekable files: local ones, and objects on S3 read by ranges of their listed version."""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, cast

from hfd.io.failures import one_line
from hfd.io.seekable import SeekableFile
from hfd.io.storage import Folder
from pipelines.corpus.s3 import changed, fetch_range

RANGE_BYTES = 4 << 20
"""Bytes of a request. At most three ranges of an object are in memory: the last, the present and the next one."""


def open_version(folder: Folder, name: str, size: int, stamp: str) -> BinaryIO:
    """Open the listed version of a file.

    Raises:
        DataError: one line; ``reason`` is ``changed``, ``missing``, ``permission`` or an outage. On S3 reading raises
            it too.
    """
    if not folder.is_local:
        return cast(BinaryIO, io.BufferedReader(_Object(folder.uri, name, size, stamp), buffer_size=1 << 16))
    what = f"{folder.uri.rstrip('/')}/{name}"
    with one_line(what):
        file = (folder.path / name).open("rb")
    info = os.fstat(file.fileno())
    if (info.st_size, str(info.st_mtime_ns)) != (size, stamp):
        file.close()
        raise changed(what, f"{info.st_size} bytes of {info.st_mtime_ns}", f"{size} bytes of {stamp}")
    return file


class _Object(SeekableFile):
    """An object on S3. While one range is in use, the next is being fetched."""

    def __init__(self, uri: str, name: str, size: int, stamp: str) -> None:
        super().__init__(size)
        self._uri, self._name, self._stamp = uri, name, stamp
        self._ranges: dict[int, Future[bytes]] = {}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="hfd-range")

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        index, offset = divmod(self._position, RANGE_BYTES)
        piece = memoryview(self._range(index))[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _range(self, index: int) -> bytes:
        for held in [held for held in self._ranges if not index - 1 <= held <= index + 1]:
            self._ranges.pop(held).cancel()
        for wanted in (index, index + 1):
            start = wanted * RANGE_BYTES
            if wanted not in self._ranges and start < self._size:
                stop = min(self._size, start + RANGE_BYTES)
                self._ranges[wanted] = self._pool.submit(
                    fetch_range, self._uri, self._name, (start, stop), self._size, self._stamp
                )
        return self._ranges[index].result()

    def close(self) -> None:
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()
