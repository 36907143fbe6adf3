"""One photograph's bytes in; what it is, whether it is of use, and its source crops out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hfd.data.crops import CropSettings, SourceCrop, content_hash, cut_crops, reduced_source
from hfd.data.duplicates import perceptual_hash
from hfd.data.filters import NOTHING, FilterSettings, Looks, check_encoding, check_looks, jpeg_quality, look_at
from hfd.errors import DataError
from hfd.image.load import load_picture

_FORMATS = (
    (0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (8, b"WEBP", "WebP"), (4, b"ftypavi", "AVIF"),
    (0, b"GIF8", "GIF"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"BM", "BMP"),
    (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"), (0, b"qoif", "QOI"), (0, b"8BPS", "PSD"),
)  # fmt: skip


@dataclass(frozen=True)
class Examined:
    """What was found before the first thing that speaks against a photograph, which is ``error``; None: it is of use.

    ``width``, ``height``: of the decoded picture, upright, in px; None where it was not decoded.
    """

    content: str
    format: str
    jpeg_quality: int | None = None
    width: int | None = None
    height: int | None = None
    looks: Looks = NOTHING
    hash: int | None = None
    crops: tuple[SourceCrop, ...] = ()
    error: DataError | None = None


def examine(data: bytes, photo: str, crops: CropSettings, filters: FilterSettings, *, hashed: bool) -> Examined:
    """Judge and cut one photograph, the cheapest judgement first.

    Args:
        photo: its key, used in messages.
        hashed: whether its perceptual hash is wanted.

    Raises nothing for the photograph's own faults: the `DataError` is in the result, its ``reason`` one of
    `hfd.data.crops.source_crops`, `hfd.data.filters.check_encoding` or `hfd.data.filters.check_looks`.
    """
    found = Examined(content_hash(data), format_of(data), jpeg_quality(data))
    try:
        check_encoding(photo, found.jpeg_quality, filters)
        picture = load_picture(data, name=photo, max_pixels=crops.max_pixels)
        found = replace(found, width=picture.width, height=picture.height)
        picture = reduced_source(picture, data, crops)
        found = replace(found, looks=look_at(picture, filters))
        check_looks(photo, picture.size, found.looks, filters)
        found = replace(found, crops=tuple(cut_crops(picture, photo, found.content, crops)))
    except DataError as error:
        return replace(found, error=error)
    return replace(found, hash=perceptual_hash(picture)) if hashed else found


def format_of(data: bytes) -> str:
    """The name of a picture's format by its first bytes; ``other`` for rare ones."""
    return next((name for at, magic, name in _FORMATS if data[at : at + len(magic)] == magic), "other")
