"""List the photographs of a corpus in a fixed order, with a digest of the listing."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hfd.errors import ConfigError, DataError, printable
from hfd.image.load import IMAGE_SUFFIXES
from hfd.image.tree import OTHER, Selection, Skipped
from hfd.io.entry import Entry
from hfd.io.storage import Folder
from pipelines.corpus.s3 import changed, fetch, list_objects
from pipelines.corpus.s3_client import archived

BUILTIN = "builtin:photographs"
WHEEL = "wheel"

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


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph: its ``key`` in tables, and the ``folder`` and ``name`` of its file. About 300 bytes each."""

    key: str
    folder: Folder
    name: str
    size: int
    stamp: str
    """The ETag on S3, the modification time in a folder, ``wheel`` in a package."""

    archive: str = ""
    """The storage class on S3 from which the object must be restored; empty: it can be read."""

    def read(self) -> bytes:
        """Return the bytes of the listed version.

        Raises:
            DataError: ``reason`` is ``changed`` (size or stamp differ from the listing), ``archived``, ``bad-key``, or
                one of :meth:`hfd.io.storage.Folder.read`.
        """
        if any(part in (".", "..") for part in self.key.split("/")):
            raise DataError(f"{self.key}: got . or .. in a key, expected names. Rename the object", reason="bad-key")
        if self.archive:
            raise archived(f"{self.folder.uri.rstrip('/')}/{self.name}", self.archive)
        if _is_s3(self.folder):
            return fetch(self.folder.uri, self.name, self.size, self.stamp)
        data = self.folder.read(self.name)
        now = self._stamp_now()
        if (len(data), now) != (self.size, self.stamp):
            raise changed(self.key, f"{len(data)} bytes of {now}", f"{self.size} bytes of {self.stamp}")
        return data

    def _stamp_now(self) -> str:
        if self.stamp == WHEEL or not self.folder.is_local:
            return self.stamp
        try:
            return str((self.folder.path / self.name).stat().st_mtime_ns)
        except OSError:
            return "gone"


@dataclass(frozen=True)
class Corpus:
    """A listing at one moment. ``skipped``: the files left out; ``num_other_files``: those of no picture format."""

    uri: str
    photos: tuple[Photo, ...]
    num_other_files: int
    skipped: Skipped = field(default_factory=Skipped)

    @property
    def digest(self) -> str:
        """SHA-256 hex of keys, sizes and stamps, in order."""
        digest = hashlib.sha256()
        for photo in self.photos:
            # An archived object that has been restored makes another corpus.
            stamp = f"{photo.stamp}\0{photo.archive}" if photo.archive else photo.stamp
            digest.update(f"{photo.key}\0{photo.size}\0{stamp}\n".encode())
        return digest.hexdigest()


def list_corpus(uri: str | None, *, setting: str, on_progress: Callable[[int, None], None] | None = None) -> Corpus:
    """List a folder, an ``s3://`` prefix, or ``builtin:photographs``; sorted by key.

    ``setting`` is the configuration key that errors name. ``on_progress`` gets the number of files listed so far.
    Raises :class:`DataError` where there are no pictures.
    """
    if uri is None:
        raise ConfigError(f"{setting}: missing, expected a folder or s3:// prefix. Give it as {setting}=...")
    skipped = Skipped()
    if uri == BUILTIN:
        photos = tuple(_builtin())
    else:
        try:
            photos, skipped = _listed(Folder(uri), on_progress)
        except DataError as error:
            raise DataError(f"{setting}: {error}", reason=error.reason) from error
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error}") from error
    if not photos:
        raise DataError(
            f"{setting}: got no pictures in {uri}{skipped.hint}, expected some. Check the folder", reason="empty"
        )
    return Corpus(uri, photos, skipped.count(OTHER), skipped)


def _listed(folder: Folder, on_progress: Callable[[int, None], None] | None) -> tuple[tuple[Photo, ...], Skipped]:
    """Return the pictures of a folder or prefix, sorted by key, and the files that are left out."""
    selection = Selection(IMAGE_SUFFIXES)
    entries: Iterable[Entry] = list_objects(folder.uri) if _is_s3(folder) else folder.walk(selection)
    photos = []
    for number, entry in enumerate(entries, 1):
        if on_progress is not None and number % PROGRESS_EVERY_FILES == 0:
            on_progress(number, None)
        if selection.takes(entry.key, entry.fault):
            key = _as_text(entry.key) if folder.is_local else printable(entry.key)
            photos.append(Photo(key, folder, entry.key, entry.size, entry.stamp, entry.archive))
    # The order differs between servers.
    photos.sort(key=lambda photo: (photo.key, photo.name))
    return tuple(sorted(_with_own_keys(photos), key=lambda photo: photo.key)), selection.skipped


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


def _is_s3(folder: Folder) -> bool:
    return not folder.is_local


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
