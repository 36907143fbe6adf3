"""Fetch photographs ahead in threads while others are decoded, within a limit of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from hfd.errors import DataError
from pipelines.corpus.photo import Photo

THREADS = 4
MAX_BYTES = 64 << 20
"""Limit of fetched bytes not yet consumed, in one process. A larger photograph is fetched alone."""


def read_ahead(
    photos: Sequence[Photo], *, threads: int = THREADS, max_bytes: int = MAX_BYTES
) -> Generator[tuple[Photo, bytes | DataError], None, None]:
    """Yield each photograph in order with its bytes, or with the error of fetching it."""
    waiting: deque[tuple[Photo, Future[bytes | DataError]]] = deque()
    held = 0
    remaining = deque(photos)
    with ThreadPoolExecutor(threads, thread_name_prefix="hfd-fetch") as pool:
        try:
            while remaining or waiting:
                while remaining and len(waiting) < 2 * threads:
                    if waiting and held + remaining[0].size > max_bytes:
                        break
                    photo = remaining.popleft()
                    held += photo.size
                    waiting.append((photo, pool.submit(_read, photo)))
                photo, future = waiting.popleft()
                data = future.result()
                del future
                yield photo, data
                held -= photo.size
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(photo: Photo) -> bytes | DataError:
    try:
        return photo.read()
    except DataError as error:
        return error
