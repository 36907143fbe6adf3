"""Notes about a picture that was read all the same: what of its file was left out, and why."""

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
    """``text``: one line about the file, to follow its name: what was got, and what was done with it."""

    kind: NoteKind
    text: str


_held: ContextVar[dict[Note, None] | None] = ContextVar("_held", default=None)


def add_note(kind: NoteKind, text: str) -> None:
    """Add a note to the picture that is being read; equal notes count once. Nothing where nobody collects them."""
    if (held := _held.get()) is not None:
        held[Note(kind, text)] = None


@contextmanager
def collected_notes() -> Iterator[dict[Note, None]]:
    """Collect the notes of this thread inside the block, as a dict's keys in order; a block around it has them too."""
    held: dict[Note, None] = {}
    token = _held.set(held)
    try:
        yield held
    finally:
        _held.reset(token)
        if (outer := _held.get()) is not None:
            outer.update(held)
