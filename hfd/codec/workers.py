"""Sampling of a picture's patches in several processes of this machine."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager

from hfd.codec.patches import MapPieces, Piece, SamplePiece
from hfd.errors import ConfigError, DataError
from hfd.image.load import RgbArray

AHEAD = 2
"""Largest number of pieces in flight per worker, which bounds memory for a large picture."""


@contextmanager
def process_map(workers: int) -> Iterator[MapPieces]:
    """Yield a ``map_fn`` on ``workers`` processes, each with one arithmetic thread; 1: run in this process.

    A process loads the model once, with its first piece (:class:`hfd.codec.codec.Codec` is pickled as the name of its
    folder). Processes are spawned: threads of torch do not survive a fork. They end with the context.

    Raises:
        ConfigError: below one worker.
        DataError: from the map, if a worker was killed (``reason="worker-killed"``), most likely for lack of memory.
    """
    if workers < 1:
        raise ConfigError(f"workers: got {workers}, expected at least 1")
    if workers == 1:
        yield map
        return
    import multiprocessing  # here: most decodes need neither
    from concurrent.futures import ProcessPoolExecutor

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as pool:
        try:
            yield lambda function, pieces: map_ahead(pool, function, pieces, AHEAD * workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    """Limit the engines of this process: they are imported later and read the variable, or are imported already."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


def map_ahead(pool: Executor, function: SamplePiece, pieces: Iterable[Piece], ahead: int) -> Iterator[RgbArray]:
    """``pool.map`` with at most ``ahead`` pieces in flight."""
    waiting: deque[Future[RgbArray]] = deque()
    try:
        for piece in pieces:
            waiting.append(pool.submit(function, piece))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenExecutor as error:
        raise DataError(
            "workers: got a killed process, expected all to finish. Give fewer --workers, or more memory",
            reason="worker-killed",
        ) from error
    finally:
        for future in waiting:
            future.cancel()
