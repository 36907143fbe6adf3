"""List the files of a local tree: links are followed, and each folder and file is listed once.

The order, and which name of a file counts, depend on names alone: first the folders and files that lie in the tree,
then what links lead to, sorted by key.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from hfd.io.entry import BROKEN, Entry
from hfd.io.failures import one_line

Place: TypeAlias = Literal["walk", "count", "whole"]
"""Treatment of a folder: list its files; list them last and follow no link; list the folder itself."""

_Identity: TypeAlias = tuple[int, int]


class Rule(Protocol):
    """The treatment of names. Keys are relative to the root of the tree."""

    def place(self, folder: str) -> Place:
        """Return the treatment of a folder."""

    def is_wanted(self, key: str) -> bool:
        """Return True for a file that counts; among several names of a file, the first such is listed."""


@dataclass(frozen=True)
class Everything:
    """List every file of every folder."""

    def place(self, folder: str) -> Place:
        del folder
        return "walk"

    def is_wanted(self, key: str) -> bool:
        del key
        return True


def raise_named(error: OSError) -> None:
    """Raise a system error as a :class:`hfd.errors.DataError` that names its file."""
    with one_line(os.fspath(error.filename) if error.filename else "folder"):
        raise error


def walk(root: Path, rule: Rule, on_error: Callable[[OSError], None] = raise_named) -> Iterator[Entry]:
    """Yield the files of a tree, with `Entry.fault` for names that are not ordinary files.

    A folder is entered once, by whatever links it is reached; a link to a folder that contains the link or the root is
    not entered. ``on_error`` gets the errors of folders that cannot be listed, and may raise.
    """
    yield from _Walk(root, rule, on_error).entries()


@dataclass
class _Walk:
    root: Path
    rule: Rule
    on_error: Callable[[OSError], None]
    visited: dict[_Identity, str] = field(default_factory=dict)
    """The folders entered so far, and their keys with a slash."""
    listed: set[_Identity] = field(default_factory=set)
    """Files that have, or may have, further names."""
    links: deque[str] = field(default_factory=deque)
    counted: list[str] = field(default_factory=list)

    def entries(self) -> Iterator[Entry]:
        yield from self._tree("", linked=False)
        waiting = sorted(self.links)
        while waiting:
            self.links.clear()
            for key in waiting:
                yield from self._link(key)
            waiting = sorted(self.links)
        for folder in self.counted:
            yield from self._count(folder)

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else str(self.root)

    def _tree(self, top: str, *, linked: bool) -> Iterator[Entry]:
        """List a folder and the real folders below it; note the links."""
        stack = [top]
        while stack:
            folder = stack.pop()
            try:
                identity = _identity(os.stat(self._path(folder)))  # noqa: PTH116 -- called for every folder
                if linked and identity in self.visited:
                    yield Entry(f"{folder}/", 0, "", fault="again")
                    continue
                with os.scandir(self._path(folder)) as found:
                    inside = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self.on_error(error)
                continue
            prefix = f"{folder}/" if folder else ""
            self.visited[identity] = prefix
            below = []
            for entry in inside:
                key = prefix + entry.name
                if entry.is_symlink():
                    self.links.append(key)
                elif not entry.is_dir(follow_symlinks=False):
                    yield from self._file(key, entry)
                elif (place := self.rule.place(key)) == "walk":
                    below.append(key)
                elif place == "count":
                    self.counted.append(key)
                else:
                    yield Entry(f"{key}/", 0, "")
            stack += reversed(below)

    def _file(self, key: str, entry: os.DirEntry[str]) -> Iterator[Entry]:
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # it has just gone
            return
        if not stat.S_ISREG(info.st_mode):
            yield Entry(key, 0, "", fault="special")
        elif info.st_nlink > 1:
            yield self._further_name(key, info)
        else:
            yield _entry(key, info)

    def _further_name(self, key: str, info: os.stat_result) -> Entry:
        identity = _identity(info)
        if not info.st_ino or not self.rule.is_wanted(key):
            return _entry(key, info)
        if identity in self.listed:
            return Entry(key, info.st_size, str(info.st_mtime_ns), fault="again")
        self.listed.add(identity)
        return _entry(key, info)

    def _link(self, key: str) -> Iterator[Entry]:
        path = self._path(key)
        try:
            info = os.stat(path)  # noqa: PTH116 -- of every link
        except OSError:
            if os.path.islink(path):  # noqa: PTH114 -- it may have just gone
                yield Entry(key, 0, BROKEN, fault="broken-link")
            return
        if stat.S_ISDIR(info.st_mode):
            yield from self._linked_folder(key, info)
        elif not stat.S_ISREG(info.st_mode):
            yield Entry(key, 0, "", fault="special")
        elif self.rule.is_wanted(key) and self._is_listed_below(os.path.realpath(path)):
            yield Entry(key, info.st_size, str(info.st_mtime_ns), fault="again")
        else:
            yield self._further_name(key, info)

    def _linked_folder(self, key: str, info: os.stat_result) -> Iterator[Entry]:
        real, parent = os.path.realpath(self._path(key)), self._path(key.rpartition("/")[0])
        if self.rule.place(key) != "walk":
            yield Entry(f"{key}/", 0, "")
        elif _contains(real, str(self.root)) or _contains(real, parent):
            yield Entry(f"{key}/", 0, "", fault="loop")
        elif _identity(info) in self.visited:
            yield Entry(f"{key}/", 0, "", fault="again")
        else:
            yield from self._tree(key, linked=True)

    def _is_listed_below(self, real: str) -> bool:
        """Return True for a file that lies in a folder that was entered, under a name that counts there."""
        folder, name = os.path.split(real)
        try:
            prefix = self.visited.get(_identity(os.stat(folder)))  # noqa: PTH116
        except OSError:
            return False
        return prefix is not None and self.rule.is_wanted(prefix + name)

    def _count(self, folder: str) -> Iterator[Entry]:
        """List the files of a folder whose files are only counted; one that cannot be read counts as one."""
        closed: list[str] = []
        top = self._path(folder)
        for parent, folders, names in os.walk(top, onerror=lambda error: closed.append(str(error.filename))):
            folders.sort()
            prefix = folder + parent[len(top) :]
            links = [name for name in folders if os.path.islink(f"{parent}/{name}")]  # noqa: PTH114
            yield from (Entry(f"{prefix}/{name}", 0, "") for name in sorted(names + links))
        yield from (Entry(f"{folder}{path[len(top) :]}/", 0, "") for path in closed)


def _entry(key: str, info: os.stat_result) -> Entry:
    return Entry(key, info.st_size, str(info.st_mtime_ns))


def _identity(info: os.stat_result) -> _Identity:
    return info.st_dev, info.st_ino


def _contains(folder: str, path: str) -> bool:
    """Return True for a path that is a real folder, or lies below it, once its links are followed."""
    real = os.path.realpath(path)
    return real == folder or real.startswith(folder.rstrip("/") + "/")
