"""Memory that runs out, told as a mistake that can be mended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


def _too_large() -> DataError:
    return DataError(
        "memory: got less than the picture needs. Cut or scale the picture, or use a larger machine", reason="memory"
    )
