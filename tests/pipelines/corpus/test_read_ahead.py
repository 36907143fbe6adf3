"""Read-ahead: in order, a few at a time, within the limit of bytes, and without running threads at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.photo import Photo
from pipelines.corpus.read_ahead import read_ahead


@dataclass
class Store:
    """Counts requests; a photograph's bytes are its key, ``size`` times."""

    sizes: list[int]
    started: list[str] = field(default_factory=list)
    bad: str = ""

    def photos(self) -> list[Photo]:
        return [Photo(f"{i}", Folder("nowhere"), f"{i}", size, "") for i, size in enumerate(self.sizes)]

    def read(self, photo: Photo) -> bytes:
        self.started.append(photo.key)
        if photo.key == self.bad:
            raise DataError(f"{photo.key}: gone", reason="missing")
        return photo.key.encode() * photo.size


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], Store]:
    def make(sizes: list[int]) -> Store:
        made = Store(sizes)
        monkeypatch.setattr(Photo, "read", lambda self: made.read(self))
        return made

    return make


def test_photographs_come_in_order_with_their_bytes_or_errors(store: Callable[[list[int]], Store]) -> None:
    one = store([3] * 50)
    one.bad = "7"
    found = list(read_ahead(one.photos(), threads=4))
    assert [photo.key for photo, _ in found] == [str(i) for i in range(50)]
    for photo, data in found:
        if photo.key == "7":
            assert isinstance(data, DataError) and data.reason == "missing"
        else:
            assert data == photo.key.encode() * 3
    assert list(read_ahead([])) == []


def test_no_more_is_fetched_than_may_be_held(store: Callable[[list[int]], Store]) -> None:
    one = store([10] * 40)
    for taken, _ in enumerate(read_ahead(one.photos(), threads=8, max_bytes=35), start=1):
        # The current one and two more make 30; a fourth would make 40.
        assert len(one.started) <= taken + 2


def test_one_that_is_larger_than_may_be_held_is_fetched_alone(store: Callable[[list[int]], Store]) -> None:
    one = store([10, 1000, 10, 10])
    assert [len(data) for _, data in read_ahead(one.photos(), threads=2, max_bytes=100)] == [10, 1000, 10, 10]


def test_several_are_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for all four to have begun: one after another they would wait for ever."""
    together = threading.Barrier(4)

    def read(_photo: Photo) -> bytes:
        together.wait()
        return b"x"

    monkeypatch.setattr(Photo, "read", read)
    assert len(list(read_ahead(Store([1] * 8).photos(), threads=4))) == 8


def test_stopping_early_leaves_no_thread(store: Callable[[list[int]], Store]) -> None:
    one = store([1] * 1000)
    reading = read_ahead(one.photos(), threads=4)
    next(reading)
    reading.close()
    assert len(one.started) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hfd-fetch")]
