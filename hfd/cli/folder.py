"""The files of a folder that a command processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hfd.errors import DataError
from hfd.image.tree import Selection, Skipped
from hfd.io.walk import walk

COMPRESSED = ".hfd"


@dataclass(frozen=True)
class Found:
    """``keys``: files to process, relative to the folder; ``unreadable``: folders below it, with their errors."""

    keys: tuple[str, ...]
    unreadable: tuple[tuple[Path, DataError], ...]
    skipped: Skipped


def files_below(folder: Path, wanted: frozenset[str], suffix: str) -> Found:
    """Return the files that have a suffix in ``wanted``, by the rule of :mod:`hfd.image.tree`.

    ``suffix``: of the outputs, which are not counted among the files that are left out. Where compressed files are
    wanted, other files are not counted either.
    """
    unreadable: list[tuple[Path, DataError]] = []

    def note(error: OSError) -> None:
        path = Path(str(error.filename))
        unreadable.append((path, DataError(f"{path}: {error.strerror}. Check its owner and mode")))

    selection = Selection(wanted, uncounted=suffix, counts_all=COMPRESSED not in wanted)
    keys = tuple(entry.key for entry in walk(folder, selection, note) if selection.takes(entry.key, entry.fault))
    return Found(keys, tuple(unreadable), selection.skipped)


def nothing_in(folder: Path, wanted: frozenset[str], skipped: Skipped) -> DataError:
    """Return the error for a folder without files to process."""
    shown = [suffix for suffix in (".png", ".jpg", COMPRESSED) if suffix in wanted]
    expected = ", ".join(shown) + (", ..." if len(wanted) > len(shown) else "")
    return DataError(f"{folder}: got a folder without such files{skipped.hint}, expected {expected} in it")
