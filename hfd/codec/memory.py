"""Report out-of-memory as DataError; return free heap to the operating system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from hfd.errors import DataError


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raise :class:`DataError` if memory runs out. PyTorch on a CPU has no error type for it."""
    try:
        yield
    except MemoryError as error:
        raise _too_large() from error
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise _too_large() from error


def give_back() -> None:
    """Return free heap to the system, if the C library can (glibc). Takes milliseconds.

    glibc does not return the memory of freed large tensors: gigabytes over the patches of a gigapixel picture.
    """
    malloc_trim()(0)


@lru_cache(maxsize=1)
def malloc_trim() -> Callable[[int], object]:
    """Return the C library's function that returns free heap to the system; a no-op where it has none."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
    return trim


def _too_large() -> DataError:
    return DataError(
        "memory: got less than the picture needs. Cut or scale the picture, or use a larger machine", reason="memory"
    )
