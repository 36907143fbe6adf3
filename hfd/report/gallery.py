"""The pictures of a page: a choice of those that evaluations keep, in the best form in which they fit."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from hfd.image.load import RgbArray, load_rgb
from hfd.io.storage import Folder
from hfd.report.content import Extremes, ShownExample, ShownVersion
from hfd.report.template import webp_uri

MAX_BYTES = 10_000_000
"""Of all pictures of a page, before base64: a page below 15 MB."""
GALLERY_SHARE = 0.6
"""Share of the gallery where pictures of the lists are shown beside it."""
THUMBNAIL_PX = 128
MANY, THUMBNAIL_BYTES = 24, 4096
"""Thumbnails of more pictures count as so many bytes each."""
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
    def text(self) -> str:
        if self == AS_STORED:
            return "as they were decoded, at most their middle 1024 px"
        return f"as WebP of quality {self.quality}, at most their middle {self.side_px} px"


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
    """Pictures to show, each with its versions, the original first.

    ``pictures``: of the gallery; ``listed``: other ones, of the lists of the worst and best; both with the most wanted
    first. ``order``: of the pictures of the set; ``rule``: how they were chosen, as the page states it. ``num_kept``:
    pictures that the evaluations keep; ``num_lost``: those of the lists that none of them keeps.
    """

    pictures: Mapping[str, Sequence[StoredVersion]]
    listed: Mapping[str, Sequence[StoredVersion]]
    order: Sequence[str]
    rule: str
    num_kept: int
    num_lost: int


@dataclass(frozen=True)
class Kept:
    """The kept pictures with their versions; ``counts``: evaluations that keep each one."""

    versions: Mapping[str, Sequence[StoredVersion]]
    counts: Mapping[str, int]


def choose_pictures(kept: Kept, order: Sequence[str], extremes: Sequence[Extremes], most: int, rule: str) -> Gallery:
    """Choose up to ``most`` of the kept pictures for the gallery, and the other kept ones of the lists.

    First those that most evaluations keep, of these the worst and best of each list, place by place, then the others
    in the ``order`` of the set. With ``most`` 0 there are none.
    """
    versions = kept.versions if most else {}
    places = _places(extremes)
    number = {image: place for place, image in enumerate(order)}
    nowhere = len(order)
    wanted = sorted(versions, key=lambda image: (-kept.counts[image], places.get(image, nowhere), number[image]))
    listed = sorted((image for image in wanted[most:] if image in places), key=lambda image: places[image])
    lost = sum(image not in versions for image in places) if most else 0
    return Gallery(
        {image: versions[image] for image in wanted[:most]},
        {image: versions[image] for image in listed},
        order,
        rule,
        len(versions),
        lost,
    )


def _places(extremes: Sequence[Extremes]) -> dict[str, int]:
    """Return the best place of each picture in the lists, from 0."""
    found: dict[str, int] = {}
    for one in extremes:
        for side in (one.worst, one.best):
            for place, (image, _) in enumerate(side):
                found[image] = min(place, found.get(image, place))
    return found


@dataclass(frozen=True)
class Shown:
    """The pictures of one group, and the sentences about them."""

    examples: Sequence[ShownExample]
    note: str


def show(galleries: Sequence[Gallery]) -> list[Shown]:
    """Encode the pictures of all groups in the best forms in which they fit a page, the galleries before the lists.

    What does not fit in the smallest form is left out, the least wanted first.
    """
    main, listed = [one.pictures for one in galleries], [one.listed for one in galleries]
    number = sum(map(len, [*main, *listed]))
    budget = max(0, MAX_BYTES - THUMBNAIL_BYTES * max(0, number - MANY))
    large = _fit(main, round(budget * GALLERY_SHARE) if any(listed) else budget)
    small = _fit(listed, budget - large.num_bytes, FORMS[FORMS.index(large.form) :])
    return [
        Shown(_in_order(one, large.data[index], small.data[index]), _note(one, large, small, index))
        for index, one in enumerate(galleries)
    ]


@dataclass(frozen=True)
class _Fitted:
    """Pictures of each group in one form: image -> its versions' bytes."""

    form: Form
    data: list[dict[str, list[bytes]]]
    num_bytes: int


def _fit(
    groups: Sequence[Mapping[str, Sequence[StoredVersion]]], budget: int, forms: Sequence[Form] = FORMS
) -> _Fitted:
    """Encode pictures in the first of the forms in which they fit; the least wanted that do not fit are left out."""
    stored = [version for group in groups for versions in group.values() for version in versions]
    # One place further each time: else all could be originals, which are the largest.
    sampled = [
        stored[(len(stored) * part // NUM_SAMPLED + part) % len(stored)] for part in range(NUM_SAMPLED * bool(stored))
    ]
    for form in forms:
        guess = sum(len(form.encode(version.read(), version.name)) for version in sampled) * len(stored) / NUM_SAMPLED
        if form == forms[-1] or guess <= MARGIN * budget:
            data = [
                {image: [form.encode(one.read(), one.name) for one in versions] for image, versions in group.items()}
                for group in groups
            ]
            if form == forms[-1] or _size(data) <= budget:
                break
    while (total := _size(data)) > budget:
        max(data, key=len).popitem()
    return _Fitted(form, data, total)


def _size(data: Sequence[Mapping[str, Sequence[bytes]]]) -> int:
    return sum(len(one) for group in data for versions in group.values() for one in versions)


def _in_order(gallery: Gallery, *found: Mapping[str, Sequence[bytes]]) -> list[ShownExample]:
    """Return the pictures in the order of the set, those of the gallery before those of the lists alone."""
    versions = {**gallery.pictures, **gallery.listed}
    ordered = [(image, data[image]) for data in found for image in gallery.order if image in data]
    return [_example(image, versions[image], iter(data)) for image, data in ordered]


def _note(gallery: Gallery, large: _Fitted, small: _Fitted, index: int) -> str:
    """Return how many pictures are shown, by which rule, and in which form."""
    main, listed = len(large.data[index]), len(small.data[index])
    if not gallery.num_kept:
        return ""
    parts = [f"The gallery shows {main} of {gallery.num_kept} kept pictures, {large.form.text}"]
    if main < gallery.num_kept:
        parts[0] += f": {gallery.rule}"
    if listed:
        parts.append(f"{listed} more, of the lists of the worst and best, are shown {small.form.text}")
    if left := len(gallery.pictures) + len(gallery.listed) - main - listed:
        parts.append(f"{left} more did not fit")
    if gallery.num_lost:
        parts.append(f"{gallery.num_lost} pictures of these lists were kept by no evaluation (evaluate.num_examples)")
    if large.form != AS_STORED:
        parts.append("The page stays below 15 MB; with fewer pictures they are shown whole")
    return ". ".join([*parts, "All numbers are of the exact pictures."])


def _example(image: str, versions: Sequence[StoredVersion], data: Iterator[bytes]) -> ShownExample:
    encoded = [next(data) for _ in versions]
    original = load_rgb(encoded[0], name=image)
    height, width = original.shape[:2]
    shown = [
        ShownVersion(version.label, version.caption, webp_uri(one))
        for version, one in zip(versions, encoded, strict=True)
    ]
    return ShownExample(image, width, height, thumbnail(original), shown)


def thumbnail(x: RgbArray) -> str:
    """Return a small version of a picture, uint8 (H, W, 3), as a data URI."""
    picture = Image.fromarray(x)
    picture.thumbnail((4 * THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return webp_uri(buffer.getvalue())
