"""Lists of pictures and packs: JSON lines or CSV of URIs, with optional sizes, ETags and further fields."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

from hfd.errors import ConfigError, DataError, printable
from hfd.image.tree import suffix_of
from hfd.io.entry import BROKEN, Entry
from hfd.io.storage import Folder
from pipelines.corpus.list_places import Identity, ListedPlace, find_place
from pipelines.corpus.packs.fields import chosen_fields
from pipelines.corpus.packs.files import open_version
from pipelines.corpus.packs.members import PACK_SUFFIXES
from pipelines.corpus.packs.pack import Pack
from pipelines.corpus.photo import Photo
from pipelines.corpus.s3 import find_object

LIST_SUFFIXES = frozenset({".jsonl", ".ndjson", ".csv"})
URI_NAMES = ("uri", "url", "path", "file_name")
"""Names of the column of URIs; the first that a list has counts."""

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
        for number, row in enumerate(_rows(io.TextIOWrapper(file, "utf-8-sig", newline=""), entry.key), 1):
            uri = next((row[name] for name in URI_NAMES if row.get(name)), None)
            if not isinstance(uri, str):
                raise DataError(
                    f"{entry.key}: got line {number} without a URI ({', '.join(row)}), expected one of "
                    f"{', '.join(URI_NAMES)}. Correct the list",
                    reason="bad-list",
                )
            stated.setdefault(uri, row)
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


def _rows(text: io.TextIOWrapper, name: str) -> Iterator[dict[str, object]]:
    """Yield the fields of each line."""
    line_number = 0
    try:
        if suffix_of(name) == ".csv":
            yield from csv.DictReader(text, strict=True)
            return
        for line_number, line in enumerate(text, 1):  # noqa: B007 -- for the message
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("expected an object")
                yield row
    except (csv.Error, ValueError, RecursionError) as error:
        where = f" {line_number}" if line_number else ""
        raise DataError(
            f"{name}: got line{where} that cannot be read ({' '.join(str(error).split())[:80]}), expected a header and "
            "values (.csv) or a JSON object (.jsonl). Correct the list",
            reason="bad-list",
        ) from error


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
    size, tag = row.get("size"), row.get("etag") or row.get("ETag")
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
    try:
        return int(str(size))
    except ValueError:
        raise ConfigError(f"{uri}: got a size of {size!r}, expected a number of bytes. Correct the list") from None
