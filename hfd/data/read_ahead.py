"""Crop groups read before they are needed: a bucket answers after tens of milliseconds, a training does not wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from hfd.data.crops import Crop

READERS = 4
"""Crop groups that are read at once."""


@dataclass(frozen=True)
class Place:
    """Where a sample comes from: a row group and a row in it."""

    group: int
    row: int


class ReadAhead:
    """The rows at ``places``, in order, whose groups are asked for ``depth`` rows ahead.

    A group is held from then on until none of the next ``depth`` rows is in it.
    """

    def __init__(self, places: Iterator[Place], depth: int, read: Callable[[int], list[Crop]]) -> None:
        self._places, self._depth, self._read = places, depth, read
        self._coming: deque[Place] = deque()
        self._held: dict[int, Future[list[Crop]]] = {}
        self._pending: dict[int, int] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="hfd-reader")

    def next(self) -> Crop:
        """The next row. Raises whatever reading its group raised."""
        while len(self._coming) < self._depth:
            self._ask_for(next(self._places))
        place = self._coming.popleft()
        row = self._held[place.group].result()[place.row]
        self._pending[place.group] -= 1
        if self._pending[place.group] == 0:
            del self._held[place.group], self._pending[place.group]
        return row

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _ask_for(self, place: Place) -> None:
        self._coming.append(place)
        if place.group not in self._held:
            self._held[place.group] = self._readers.submit(self._read, place.group)
        self._pending[place.group] = self._pending.get(place.group, 0) + 1
