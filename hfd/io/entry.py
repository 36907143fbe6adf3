"""A listed file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Fault: TypeAlias = Literal["", "broken-link", "loop", "again", "special"]
"""Kinds of names that are no ordinary files: a link to nothing; a link to a folder that contains it; a further name of
a file or folder that is listed already; a pipe, socket or device. Empty for ordinary files."""

BROKEN = "broken-link"
"""The stamp of a link to nothing, or to a file that cannot be examined."""


@dataclass(frozen=True)
class Entry:
    """One listed file: ``key`` relative to the listed folder, ``size`` in bytes, ``stamp`` that changes with it.

    ``archive``: the storage class of an object that has to be restored before it can be read; empty: none. The key of a
    folder ends with a slash.
    """

    key: str
    size: int
    stamp: str
    archive: str = ""
    fault: Fault = ""
