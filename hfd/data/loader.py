"""Training batches from shards: sample ``i`` is a pure function of (seed, ``i``).

The seed determines the order of an epoch: row groups are permuted, and rows are permuted within a window of groups, so
that a worker reads long runs of a file and still mixes well. (seed, ``i``) determines the sub-crop and flip of sample
``i``. Nothing depends on the number of workers; a resumed training starts at a position.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hfd.data.crops import Split
from hfd.data.read_ahead import ReadAhead, RowIndex
from hfd.data.shards import list_row_groups, read_row_group
from hfd.errors import DataError
from hfd.io.storage import Folder

WINDOW_GROUPS = 16


class SampleOrder:
    """Maps a sample number to its row, epoch after epoch."""

    def __init__(self, rows_per_group: Sequence[int], *, seed: int, window_groups: int = WINDOW_GROUPS) -> None:
        self.num_rows = int(sum(rows_per_group))
        self._rows_per_group = np.asarray(rows_per_group)
        self._seed = seed
        self._window_groups = window_groups
        self._epoch: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty((0, 2), dtype=np.int64))

    def row_of(self, sample: int) -> RowIndex:
        epoch, position = divmod(sample, self.num_rows)
        current, rows = self._epoch  # read once: two threads may use different epochs
        if epoch != current:
            rows = self._epoch_rows(epoch)
            self._epoch = (epoch, rows)
        group, row = rows[position]
        return RowIndex(int(group), int(row))

    def _epoch_rows(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = _random(self._seed, epoch)
        groups = rng.permutation(len(self._rows_per_group))
        windows = []
        for start in range(0, len(groups), self._window_groups):
            window = groups[start : start + self._window_groups]
            rows = np.concatenate([_all_rows(int(group), int(self._rows_per_group[group])) for group in window])
            windows.append(rng.permutation(rows, axis=0))
        return np.concatenate(windows)


def _random(seed: int, stream: int) -> np.random.Generator:
    """A generator for a pair of integers in [0, 2^64), distinct for distinct pairs: Philox has a 128-bit key."""
    # Without a dtype numpy would convert the integers to float64, which merges neighbouring streams.
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def _all_rows(group: int, num_rows: int) -> npt.NDArray[np.int64]:
    return np.stack([np.full(num_rows, group), np.arange(num_rows)], axis=1)


def sub_crop(
    pictures: Sequence[npt.NDArray[np.uint8]], crop_px: int, *, seed: int, sample: int
) -> list[npt.NDArray[np.uint8]]:
    """Cut the same random sub-crop, with the same flip, from aligned pictures (H, W, 3), by (seed, sample)."""
    height, width = pictures[0].shape[:2]
    rng = _random(seed, 2**63 + sample)
    top = int(rng.integers(0, height - crop_px + 1))
    left = int(rng.integers(0, width - crop_px + 1))
    flip = bool(rng.integers(0, 2))
    crops = [picture[top : top + crop_px, left : left + crop_px] for picture in pictures]
    return [crop[:, ::-1] if flip else crop for crop in crops]


class CropLoader:
    """Endless batches of aligned sub-crops from the shards of one split.

    ``batches(start)`` yields, from global sample ``start``, uint8 (batch, pictures, crop_px, crop_px, 3); rank ``r`` of
    ``world`` gets samples ``r, r + world, ...`` of each global batch, so that batches of ranks may differ by one.
    Background threads read and crop. Memory holds at most two windows of row groups.
    """

    def __init__(
        self,
        folder: Folder,
        split: Split,
        *,
        pictures: Sequence[str],
        crop_px: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < world:
            raise DataError(f"batch_size: got {batch_size}, expected at least one sample for each of {world} workers")
        self._folder = folder
        self._pictures = tuple(pictures)
        self._crop_px = crop_px
        self._batch_size = batch_size
        self._seed = seed
        self._rank, self._world = rank, world
        self._groups = list_row_groups(folder, split)
        if not self._groups:
            raise DataError(f"{folder.uri}: got no {split} crops, expected some. Give more photographs", reason="empty")
        self._order = SampleOrder([group.num_rows for group in self._groups], seed=seed)

    @property
    def num_crops(self) -> int:
        return self._order.num_rows

    def batches(self, start: int = 0, *, prefetch: int = 4) -> Iterator[npt.NDArray[np.uint8]]:
        ready: queue.Queue[npt.NDArray[np.uint8] | BaseException] = queue.Queue(maxsize=prefetch)
        stop = threading.Event()

        def produce() -> None:
            try:
                with contextlib.closing(self._read_ahead(start)) as rows:
                    position = start
                    while not stop.is_set():
                        _put(ready, self._batch(position, rows), stop)
                        position += self._batch_size
            except BaseException as error:
                _put(ready, error, stop)

        thread = threading.Thread(target=produce, name="hfd-loader", daemon=True)
        thread.start()
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def _samples(self, position: int) -> range:
        """This rank's samples of the global batch at ``position``."""
        return range(position + self._rank, position + self._batch_size, self._world)

    def _read_ahead(self, start: int) -> ReadAhead:
        positions = itertools.count(start, self._batch_size)
        rows = (self._order.row_of(sample) for position in positions for sample in self._samples(position))
        # A window ahead: the groups of the next window are ready when it begins.
        window = WINDOW_GROUPS * max(group.num_rows for group in self._groups)
        depth = max(1, min(window, self.num_crops) // self._world)
        return ReadAhead(rows, depth, lambda group: read_row_group(self._folder, self._groups[group], self._pictures))

    def _batch(self, position: int, rows: ReadAhead) -> npt.NDArray[np.uint8]:
        samples = self._samples(position)
        size = (len(samples), len(self._pictures), self._crop_px, self._crop_px, 3)
        batch = np.empty(size, dtype=np.uint8)
        for i, sample in enumerate(samples):
            pictures = rows.next().pictures
            crops = sub_crop([pictures[name] for name in self._pictures], self._crop_px, seed=self._seed, sample=sample)
            for j, crop in enumerate(crops):
                batch[i, j] = crop
        return batch


def _put(
    ready: queue.Queue[npt.NDArray[np.uint8] | BaseException],
    item: npt.NDArray[np.uint8] | BaseException,
    stop: threading.Event,
) -> None:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return
        except queue.Full:
            continue
