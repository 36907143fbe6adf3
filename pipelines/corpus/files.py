"""The files that a source states: a folder or prefix, one file, or a pattern."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from hfd.errors import DataError
from hfd.image.load import IMAGE_SUFFIXES
from hfd.image.tree import Selection, suffix_of
from hfd.io.entry import Entry
from hfd.io.failures import one_line
from hfd.io.storage import Folder
from hfd.io.uris import is_local, local_path
from hfd.io.walk import Place
from pipelines.corpus.list_rows import LIST_SUFFIXES
from pipelines.corpus.packs.members import PACK_SUFFIXES
from pipelines.corpus.packs.tables import TABLE_SUFFIXES
from pipelines.corpus.packs.tars import TAR_SUFFIXES, compressed
from pipelines.corpus.patterns import ANY_DEPTH, Ignored, has_pattern, literal_start, name_set, split_pattern
from pipelines.corpus.s3 import find_object, list_objects

MAX_SHOWN = 3

COMPRESSED_TARS = {
    ".tar.gz": "gzip", ".tgz": "gzip", ".tar.bz2": "bzip2", ".tbz2": "bzip2", ".tar.xz": "xz", ".txz": "xz",
    ".tar.zst": "Zstandard", ".tzst": "Zstandard",
}  # fmt: skip

PACK_ENDINGS = (*PACK_SUFFIXES, *COMPRESSED_TARS)
KINDS = (TAR_SUFFIXES, TABLE_SUFFIXES)
"""Kinds of packs: of a folder's, those of the first kind are used."""


@dataclass(frozen=True)
class Files:
    """Files of a folder. ``stated``: by a pattern or by name, not as all of a folder."""

    folder: Folder
    entries: Iterable[Entry]
    stated: bool = False
    is_list: bool = False
    """The only entry is a list."""


def files_of(uri: str, *, packed: bool, ignores: Ignored | None = None) -> Files:
    """Return the files of a source; they are listed when they are iterated over.

    ``ignores``: of several names of a file, one that it leaves out is not the one to list.

    Raises:
        DataError: one line; ``reason`` is ``missing``, ``not-a-folder``, ``empty``, ``permission`` or an outage.
        ConfigError: a pattern of too many names.
    """
    path, mark, query = (uri, "", "") if is_local(uri) else uri.partition("?")
    if packed and has_pattern(path) and not (is_local(uri) and Path(local_path(uri)).exists()):
        base, pattern = split_pattern(path)
        return _matching(Folder(f"{base}{mark}{query}"), pattern if is_local(uri) else unquote(pattern), uri)
    if packed and path.lower().rstrip("/").endswith((*PACK_ENDINGS, *LIST_SUFFIXES)):
        parent = Folder(f"{path.rstrip('/').rpartition('/')[0] or ('/' if path.startswith('/') else '.')}{mark}{query}")
        found = _one_file(uri, path)
        if found is not None:
            return Files(parent, [found], stated=True, is_list=suffix_of(found.key) in LIST_SUFFIXES)
    folder = Folder(uri)
    if not folder.is_local:
        return Files(folder, list_objects(uri))
    # Packs have names that count, so that each is listed once by whatever links it is reached.
    suffixes = IMAGE_SUFFIXES | (PACK_SUFFIXES if packed else frozenset())
    return Files(folder, folder.walk(Selection(suffixes, ignores=ignores)))


def packs_among(entries: Sequence[Entry], *, has_pictures: bool) -> tuple[list[Entry], list[Entry]]:
    """Return the packs to use, and the files that are left out.

    Raises:
        DataError: a compressed tar among packs to use.
    """
    if has_pictures or not entries:
        return [], list(entries)
    for entry in entries:
        ending = next((ending for ending in COMPRESSED_TARS if entry.key.lower().endswith(ending)), None)
        if ending is not None:
            raise compressed(entry.key, COMPRESSED_TARS[ending])
    kind = next(kind for kind in KINDS if any(suffix_of(entry.key) in kind for entry in entries))
    chosen = [entry for entry in entries if suffix_of(entry.key) in kind]
    return chosen, [entry for entry in entries if suffix_of(entry.key) not in kind]


def _one_file(uri: str, path: str) -> Entry | None:
    if not is_local(uri):
        return find_object(uri)
    local = Path(local_path(path))
    with one_line(uri):
        if local.is_dir():
            return None
        info = local.stat()
    return Entry(local.name, info.st_size, str(info.st_mtime_ns))


@dataclass(frozen=True)
class _OneLevel:
    """The rule of a pattern: every name counts; ``deep``: folders are entered."""

    deep: bool

    def place(self, folder: str) -> Place:
        del folder
        return "walk" if self.deep else "whole"

    def is_wanted(self, key: str) -> bool:
        del key
        return True


def _matching(folder: Folder, pattern: str, uri: str) -> Files:
    """Return the files below a folder that a pattern matches. Each name that it states must exist."""
    wanted = name_set(pattern)
    if folder.is_local:
        entries: Iterator[Entry] = folder.walk(_OneLevel(deep="/" in pattern or pattern.startswith(ANY_DEPTH)))
    else:
        entries = list_objects(folder.uri, literal_start(pattern))
    found = [entry for entry in entries if entry.key in wanted]
    if not found:
        raise DataError(f"{uri}: got a pattern that matches no file, expected some. Correct it", reason="empty")
    missing = sorted(wanted.exact - {entry.key for entry in found})
    if missing:
        shown = ", ".join(missing[:MAX_SHOWN]) + (", ..." if len(missing) > MAX_SHOWN else "")
        raise DataError(
            f"{uri}: got no file for {len(missing)} of {len(wanted.exact)} names ({shown}), expected all. Correct the "
            "range, or use * in place of it",
            reason="missing",
        )
    return Files(folder, found, stated=True)
