"""The rule for the photographs of a tree, by names alone: the same for local folders and S3 prefixes.

A file counts if its name ends with the suffix of a format that is read (:data:`hfd.image.load.IMAGE_SUFFIXES`, in upper
or lower case) and neither it nor a folder above it, below the root of the tree, is hidden or belongs to a system: the
thumbnails of NAS systems and desktops, recycle bins, snapshots, metadata of macOS. The suffix alone decides; the
content is checked when the file is read. Every file that does not count is counted by its kind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hfd.errors import printable
from hfd.image.formats import unread_format

MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Kind:
    """A kind of files that do not count, in singular and plural."""

    one: str
    many: str


THUMBNAIL = Kind("thumbnail", "thumbnails")
DELETED = Kind("deleted file", "deleted files")
SNAPSHOT = Kind("snapshot folder", "snapshot folders")
SYSTEM = Kind("system file", "system files")
HIDDEN = Kind("hidden file or folder", "hidden files and folders")
OTHER = Kind("other file", "other files")
IGNORED = Kind("ignored file", "ignored files")
BROKEN_LINK = Kind("broken link", "broken links")
LOOP = Kind("link to a folder that contains it", "links to folders that contain them")
AGAIN = Kind("further name of a listed file or folder", "further names of listed files and folders")
SPECIAL = Kind("pipe, socket or device", "pipes, sockets and devices")

_FAULTS: Mapping[str, Kind] = {"broken-link": BROKEN_LINK, "loop": LOOP, "again": AGAIN, "special": SPECIAL}
_WHOLE = (HIDDEN, SNAPSHOT)
"""A folder of these kinds counts as one; its files are not listed: there may be very many."""

_FOLDERS: Mapping[str, Kind] = {
    # Synology, QNAP, desktops by the freedesktop.org standard and before it, XnView and xv
    **dict.fromkeys(("@eadir", "@__thumb", ".@__thumb", ".thumbnails", ".xvpics"), THUMBNAIL),
    # Synology, QNAP, Windows, macOS, Unraid and Samba
    **dict.fromkeys(
        ("#recycle", "@recycle", "$recycle.bin", ".trash", ".trashes", ".recycle", ".recycle.bin"), DELETED
    ),
    # Synology, NetApp by NFS and SMB, snapper, ZFS, QNAP
    **dict.fromkeys(("#snapshot", ".snapshot", "~snapshot", ".snapshots", ".zfs", "@recently-snapshot"), SNAPSHOT),
    **dict.fromkeys(("lost+found", "system volume information", "__macosx", ".appledouble"), SYSTEM),
}
_PREVIEWS = {".photoslibrary": ("resources",), ".photolibrary": ("thumbnails", "previews")}
"""Folders of smaller copies in the libraries of Photos and iPhoto."""

_FILES: Mapping[str, Kind] = {
    **dict.fromkeys(("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db"), THUMBNAIL),
    **dict.fromkeys(("desktop.ini", ".ds_store"), SYSTEM),
}


@dataclass(frozen=True)
class Group:
    """Files of one kind that were left out; ``more``: there are other names than the examples."""

    kind: Kind
    count: int
    examples: tuple[str, ...]
    more: bool

    def __str__(self) -> str:
        name = self.kind.one if self.count == 1 else self.kind.many
        return f"{self.count} {name} ({', '.join([*self.examples, *(['...'] if self.more else [])])})"


@dataclass(frozen=True)
class Skipped:
    """The files of a tree that are not taken, by kind."""

    groups: tuple[Group, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.groups)

    def __str__(self) -> str:
        """``skipped 12: 10 thumbnails (@eaDir), 2 camera raw pictures (a.cr2, b.nef)``."""
        return f"skipped {sum(group.count for group in self.groups)}: {', '.join(map(str, self.groups))}"

    @property
    def hint(self) -> str:
        """The line in brackets behind a space, for a tree without a picture; empty for other files alone."""
        return f" ({self})" if any(group.kind != OTHER for group in self.groups) else ""

    @property
    def num_other(self) -> int:
        return self.count(OTHER)

    def count(self, kind: Kind) -> int:
        return sum(group.count for group in self.groups if group.kind == kind)

    def to_record(self) -> dict[str, dict[str, object]]:
        return {group.kind.many: {"count": group.count, "examples": list(group.examples)} for group in self.groups}


def merged(a: Skipped, b: Skipped) -> Skipped:
    """Return the files left out of two trees."""
    groups = {group.kind: group for group in a.groups}
    for group in b.groups:
        before = groups.get(group.kind)
        if before is not None:
            names = sorted({*before.examples, *group.examples})
            more = before.more or group.more or len(names) > MAX_EXAMPLES
            group = Group(group.kind, before.count + group.count, tuple(names[:MAX_EXAMPLES]), more)
        groups[group.kind] = group
    return Skipped(tuple(sorted(groups.values(), key=lambda group: (-group.count, group.kind.many))))


@dataclass
class _Tally:
    count: int = 0
    names: list[str] = field(default_factory=list)
    """The smallest distinct names, one more than are shown: the same in any order of files."""

    def add(self, name: str) -> None:
        self.count += 1
        if name not in self.names:
            self.names = sorted([*self.names, name])[: MAX_EXAMPLES + 1]


@dataclass
class Selection:
    """Takes the files of a tree that count, and counts the others.

    ``wanted``: suffixes, in lower case. ``uncounted``: a suffix of files that are neither taken nor counted.
    ``counts_all`` False: only files with a wanted suffix are counted. ``ignores``: names to leave out; None: none.
    """

    wanted: frozenset[str]
    uncounted: str = ""
    counts_all: bool = True
    ignores: Callable[[str], bool] | None = None
    _tallies: dict[Kind, _Tally] = field(default_factory=dict)
    _whole: set[str] = field(default_factory=set)

    def place(self, folder: str) -> Literal["walk", "count", "whole"]:
        """Return the treatment of a folder: see :data:`hfd.io.walk.Place`."""
        found = _left_out(folder)
        return "walk" if found is None else "whole" if found[0] in _WHOLE else "count"

    def is_wanted(self, key: str) -> bool:
        """Return True for a name that counts."""
        folder, _, name = key.rpartition("/")
        if _left_out(folder) is not None or _kind_of_file(name) is not None or suffix_of(name) not in self.wanted:
            return False
        return self.ignores is None or not self.ignores(key)

    def counts(self, key: str, fault: str = "") -> bool:
        """Return True for a file of any suffix whose other names and folders count, and count nothing."""
        folder, _, name = key.rpartition("/")
        if _left_out(folder) is not None or _kind_of_file(name) is not None or fault not in ("", "broken-link"):
            return False
        return self.ignores is None or not self.ignores(key)

    def takes(self, key: str, fault: str = "") -> bool:
        """Return True for a file to take; count another.

        ``key``: relative to the root of the tree, with slashes; that of a folder ends with one. ``fault``: see
        :data:`hfd.io.entry.Fault`. A broken link whose name counts is taken, and fails when it is read.
        """
        wanted = self.is_wanted(key)
        if wanted and fault in ("", "broken-link"):
            return True
        suffix = suffix_of(key)
        if (not self.counts_all and suffix not in self.wanted) or (suffix == self.uncounted != ""):
            return False
        kind, name = _explain(key, fault, wanted)
        if self.ignores is not None and kind == OTHER and self.ignores(key):
            kind, name = IGNORED, key
        if kind in _WHOLE:
            if name in self._whole:
                return False
            self._whole.add(name)
        self._tallies.setdefault(kind, _Tally()).add(printable(name))
        return False

    @property
    def skipped(self) -> Skipped:
        """The files left out so far; most frequent kinds first."""
        groups = [
            Group(kind, tally.count, tuple(tally.names[:MAX_EXAMPLES]), len(tally.names) > MAX_EXAMPLES)
            for kind, tally in self._tallies.items()
        ]
        return Skipped(tuple(sorted(groups, key=lambda group: (-group.count, group.kind.many))))


def suffix_of(key: str) -> str:
    """Return the suffix of a file's name in lower case, ``".jpg"``; empty for a name without one."""
    name = key[key.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _explain(key: str, fault: str, wanted: bool) -> tuple[Kind, str]:
    """Return the kind of a file that is not taken, and the name to show for it."""
    folder, _, name = key.rpartition("/")
    if (found := _left_out(folder)) is not None:
        return found
    if (kind := _kind_of_file(name)) is not None:
        return kind, key
    if fault == "again" and name and not wanted:  # a link to a file that is no picture
        fault = ""
    if fault in _FAULTS:
        return _FAULTS[fault], key.rstrip("/")
    suffix = suffix_of(name)
    if (unread := unread_format(suffix=suffix)) is not None:
        noun = unread.split(" ", 1)[1]
        return Kind(noun, f"{noun}s"), key
    return OTHER, suffix or "without a suffix"


@functools.lru_cache(maxsize=1024)
def _left_out(folder: str) -> tuple[Kind, str] | None:
    """Return the kind of a folder whose files do not count, and the name to show; None for one whose files do."""
    above = ""
    parts = folder.split("/") if folder else []
    for number, part in enumerate(parts):
        if (kind := _kind_of_folder(part, above)) is not None:
            return kind, "/".join(parts[: number + 1]) if kind in _WHOLE else part
        above = part
    return None


def _kind_of_folder(name: str, above: str) -> Kind | None:
    lower = name.lower()
    if (found := _FOLDERS.get(lower)) is not None:
        return found
    if lower.startswith(".trash-"):
        return DELETED
    if lower.endswith(".lrdata") or lower in _PREVIEWS.get(suffix_of(above), ()):
        return THUMBNAIL
    return HIDDEN if name.startswith(".") and name not in (".", "..") else None


def _kind_of_file(name: str) -> Kind | None:
    lower = name.lower()
    if (found := _FILES.get(lower)) is not None:
        return found
    if lower.startswith("._"):
        return SYSTEM
    if lower.startswith(".trashed-"):
        return DELETED
    if lower.endswith(".thm"):
        return THUMBNAIL
    return HIDDEN if name.startswith(".") else None
