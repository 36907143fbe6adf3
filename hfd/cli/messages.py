"""Messages with the name of their file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hfd.errors import BitstreamError, DataError
from hfd.image.notes import Note


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Prefix errors about a file's bytes with its name. Errors about the model name the model."""
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{name}: {error}") from error
    except DataError as error:
        if error.reason not in _OF_THE_FILE:
            raise
        raise DataError(f"{name}: {error}", reason=error.reason) from error


_OF_THE_FILE = ("too-large", "target", "memory", "region", "format")


def report_notes(name: str, notes: Iterable[Note]) -> None:
    """Print the notes about a file on standard error."""
    sys.stdout.flush()
    for note in notes:
        print(f"hfd: {name}: {note.text}", file=sys.stderr, flush=True)
