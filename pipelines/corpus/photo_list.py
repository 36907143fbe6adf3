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
    order of the names. A slice shares the records; pickled, a list is a tuple: a worker gets no other photographs.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._records, self._ends, self._sizes = bytearray(), array("Q"), array("Q")
        self._chosen: Sequence[int] | None = None
        """Places of the photographs among the records; None: all, as they were added."""

    @staticmethod
    def holds(entry: Entry) -> bool:
        """Return True for a file that can be added: the texts of nearly every one."""
        return not any("\0" in text for text in (entry.key, entry.stamp, entry.archive))

    def append(self, entry: Entry) -> None:
        """Add an ordinary file, before :meth:`sort` and the first slice."""
        self._records += "\0".join((entry.key, entry.stamp, entry.archive)).encode(errors=ERRORS)
        self._ends.append(len(self._records))
        self._sizes.append(entry.size)

    def sort(self) -> None:
        """Sort by name. S3 lists in this order."""
        if any(self._record(index) > self._record(index + 1) for index in range(len(self) - 1)):
            self._chosen = array("Q", sorted(range(len(self)), key=self._record))

    def _record(self, place: int) -> bytes:
        return bytes(self._records[self._ends[place - 1] if place else 0 : self._ends[place]])

    def _photo(self, place: int) -> Photo:
        name, stamp, archive = self._record(place).decode(errors=ERRORS).split("\0")
        return Photo(name, self._folder, name, self._sizes[place], stamp, archive)

    @property
    def _places(self) -> Sequence[int]:
        return range(len(self._sizes)) if self._chosen is None else self._chosen

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Photo: ...

    @overload
    def __getitem__(self, index: slice) -> PhotoList: ...

    def __getitem__(self, index: int | slice) -> Photo | PhotoList:
        """Return a photograph, or a list of several: no photograph of it is made yet."""
        if not isinstance(index, slice):
            return self._photo(self._places[index])
        part = PhotoList(self._folder)
        part._records, part._ends, part._sizes = self._records, self._ends, self._sizes
        part._chosen = self._places[index]
        return part

    def __iter__(self) -> Iterator[Photo]:
        return map(self._photo, self._places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return False
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type, tuple[list[Photo]]]:
        return tuple, (list(self),)
