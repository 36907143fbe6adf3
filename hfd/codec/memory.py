"""Memory that runs out, told as a mistake that can be mended; and memory that is free, given back."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from hfd.errors import DataError


@contextmanager
def enough_memory() -> Iterator[None]:
    """What the machine cannot hold, as one line. PyTorch has no error of its own for it."""
    try:
        yield
    except MemoryError as error:
        raise _too_large() from error
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise _too_large() from error


def give_back() -> None:
    """Hand memory that is free to the system, where the C library can (glibc); elsewhere nothing happens.

    glibc keeps what large tensors leave between smaller ones. It takes milliseconds, and is for loops whose turns take
    seconds: over the patches of a gigapixel picture it is gigabytes.
    """
    _trim()(0)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
    return trim


def _too_large() -> DataError:
    return DataError(
        "memory: got less than the picture needs. Cut or scale the picture, or use a larger machine", reason="memory"
    )
