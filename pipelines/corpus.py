"""The photographs that a run is given: listing, order, and a digest that stands for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hfd.errors import ConfigError, DataError
from hfd.images import IMAGE_SUFFIXES
from hfd.storage import Folder

BUILTIN = "builtin:photographs"

_BUILTIN_FILES = {
    "skimage": (
        "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "motorcycle_left.png",
        "motorcycle_right.png", "retina.jpg", "rocket.jpg",
    ),
    "sklearn": ("china.jpg", "flower.jpg"),
}  # fmt: skip
_BUILTIN_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True)
class Photo:
    """One photograph: ``key`` names it in tables, ``folder`` and ``name`` say where its bytes are."""

    key: str
    folder: Folder
    name: str
    size: int
    stamp: str

    def read(self) -> bytes:
        return self.folder.read(self.name)


@dataclass(frozen=True)
class Corpus:
    """A listing at one moment. ``num_other_files``: files whose names are not those of pictures."""

    uri: str
    photos: tuple[Photo, ...]
    num_other_files: int

    @property
    def digest(self) -> str:
        """SHA-256 hex over keys, sizes and time stamps, in order."""
        lines = "".join(f"{photo.key}\0{photo.size}\0{photo.stamp}\n" for photo in self.photos)
        return hashlib.sha256(lines.encode()).hexdigest()


def list_corpus(uri: str | None, *, setting: str) -> Corpus:
    """List a folder, an ``s3://`` prefix, or ``builtin:photographs``; sorted by key.

    ``setting`` is the configuration key that errors name. Raises :class:`DataError` when nothing is there.
    """
    if uri is None:
        raise ConfigError(f"{setting}: missing, expected a folder or s3:// prefix. Give it as {setting}=...")
    if uri == BUILTIN:
        photos, others = tuple(_builtin()), 0
    else:
        folder = Folder(uri)
        try:
            entries = folder.files()
        except DataError as error:
            raise DataError(f"{setting}: {error}", reason=error.reason) from error
        photos = tuple(
            Photo(entry.key, folder, entry.key, entry.size, entry.stamp)
            for entry in entries
            if PurePosixPath(entry.key).suffix.lower() in IMAGE_SUFFIXES
        )
        others = len(entries) - len(photos)
    if not photos:
        raise DataError(f"{setting}: got no pictures in {uri}, expected some. Check the folder", reason="empty")
    return Corpus(uri, photos, others)


def _builtin() -> Iterator[Photo]:
    for package, names in _BUILTIN_FILES.items():
        folder = _package_folder(package) / _BUILTIN_FOLDERS[package]
        for name in names:
            size = (folder / name).stat().st_size
            # Wheels are versioned: the size says enough, and the time of installation says nothing.
            yield Photo(f"{package}/{name}", Folder(str(folder)), name, size, "wheel")


def _package_folder(package: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"data.uri: {BUILTIN} needs the package {package}. Install hfd[demo]")
    return Path(spec.submodule_search_locations[0])
