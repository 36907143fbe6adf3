"""Examine one photograph: measure it, check it against the filters, and cut its source crops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hfd.data.crops import (
    Crop,
    CropSettings,
    Split,
    content_hash,
    cut_crops,
    cut_source,
    load_source,
    reduce_source,
    size_after,
    split_of,
)
from hfd.data.duplicates import perceptual_hash
from hfd.data.filters import FilterSettings, Measures, check_encoding, check_measures, jpeg_quality, measure
from hfd.data.near_features import thumbnail
from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.image.notes import Note, collected_notes

_FORMATS = (
    (0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (8, b"WEBP", "WebP"), (4, b"ftypavi", "AVIF"),
    (0, b"GIF8", "GIF"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"BM", "BMP"),
    (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"), (0, b"qoif", "QOI"), (0, b"8BPS", "PSD"),
)  # fmt: skip


@dataclass(frozen=True)
class Examined:
    """The result of examining a photograph, up to its first fault, ``error``; None: it is usable.

    ``width``, ``height``: of the decoded picture, upright, in px; None if it was not decoded. ``split``: of its crops.
    ``notes``: on its file. ``thumbnail``: the whole picture for the network of features.
    """

    content: str
    format: str
    jpeg_quality: int | None = None
    width: int | None = None
    height: int | None = None
    measures: Measures = field(default_factory=Measures)
    hash: int | None = None
    thumbnail: RgbArray | None = None
    split: Split = "train"
    crops: tuple[Crop, ...] = ()
    error: DataError | None = None
    notes: tuple[Note, ...] = ()


def examine(
    data: bytes, photo: str, crops: CropSettings, filters: FilterSettings, *, hashed: bool, embedded: bool = False
) -> Examined:
    """Examine and cut one photograph, the cheapest check first.

    ``hashed``: compute its perceptual hash. ``embedded``: make its thumbnail.

    Raises nothing for the photograph's own faults: ``Examined.error`` holds the `DataError`, with the reasons of
    `load_picture`, `check_encoding`, `check_measures` and `cut_crops`. ``photo``, its key, is used in messages.
    """
    content, quality = content_hash(data), jpeg_quality(data)
    found: dict[str, Any] = {"format": format_of(data), "jpeg_quality": quality}  # replacing a record takes 50 us
    try:
        check_encoding(photo, quality, filters)
        with collected_notes() as notes:
            source = load_source(data, photo, crops)
        found |= {"width": source.size[0], "height": source.size[1], "notes": tuple(notes)}
        # The whole picture is scaled only if more than its crops is looked at.
        is_whole = hashed or embedded or filters.measures_pixels
        picture = reduce_source(source, data, crops) if is_whole else None
        found["measures"] = measured = Measures() if picture is None else measure(picture, filters)
        check_measures(photo, size_after(source, data, crops), measured, filters)
        found["split"] = split_of(content, seed=crops.seed, validation_share=crops.validation_share)
        cut = (
            cut_source(source, data, photo, content, crops)
            if picture is None
            else cut_crops(picture, photo, content, crops)
        )
        found["crops"] = tuple(cut)
    except DataError as error:
        return Examined(content, error=error, **found)
    return Examined(
        content,
        hash=perceptual_hash(picture) if hashed and picture else None,
        thumbnail=thumbnail(picture) if embedded and picture else None,
        **found,
    )


def format_of(data: bytes) -> str:
    """Name a picture's format by its first bytes; ``other`` for rare ones."""
    return next((name for at, magic, name in _FORMATS if data[at : at + len(magic)] == magic), "other")
