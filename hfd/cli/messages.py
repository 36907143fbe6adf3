"""Messages that name the file that they are about."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hfd.errors import BitstreamError, DataError
from hfd.image.notes import Note


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the file in errors about its bytes. Errors of the model name the model."""
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{name}: {error}") from error
    except DataError as error:
        if error.reason not in _OF_THE_FILE:
            raise
        raise DataError(f"{name}: {error}", reason=error.reason) from error


_OF_THE_FILE = ("too-large", "target", "memory", "region", "format")


def tell(name: str, notes: Iterable[Note]) -> None:
    """Report on standard error what of a file was left out."""
    sys.stdout.flush()
    for note in notes:
        print(f"hfd: {name}: {note.text}", file=sys.stderr, flush=True)
