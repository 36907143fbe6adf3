"""Read-ahead of row groups, so that training does not wait for a bucket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from hfd.data.crops import Crop

READERS = 4
"""Row groups read in parallel."""


@dataclass(frozen=True)
class RowIndex:
    """A row group and a row in it."""

    group: int
    row: int


class ReadAhead:
    """Yields the crops at ``rows``, in order, and requests their groups ``depth`` rows ahead.

    A group stays in memory until none of the next ``depth`` rows is in it.
    """

    def __init__(self, rows: Iterator[RowIndex], depth: int, read: Callable[[int], list[Crop]]) -> None:
        self._rows, self._depth, self._read = rows, depth, read
        self._coming: deque[RowIndex] = deque()
        self._held: dict[int, Future[list[Crop]]] = {}
        self._pending: dict[int, int] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="hfd-reader")

    def next(self) -> Crop:
        """The next crop. Raises the error of reading its group."""
        while len(self._coming) < self._depth:
            self._request(next(self._rows))
        index = self._coming.popleft()
        crop = self._held[index.group].result()[index.row]
        self._pending[index.group] -= 1
        if self._pending[index.group] == 0:
            del self._held[index.group], self._pending[index.group]
        return crop

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _request(self, index: RowIndex) -> None:
        self._coming.append(index)
        if index.group not in self._held:
            self._held[index.group] = self._readers.submit(self._read, index.group)
        self._pending[index.group] = self._pending.get(index.group, 0) + 1
