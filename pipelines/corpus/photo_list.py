"""Photographs of one folder in a quarter of the memory of as many objects: a million take some 90 MB."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from hfd.io.entry import Entry
from hfd.io.storage import Folder
from pipelines.corpus.photo import Photo

ERRORS = "surrogatepass"
"""Names of a disk may hold bytes that are not UTF-8, as Python's lone surrogates."""


class PhotoList(Sequence[Photo]):
    """Photographs whose key is their name in the folder. They are made when they are asked for.

    Each is one record of bytes: its name, stamp and archive, with a zero byte between them. In UTF-8, records have the
    order of the names.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._records, self._ends, self._sizes = bytearray(), array("Q"), array("Q")
        self._order: array[int] | None = None

    @staticmethod
    def holds(entry: Entry) -> bool:
        """Return True for a file that can be added: the texts of nearly every one."""
        return not any("\0" in text for text in (entry.key, entry.stamp, entry.archive))

    def append(self, entry: Entry) -> None:
        """Add an ordinary file; the order is that of additions until :meth:`sort`."""
        self._records += "\0".join((entry.key, entry.stamp, entry.archive)).encode(errors=ERRORS)
        self._ends.append(len(self._records))
        self._sizes.append(entry.size)

    def sort(self) -> None:
        """Sort by name. S3 lists in this order."""
        if any(self._record(index) > self._record(index + 1) for index in range(len(self) - 1)):
            self._order = array("Q", sorted(range(len(self)), key=self._record))

    def _record(self, index: int) -> bytes:
        return bytes(self._records[self._ends[index - 1] if index else 0 : self._ends[index]])

    def _photo(self, index: int) -> Photo:
        index = index if self._order is None else self._order[index]
        name, stamp, archive = self._record(index).decode(errors=ERRORS).split("\0")
        return Photo(name, self._folder, name, self._sizes[index], stamp, archive)

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, index: int) -> Photo: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Photo]: ...

    def __getitem__(self, index: int | slice) -> Photo | Sequence[Photo]:
        """Return a photograph, or a view of several: no photograph of it is made yet."""
        if isinstance(index, slice):
            return _View(self, range(len(self))[index])
        return self._photo(range(len(self))[index])

    def __iter__(self) -> Iterator[Photo]:
        return map(self._photo, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]


class _View(Sequence[Photo]):
    """Some photographs of a list. Pickled, it is a tuple of them: a worker gets no other ones."""

    def __init__(self, photos: PhotoList, chosen: range) -> None:
        self._photos, self._chosen = photos, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Photo: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Photo]: ...

    def __getitem__(self, index: int | slice) -> Photo | Sequence[Photo]:
        if isinstance(index, slice):
            return _View(self._photos, self._chosen[index])
        return self._photos[self._chosen[index]]

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type, tuple[list[Photo]]]:
        return tuple, (list(self),)


def _equal(photos: Sequence[Photo], other: object) -> bool:
    if not isinstance(other, Sequence):
        return False
    return len(photos) == len(other) and all(map(operator.eq, photos, other))
