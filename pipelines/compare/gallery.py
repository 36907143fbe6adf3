"""The pictures of a comparison, from the pictures that the evaluations keep for their own reports."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from hfd.image.load import RgbArray, load_rgb
from hfd.io.storage import Folder
from hfd.report.compare.content import ComparedRow
from hfd.report.page import ShownExample, ShownVersion, thumbnail
from hfd.report.tables import format_number
from hfd.report.template import webp_uri
from pipelines.compare.finished import Finished
from pipelines.compare.shared import Shared
from pipelines.evaluate.distances import ORIGINAL
from pipelines.evaluate.results import ExamplePictures

MAX_BYTES = 10_000_000
"""Of all pictures of a page, before base64: a page below 15 MB."""
NUM_SAMPLED = 6
MARGIN = 1.1


@dataclass(frozen=True)
class Form:
    """A form of the shown pictures: the middle of at most ``side_px``; ``quality`` of WebP, None: lossless."""

    side_px: int | None
    quality: int | None

    def encode(self, webp: bytes, name: str) -> bytes:
        """Return a stored picture, lossless WebP, in this form."""
        if self == AS_STORED:
            return webp
        buffer = io.BytesIO()
        Image.fromarray(self._middle(load_rgb(webp, name=name))).save(buffer, "WEBP", quality=self.quality, method=4)
        return buffer.getvalue()

    def _middle(self, x: RgbArray) -> RgbArray:
        assert self.side_px is not None
        top, left = (max(0, (side - self.side_px) // 2) for side in x.shape[:2])
        return x[top : top + self.side_px, left : left + self.side_px]

    @property
    def note(self) -> str:
        if self == AS_STORED:
            return "Pictures are shown as they were decoded, at most their middle 1024 px."
        return (
            f"Pictures are shown as WebP of quality {self.quality}, at most their middle {self.side_px} px, so that "
            "the page stays below 15 MB; with fewer pictures (--pictures) they are shown whole. All numbers are of the "
            "exact pictures."
        )


AS_STORED = Form(None, None)
FORMS = (
    AS_STORED, Form(1024, 95), Form(768, 95), Form(768, 90), Form(768, 85), Form(640, 90), Form(512, 92), Form(512, 85),
    Form(448, 80), Form(384, 75), Form(256, 75), Form(192, 60), Form(128, 50),
)  # fmt: skip
"""From the best down; the first that fits is used."""


@dataclass(frozen=True)
class StoredVersion:
    """A version of a picture in the folder of an evaluation."""

    label: str
    caption: str
    folder: Folder
    name: str

    def read(self) -> bytes:
        return self.folder.read(self.name)


@dataclass(frozen=True)
class Gallery:
    """``versions`` of each picture, the original first."""

    pictures: Mapping[str, Sequence[StoredVersion]]


def find_pictures(shared: Shared, rows: Sequence[ComparedRow], most: int) -> Gallery:
    """Choose up to ``most`` of the kept pictures: those that most evaluations keep, in their order."""
    by_curve = {(row.run, row.row.system, row.row.setting): row for row in rows}
    kept: dict[str, list[StoredVersion]] = {}
    counts: dict[str, int] = {}
    for run in shared.runs:
        for image, folder, curves in _stored(run) if most else ():
            if image not in shared.images:
                continue
            counts[image] = counts.get(image, 0) + 1
            versions = kept.setdefault(image, [])
            for number, (system, setting) in enumerate(curves):
                file = f"{number}.webp"
                row = by_curve.get((run.name, system, setting))
                if (system, setting) == ORIGINAL and not versions:
                    versions.append(StoredVersion("original", "uncompressed", folder, file))
                elif row is not None:
                    versions.append(StoredVersion(row.label, _caption(run, image, row), folder, file))
    usable = {image: versions for image, versions in kept.items() if len(versions) > 1}
    order = {image: place for place, image in enumerate(shared.images)}
    chosen = sorted(usable, key=lambda image: (-counts[image], order[image]))[:most]
    return Gallery({image: usable[image] for image in sorted(chosen, key=order.__getitem__)})


def _stored(run: Finished) -> list[tuple[str, Folder, Sequence[tuple[str, str]]]]:
    if run.folder is None or not run.folder.exists("pictures"):
        return []
    names = sorted({entry.key.partition("/")[0] for entry in (run.folder / "pictures").files()})
    homes = [run.folder / f"pictures/{name}" for name in names]
    return [(found.image, home, found.curves) for home in homes for found in [ExamplePictures.read(home)]]


def _caption(run: Finished, image: str, row: ComparedRow) -> str:
    values = run.values_of(image, row.row.system, row.row.setting)
    return f"{format_number(values['bpp'], 3)} bpp, {format_number(values['psnr'], 2)} dB"


def show(galleries: Sequence[Gallery]) -> tuple[list[list[ShownExample]], Form]:
    """Encode the pictures of all groups in the best form in which they fit a page."""
    stored = [version for gallery in galleries for versions in gallery.pictures.values() for version in versions]
    # One place further each time: else all could be originals, which are the largest.
    sampled = [
        stored[(len(stored) * part // NUM_SAMPLED + part) % len(stored)] for part in range(NUM_SAMPLED * bool(stored))
    ]
    for form in FORMS:
        guess = sum(len(form.encode(version.read(), version.name)) for version in sampled) * len(stored) / NUM_SAMPLED
        if form == FORMS[-1] or guess <= MARGIN * MAX_BYTES:
            data = [form.encode(version.read(), version.name) for version in stored]
            if form == FORMS[-1] or sum(map(len, data)) <= MAX_BYTES:
                return _examples(galleries, iter(data)), form
    raise AssertionError("the last form is always used")


def _examples(galleries: Sequence[Gallery], data: Iterator[bytes]) -> list[list[ShownExample]]:
    return [[_example(image, versions, data) for image, versions in one.pictures.items()] for one in galleries]


def _example(image: str, versions: Sequence[StoredVersion], data: Iterator[bytes]) -> ShownExample:
    encoded = [next(data) for _ in versions]
    original = load_rgb(encoded[0], name=image)
    height, width = original.shape[:2]
    shown = [
        ShownVersion(version.label, version.caption, webp_uri(one))
        for version, one in zip(versions, encoded, strict=True)
    ]
    return ShownExample(image, width, height, thumbnail(original), shown)
