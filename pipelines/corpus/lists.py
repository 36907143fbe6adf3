"""Lists of pictures and packs: URIs with optional sizes, ETags and further fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

from hfd.errors import ConfigError, DataError, printable
from hfd.image.tree import suffix_of
from hfd.io.entry import BROKEN, Entry
from hfd.io.storage import Folder
from pipelines.corpus.list_places import Identity, ListedPlace, find_place
from pipelines.corpus.list_rows import read_rows
from pipelines.corpus.packs.fields import chosen_fields
from pipelines.corpus.packs.files import open_version
from pipelines.corpus.packs.members import PACK_SUFFIXES
from pipelines.corpus.packs.pack import Pack
from pipelines.corpus.photo import Photo
from pipelines.corpus.s3 import find_object

GONE = "gone"
"""The stamp of an object that does not exist: no object has this ETag."""

THREADS = 16


@dataclass(frozen=True)
class Listed:
    """The entries of a list; ``num_repeated``: further lines of the same files."""

    photos: tuple[Photo, ...]
    packs: tuple[Pack, ...]
    num_repeated: int


def read_list(folder: Folder, entry: Entry, columns: Sequence[str]) -> Listed:
    """Read a list; relative URIs begin at its ``folder``. ``columns``: fields to keep.

    A file with several names, in whatever order, counts once: under a name that is relative, else under the first by
    name. An entry that cannot be reached is listed, and fails when it is read.

    Raises:
        DataError: one line; ``reason`` is ``bad-list`` for a line that is not readable or has no URI, or an outage.
    """
    stated: dict[str, dict[str, object]] = {}
    number = 0
    with open_version(folder, entry.key, entry.size, entry.stamp) as file:
        for row in read_rows(file, entry.key):
            number += 1
            stated.setdefault(row.uri, row.fields)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda item: _entry(folder, item[0], item[1], columns), stated.items()))
    files: dict[Identity, _Found] = {}
    for one in found:
        if one.identity not in files or one.rank < files[one.identity].rank:
            files[one.identity] = one
    entries = [one.entry for one in files.values()]
    photos = sorted((one for one in entries if isinstance(one, Photo)), key=lambda photo: photo.key)
    packs = sorted((one for one in entries if isinstance(one, Pack)), key=lambda pack: pack.key)
    return Listed(tuple(photos), tuple(packs), number - len(files))


@dataclass(frozen=True)
class _Found:
    """An entry of a list. ``identity``: equal for all names of a file. ``rank``: the name with the least counts."""

    entry: Photo | Pack
    identity: Identity
    rank: tuple[bool, str]


def _entry(folder: Folder, uri: str, row: dict[str, object], columns: Sequence[str]) -> _Found:
    fields = chosen_fields(row, columns)
    try:
        place = find_place(folder, uri)
        size, stamp = _version(place, row)
    except (ConfigError, DataError) as error:
        if isinstance(error, DataError) and error.is_outage:
            raise
        key = printable(uri.removeprefix("./"))
        return _Found(Photo(key, folder, uri, 0, GONE, fields=fields, fault=str(error)), (uri,), (True, key))
    rank = (not place.is_relative, place.key)
    if suffix_of(place.name) in PACK_SUFFIXES:
        return _Found(Pack(place.key, place.folder, place.name, size, stamp), place.identity, rank)
    return _Found(Photo(place.key, place.folder, place.name, size, stamp, fields=fields), place.identity, rank)


def _version(place: ListedPlace, row: dict[str, object]) -> tuple[int, str]:
    """Return size and stamp: those of the list where it states both, else those of the file."""
    known = {name.casefold(): value for name, value in row.items()}
    size, tag = known.get("size"), known.get("etag")
    if place.size is not None and place.stamp is not None:
        missing = place.stamp == BROKEN or size in (None, "")
        return (place.size if missing else _size(place.name, size)), place.stamp
    if tag and size not in (None, ""):
        return _size(place.name, size), str(tag).strip('"')
    found = find_object((place.folder / quote(place.name)).uri)
    if found is None:
        return 0, GONE
    return (found.size if size in (None, "") else _size(place.name, size)), str(tag or found.stamp).strip('"')


def _size(uri: str, size: object) -> int:
    found = re.fullmatch(r"(\d+)(?:\.0*)?", str(size).strip())  # columns with gaps are written as 123.0
    if found is None:
        raise ConfigError(f"{uri}: got a size of {size!r}, expected a number of bytes. Correct the list")
    return int(found[1])
