"""List the photographs and packs of a corpus in a fixed order, with a digest of the listing."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hfd.errors import ConfigError, DataError, printable
from hfd.image.load import IMAGE_SUFFIXES
from hfd.image.tree import AGAIN, IGNORED, OTHER, Group, Selection, Skipped, merged
from hfd.io.entry import Entry
from hfd.io.storage import Folder
from pipelines.corpus.files import PACK_ENDINGS, Files, files_of, packs_among
from pipelines.corpus.list_rows import LIST_SUFFIXES
from pipelines.corpus.lists import read_list
from pipelines.corpus.packs.pack import Pack
from pipelines.corpus.patterns import Ignored, ignored
from pipelines.corpus.photo import WHEEL, Photo
from pipelines.corpus.photo_list import PhotoList

OTHER_SOURCES = f", a tar or Parquet file, or a list ({', '.join(sorted(LIST_SUFFIXES))}). Correct the URI"
"""The end of the line on a file that is no source: what a source may be beside a folder."""

BUILTIN = "builtin:photographs"

ESCAPED = "surrogateescape"
"""The handling of bytes of names that are not UTF-8 (PEP 383)."""

PROGRESS_EVERY_FILES = 1000
"""Number of files between two progress reports: a page of a listing."""

BUILTIN_FILES = {
    "skimage": (
        "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "motorcycle_left.png",
        "motorcycle_right.png", "retina.jpg", "rocket.jpg",
    ),
    "sklearn": ("china.jpg", "flower.jpg"),
}  # fmt: skip
BUILTIN_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True)
class Origin:
    """One of several sources: the first part of its keys, and the share of its photographs that is used."""

    name: str
    uri: str
    share: float


@dataclass(frozen=True)
class Corpus:
    """A listing at one moment. ``skipped``: the files left out; ``num_other_files``: those of no picture format.

    ``packs``: files of many pictures, which are listed as one each.
    """

    uri: str
    photos: Sequence[Photo]
    num_other_files: int
    skipped: Skipped = field(default_factory=Skipped)
    packs: tuple[Pack, ...] = ()
    origins: tuple[Origin, ...] = ()
    """The sources, if they are several."""

    def __str__(self) -> str:
        """``12 photographs``, ``3 packs`` or ``12 photographs and 3 packs``."""
        counted = ((len(self.photos), "photographs"), (len(self.packs), "packs"))
        return " and ".join(f"{count} {noun}" for count, noun in counted if count) or "0 photographs"

    @property
    def digest(self) -> str:
        """SHA-256 hex of keys, sizes and stamps, in order."""
        digest = hashlib.sha256()
        for photo in self.photos:
            # An archived object that has been restored makes another corpus.
            stamp = f"{photo.stamp}\0{photo.archive}" if photo.archive else photo.stamp
            digest.update(f"{photo.key}\0{photo.size}\0{stamp}\n".encode())
            if photo.fields or photo.fault:
                digest.update(f"{photo.fields!r}\0{photo.fault}\n".encode())
        for pack in self.packs:
            digest.update(f"pack\0{pack.key}\0{pack.version}\0{pack.archive}\n".encode())
        return digest.hexdigest()


def list_corpus(
    uri: str | None,
    *,
    setting: str,
    packed: bool = True,
    columns: Sequence[str] = (),
    ignore: Sequence[str] = (),
    on_progress: Callable[[int, None], None] | None = None,
) -> Corpus:
    """List a source of photographs; sorted by key.

    A source is a folder or ``s3://`` prefix, one pack, a pattern of files, a list, or ``builtin:photographs``. A folder
    without pictures of its own counts as a folder of packs. ``packed`` False: packs and lists are other files.
    ``columns``: fields of a list to keep. ``ignore``: patterns of names to leave out (:func:`ignored`).
    ``setting`` is the configuration key that errors name. ``on_progress`` gets the number of files listed so far.
    Raises :class:`DataError` where there are no pictures.
    """
    if uri is None:
        raise ConfigError(f"{setting}: missing, expected a folder or s3:// prefix. Give it as {setting}=...")
    if uri == BUILTIN:
        return Corpus(uri, tuple(_builtin()), 0)
    try:
        ignores = ignored(ignore)
        files = files_of(uri, packed=packed, ignores=ignores)
        corpus = (
            _from_list(uri, files, columns, ignores)
            if files.is_list
            else _listed(uri, files, packed, ignores, on_progress)
        )
    except DataError as error:
        more = OTHER_SOURCES if packed and error.reason == "not-a-folder" else ""
        raise DataError(f"{setting}: {error}{more}", reason=error.reason) from error
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from error
    if not corpus.photos and not corpus.packs:
        advice = "Correct data.ignore" if corpus.skipped.count(IGNORED) else "Check the folder"
        raise DataError(
            f"{setting}: got no pictures in {uri}{corpus.skipped.hint}, expected some. {advice}", reason="empty"
        )
    return corpus


def _listed(
    uri: str,
    files: Files,
    packed: bool,
    ignores: Ignored | None,
    on_progress: Callable[[int, None], None] | None,
) -> Corpus:
    """Return the pictures and packs among files, and the kinds of files that are left out."""
    folder, selection = files.folder, Selection(IMAGE_SUFFIXES, ignores=ignores)
    photos, odd, held = PhotoList(folder), [], []
    for number, entry in enumerate(files.entries, 1):
        if on_progress is not None and number % PROGRESS_EVERY_FILES == 0:
            on_progress(number, None)
        if packed and entry.key.lower().endswith(PACK_ENDINGS) and selection.counts(entry.key, entry.fault):
            held.append(entry)
        elif selection.takes(entry.key, entry.fault):
            if (key := _key(folder, entry)) == entry.key and PhotoList.holds(entry):
                photos.append(entry)
            else:
                odd.append(Photo(key, folder, entry.key, entry.size, entry.stamp, entry.archive))
    chosen, others = packs_among(held, has_pictures=bool(photos or odd) and not files.stated)
    for entry in others:
        selection.takes(entry.key, entry.fault)
    packs = [Pack(_key(folder, one), folder, one.key, one.size, one.stamp, one.archive) for one in chosen]
    skipped = selection.skipped
    ordered = tuple(sorted(packs, key=lambda pack: pack.key))
    return Corpus(uri, _sorted(photos, odd), skipped.count(OTHER), skipped, ordered)


def _sorted(photos: PhotoList, odd: Sequence[Photo]) -> Sequence[Photo]:
    """Return photographs by key: the order differs between servers. ``odd``: those whose key is not their name."""
    if not odd:
        photos.sort()
        return photos
    every = sorted([*photos, *odd], key=lambda photo: (photo.key, photo.name))
    return tuple(sorted(_with_own_keys(every), key=lambda photo: photo.key))


def _from_list(uri: str, files: Files, columns: Sequence[str], ignores: Ignored | None) -> Corpus:
    (entry,) = files.entries
    found = read_list(files.folder, entry, columns)
    again = Group(AGAIN, found.num_repeated, (entry.key,), more=False)
    skipped = Skipped((again,) if found.num_repeated else ())
    if ignores is None:
        return Corpus(uri, tuple(_with_own_keys(found.photos)), 0, skipped, found.packs)
    selection = Selection(frozenset(), ignores=ignores)
    photos = [photo for photo in found.photos if not ignores(photo.key) or selection.takes(photo.key)]
    packs = [pack for pack in found.packs if not ignores(pack.key) or selection.takes(pack.key)]
    return Corpus(uri, tuple(_with_own_keys(photos)), 0, merged(skipped, selection.skipped), tuple(packs))


def _key(folder: Folder, entry: Entry) -> str:
    return _as_text(entry.key) if folder.is_local else printable(entry.key)


def _as_text(name: str) -> str:
    """Return the name of a local file for tables: UTF-8 in any locale, with escapes for what cannot be printed."""
    return name if name.isascii() and name.isprintable() else printable(os.fsencode(name).decode(errors=ESCAPED))


def _with_own_keys(photos: Sequence[Photo]) -> Iterator[Photo]:
    """Number the keys of photographs whose names look the same once they are printed."""
    taken = {photo.key for photo in photos} if any(photo.key != photo.name for photo in photos) else set()
    previous = None
    for photo in photos:
        key = photo.key
        if key == previous:
            key = next(new for number in itertools.count(2) if (new := f"{photo.key} ({number})") not in taken)
            taken.add(key)
        previous = photo.key
        yield photo if key == photo.key else replace(photo, key=key)


def _builtin() -> Iterator[Photo]:
    for package, names in BUILTIN_FILES.items():
        folder = _package_folder(package) / BUILTIN_FOLDERS[package]
        for name in names:
            size = (folder / name).stat().st_size
            # A wheel is versioned, so the size is enough; installation times differ.
            yield Photo(f"{package}/{name}", Folder(str(folder)), name, size, WHEEL)


def _package_folder(package: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"data.uri: {BUILTIN} needs the package {package}. Install hfd[demo]")
    return Path(spec.submodule_search_locations[0])
