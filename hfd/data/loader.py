"""Training batches from shards: sample number ``i`` is a pure function of (seed, ``i``).

The order of an epoch comes from the seed alone: row groups are permuted, a window of them is read, and
rows are permuted within the window, so that a worker reads long runs of a file and yet mixes far. Which
sub-crop and flip sample ``i`` gets is drawn from (seed, ``i``). Nothing depends on the number of workers
or on where a run was stopped: resuming is starting at a position.
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
from hfd.data.read_ahead import Place, ReadAhead
from hfd.data.shards import list_row_groups, read_row_group
from hfd.errors import DataError
from hfd.io.storage import Folder

WINDOW_GROUPS = 16


class SampleOrder:
    """Maps a sample number to its place, epoch after epoch."""

    def __init__(self, rows_per_group: Sequence[int], *, seed: int, window_groups: int = WINDOW_GROUPS) -> None:
        self.num_rows = int(sum(rows_per_group))
        self._rows_per_group = np.asarray(rows_per_group)
        self._seed = seed
        self._window_groups = window_groups
        self._epoch: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty((0, 2), dtype=np.int64))

    def place(self, sample: int) -> Place:
        epoch, position = divmod(sample, self.num_rows)
        current, places = self._epoch  # read at once: two threads may ask for different epochs
        if epoch != current:
            places = self._epoch_places(epoch)
            self._epoch = (epoch, places)
        group, row = places[position]
        return Place(int(group), int(row))

    def _epoch_places(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = _random(self._seed, epoch)
        groups = rng.permutation(len(self._rows_per_group))
        windows = []
        for start in range(0, len(groups), self._window_groups):
            window = groups[start : start + self._window_groups]
            places = np.concatenate([_all_rows(int(group), int(self._rows_per_group[group])) for group in window])
            windows.append(rng.permutation(places, axis=0))
        return np.concatenate(windows)


def _random(seed: int, stream: int) -> np.random.Generator:
    """Philox has a 128-bit key, so that distinct pairs never share a stream. Both in [0, 2^64)."""
    # Without a dtype numpy would meet the two integers in float64 and round neighbouring streams together.
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def _all_rows(group: int, num_rows: int) -> npt.NDArray[np.int64]:
    return np.stack([np.full(num_rows, group), np.arange(num_rows)], axis=1)


def sub_crop(
    pictures: Sequence[npt.NDArray[np.uint8]], crop_px: int, *, seed: int, sample: int
) -> list[npt.NDArray[np.uint8]]:
    """The same sub-crop and flip of aligned pictures (H, W, 3), drawn from (seed, sample)."""
    height, width = pictures[0].shape[:2]
    rng = _random(seed, 2**63 + sample)
    top = int(rng.integers(0, height - crop_px + 1))
    left = int(rng.integers(0, width - crop_px + 1))
    flip = bool(rng.integers(0, 2))
    crops = [picture[top : top + crop_px, left : left + crop_px] for picture in pictures]
    return [crop[:, ::-1] if flip else crop for crop in crops]


class CropLoader:
    """Endless batches of aligned sub-crops from the shards of one split.

    ``batches(start)`` yields, from global sample ``start`` on, uint8 arrays of shape
    (batch, pictures, crop_px, crop_px, 3); rank ``r`` of ``world`` gets samples ``r, r + world, ...`` of each
    global batch, one fewer for some ranks where it does not divide evenly. Cropping happens on a background thread,
    and reading, from a folder or a bucket, on threads before that. Two windows of row groups are held at most.
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
        """This rank's samples of the global batch that begins at ``position``."""
        return range(position + self._rank, position + self._batch_size, self._world)

    def _read_ahead(self, start: int) -> ReadAhead:
        positions = itertools.count(start, self._batch_size)
        places = (self._order.place(sample) for position in positions for sample in self._samples(position))
        # A window ahead: a group is needed until its window ends, and those of the next are there when it begins.
        window = WINDOW_GROUPS * max(group.num_rows for group in self._groups)
        depth = max(1, min(window, self.num_crops) // self._world)
        return ReadAhead(places, depth, lambda group: read_row_group(self._folder, self._groups[group], self._pictures))

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
