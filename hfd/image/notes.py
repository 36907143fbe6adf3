"""Notes about parts of a picture's file that were left out, and the reasons. The picture itself was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TypeAlias

NoteKind: TypeAlias = Literal["profile", "colours", "text", "metadata", "picture"]
"""The part of the file that a note is about."""


@dataclass(frozen=True)
class Note:
    """``text``: one line to print after the file's name: the problem, and its consequence."""

    kind: NoteKind
    text: str


_held: ContextVar[dict[Note, None] | None] = ContextVar("_held", default=None)


def add_note(kind: NoteKind, text: str) -> None:
    """Add a note to the picture that is being read; equal notes count once. No-op outside :func:`collected_notes`."""
    if (held := _held.get()) is not None:
        held[Note(kind, text)] = None


@contextmanager
def collected_notes() -> Iterator[dict[Note, None]]:
    """Collect the notes of this thread inside the block, as a dict's keys in order. An outer block gets them too."""
    held: dict[Note, None] = {}
    token = _held.set(held)
    try:
        yield held
    finally:
        _held.reset(token)
        if (outer := _held.get()) is not None:
            outer.update(held)
