"""Positions in files that are read by ranges."""

from __future__ import annotations

import io


class SeekableFile(io.RawIOBase):
    """A file of a known ``size`` in bytes, open for reading, with a position. Subclasses read from ``_position``."""

    def __init__(self, size: int) -> None:
        self._size, self._position = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; one before the start becomes the start, one behind the end stays and reads nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position
