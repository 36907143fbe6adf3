"""The files that the URIs of a list name: where each lies, its key, and what is equal for all names of one file."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from hfd.errors import ConfigError, printable
from hfd.io.entry import BROKEN
from hfd.io.storage import Folder
from hfd.io.uris import check_place, is_local, local_path, parse_s3

Identity = tuple[str | int, ...]


@dataclass(frozen=True)
class ListedPlace:
    """A file of a list: ``folder`` and ``name`` to read it by, and its ``key`` in tables.

    ``identity``: equal for all names of a file: on a disk also for links and hard links. ``is_relative``: the URI
    begins at the list's folder. ``size``, ``stamp``: of a file on a disk; None on S3.
    """

    key: str
    folder: Folder
    name: str
    identity: Identity
    is_relative: bool
    size: int | None = None
    stamp: str | None = None


def find_place(folder: Folder, uri: str) -> ListedPlace:
    """Return the place of a URI in a list that lies in ``folder``.

    Relative paths are names as they are, without escapes. On a disk they may lead out of the folder of the list, as in
    a shell: a list can name every file by its absolute path anyway. On S3, where ``..`` is a name like others and
    servers disagree on it, it is refused.

    Raises:
        ConfigError: a URI that is neither on a disk nor on S3, or that has ``..`` on S3.
    """
    if uri.startswith("s3://"):
        place, _, name = check_place(uri, with_query=False).rpartition("/")
        return _on_s3(printable(uri), Folder(place), unquote(name), is_relative=False)
    if not is_local(uri):
        raise ConfigError(f"{uri}: got a URI of another scheme, expected s3:// or a path. Copy the picture there")
    path = PurePosixPath(local_path(uri))
    if folder.is_local or path.is_absolute():
        return _on_disk(folder, uri, path)
    if ".." in path.parts:
        raise ConfigError(
            f"{uri}: got .. in a name beside a list on S3, expected names below the folder of the list. Write the "
            "whole URI, s3://bucket/name"
        )
    parent = folder if path.parent.name == "" else folder / quote(str(path.parent))
    return _on_s3(printable(str(path)), parent, path.name, is_relative=True)


def _on_s3(key: str, folder: Folder, name: str, *, is_relative: bool) -> ListedPlace:
    where = parse_s3(folder.uri)
    identity = (where.endpoint or "", where.bucket, where.prefix + name)
    return ListedPlace(key, folder, name, identity, is_relative)


def _on_disk(folder: Folder, uri: str, path: PurePosixPath) -> ListedPlace:
    base = PurePosixPath(local_path(folder.uri)) if folder.is_local else PurePosixPath("/")
    full, is_relative = base / path, uri == local_path(uri) and not path.is_absolute()
    info = _examine(full)
    if info is None and is_relative and "\\" in uri and "/" not in uri:  # as a program of Windows writes it
        return _on_disk(folder, uri.replace("\\", "/"), PurePosixPath(uri.replace("\\", "/")))
    key = _plain(base, path, info) if uri == local_path(uri) else uri
    place = ListedPlace(printable(key), Folder(str(full.parent)), full.name, (str(full),), is_relative, 0, BROKEN)
    if info is None:
        return place
    # Some file systems of networks have no numbers of files.
    identity: Identity = (info.st_dev, info.st_ino) if info.st_ino else (os.path.realpath(full),)
    return ListedPlace(place.key, place.folder, place.name, identity, is_relative, info.st_size, str(info.st_mtime_ns))


def _examine(path: PurePosixPath) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 -- of every line of a list
    except (OSError, ValueError):  # ValueError: a name that the file system cannot hold
        return None


def _plain(base: PurePosixPath, path: PurePosixPath, info: os.stat_result | None) -> str:
    """Return a path without ``x/..``, where that names the same file: not if ``x`` is a link to elsewhere."""
    written, plain = str(path), posixpath.normpath(path)
    if plain == written or info is None:
        return written
    other = _examine(base / plain)
    return plain if other is not None and os.path.samestat(info, other) else written
