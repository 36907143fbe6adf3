"""Pictures that another system decoded elsewhere, matched with the originals by name, and the sizes of their files."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hfd.config.codecs import DecodedSystem
from hfd.errors import DataError
from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from hfd.metrics.of_image import DecodedImage
from hfd.metrics.original import Original
from pipelines.corpus.listing import list_corpus
from pipelines.corpus.photo import Photo
from pipelines.evaluate.csv_files import is_csv, parse_csv, read_csv
from pipelines.evaluate.measure import Measured, MeasureSettings

MAX_NAMED = 3
"""Names in a line of those that match nothing."""


@dataclass(frozen=True)
class FileSize:
    """Size of a compressed file: bytes or, ``per_pixel``, bits per pixel."""

    value: float
    per_pixel: bool = False

    def num_bytes(self, num_pixels: int) -> int:
        return round(self.value * num_pixels / 8) if self.per_pixel else round(self.value)


@dataclass(frozen=True)
class DecodedPicture:
    """One picture of a system at a setting, and the size of its compressed file."""

    system: str
    setting: str
    photo: Photo
    size: FileSize


@dataclass(frozen=True)
class DecodedPictures:
    """The pictures of all systems by the key of their original.

    ``gaps``: systems without a picture, and why; ``notes``: lines on names that match nothing; ``digest``: of all that
    was listed and read.
    """

    of_original: Mapping[str, tuple[DecodedPicture, ...]] = field(default_factory=dict)
    gaps: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    digest: str = ""


def list_decoded(systems: Sequence[DecodedSystem], originals: Iterable[str]) -> DecodedPictures:
    """List the pictures and sizes of every system. ``originals``: keys of the pictures to evaluate.

    What cannot be used of a system is a gap or a note and not an error, unless a server fails.
    """
    keys = list(originals)
    found: dict[str, tuple[DecodedPicture, ...]] = {}
    gaps: dict[str, str] = {}
    notes: list[str] = []
    listed = []
    for system in systems:
        try:
            pictures, lines, digest = _pictures_of(system, keys)
        except DataError as error:
            if error.is_outage:
                raise
            reason = f"{system.setting}: {error}"
            gaps[system.name] = f"{gaps[system.name]}; {reason}" if system.name in gaps else reason
            listed.append([system.name, system.setting, reason])
            continue
        for key, picture in pictures.items():
            found[key] = (*found.get(key, ()), picture)
        notes += lines
        listed.append([system.name, system.setting, digest])
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return DecodedPictures(found, gaps, tuple(notes), digest)


def add_decoded(
    measured: Measured, original: Original, pictures: Sequence[DecodedPicture], settings: MeasureSettings
) -> None:
    """Measure the pictures of one original. One that cannot be used costs a line, and its row."""
    height, width = original.x.shape[:2]
    for one in pictures:
        label = f"{one.system}, {one.setting}: {one.photo.key}"
        try:
            decoded = load_rgb(one.photo.read(), name=label, max_pixels=height * width)
            if decoded.shape != original.x.shape:
                raise DataError(
                    f"{label}: got {decoded.shape[1]} x {decoded.shape[0]} px, expected {width} x {height} px as in "
                    "the original. Decode it again without a resize",
                    reason="other-size",
                )
        except DataError as error:
            if error.is_outage:
                raise
            print(f"hfd: {measured.name}: {error}", file=sys.stderr, flush=True)
            continue
        image = DecodedImage(original, decoded, one.size.num_bytes(height * width), None, None, vgg16=settings.vgg16)
        measured.add((one.system, one.setting), image, settings)


def read_sizes(place: str) -> dict[str, FileSize]:
    """Read the sizes of compressed files by stem: from a CSV file, or those of the files of a folder or prefix.

    A CSV has a line of headings with ``name`` and ``size`` (bytes) or ``bpp`` (bits per pixel). Raises
    :class:`DataError`.
    """
    if not is_csv(place):
        entries = Folder(place).files()
        _check_stems([entry.key for entry in entries], place)
        return {stem_of(entry.key): FileSize(entry.size) for entry in entries}
    return _sizes_of_csv(read_csv(place), place)


def stem_of(key: str) -> str:
    """Return a key without the suffix of its file: ``a/kodim01.png`` -> ``a/kodim01``."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"


def _pictures_of(system: DecodedSystem, originals: Sequence[str]) -> tuple[dict[str, DecodedPicture], list[str], str]:
    """Return the pictures by original, lines on what does not match, and a digest."""
    corpus = list_corpus(system.uri, setting="evaluate.decoded", packed=False)
    _check_stems([photo.key for photo in corpus.photos], system.uri)
    sizes = read_sizes(system.bytes)
    by_stem = {stem_of(photo.key): photo for photo in corpus.photos}
    wanted = {stem_of(key): key for key in originals}
    pictures = {
        wanted[stem]: DecodedPicture(system.name, system.setting, photo, sizes[stem])
        for stem, photo in by_stem.items()
        if stem in wanted and stem in sizes
    }
    if not pictures:
        raise DataError(
            f"{system.uri}: got {len(by_stem)} pictures and {len(sizes)} sizes, none of which has an original's name, "
            f"expected names such as {next(iter(wanted), 'none')}. Rename the files",
            reason="no-match",
        )
    label = f"evaluate.decoded: {system.name}, {system.setting}"
    unmatched = (
        ("pictures have no original", [stem for stem in by_stem if stem not in wanted]),
        ("pictures have no size", [stem for stem in by_stem if stem in wanted and stem not in sizes]),
        ("originals have no picture", [stem for stem in wanted if stem not in by_stem]),
    )
    notes = [f"{label}: {len(names)} {what} ({_named(names)})" for what, names in unmatched if names]
    values = sorted((stem, size.value, size.per_pixel) for stem, size in sizes.items())
    return pictures, notes, hashlib.sha256(json.dumps([corpus.digest, values]).encode()).hexdigest()


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _check_stems(keys: Sequence[str], place: str) -> None:
    seen: dict[str, str] = {}
    for key in keys:
        other = seen.setdefault(stem_of(key), key)
        if other != key:
            raise DataError(
                f"{place}: got {other} and {key}, expected one file of each name. Remove one", reason="twice"
            )


def _sizes_of_csv(data: bytes, place: str) -> dict[str, FileSize]:
    table = parse_csv(data, place)
    unit = next((name for name in ("size", "bpp") if name in table.headings), None)
    if "name" not in table.headings or unit is None:
        raise DataError(
            f"{place}: got the headings {table.headings}, expected name and size (bytes) or bpp. Add headings",
            reason="bad-csv",
        )
    sizes: dict[str, FileSize] = {}
    for number, row in table.rows:
        name = table.cell(row, "name")
        try:
            value = float(table.cell(row, unit))
        except ValueError:
            value = math.nan
        if not name or not 0 < value < math.inf or stem_of(name) in sizes:
            raise DataError(
                f"{place}: line {number}: got {','.join(row)[:100]!r}, expected a new name and a {unit} above 0. "
                "Correct the line",
                reason="bad-csv",
            )
        sizes[stem_of(name)] = FileSize(value, per_pixel=unit == "bpp")
    return sizes
