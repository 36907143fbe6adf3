"""Decoded pictures as PNG, WebP or JPEG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

from PIL.PngImagePlugin import PngInfo

from hfd.codec.picture.content import Picture, over_white
from hfd.codec.picture.png import XMP_KEYWORD, png_chunks
from hfd.errors import DataError

_OPTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True, "quality": 25, "method": 2, "exact": True}),
    "jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}

WHOLE_PIXELS = 2**24
"""Up to this size Pillow writes the file: faster, in twice the memory."""

_JPEG_MAX_SIDE_PX = 65_500
"""libjpeg's limit, checked first because libjpeg prints its own message for a larger side."""

FORMATS = tuple(_OPTIONS)
"""Suffixes of output formats, without the dot: PNG and WebP are lossless, JPEG has quality 95."""


def format_of(name: str) -> str:
    """Return the format for a file's name. Raises :class:`DataError`."""
    suffix = name.rpartition("/")[2].rpartition(".")
    found = suffix[2].lower() if suffix[1] else ""
    if found not in FORMATS:
        expected = ", ".join(f".{one}" for one in FORMATS)
        raise DataError(f"{name}: got {f'.{found}' if found else 'no suffix'}, expected one of {expected}")
    return found


def encode_picture(picture: Picture, file_format: str) -> Iterable[bytes]:
    """Encode a picture with its profile, EXIF and XMP, in pieces; over white if the format has no transparency.

    A large PNG is written lazily by strips. Raises :class:`DataError` if the format cannot hold the picture.
    """
    if file_format == "png" and picture.width * picture.height > WHOLE_PIXELS:
        return png_chunks(picture)
    pillow_format, options = _OPTIONS[file_format]
    if pillow_format == "JPEG" and max(picture.width, picture.height) > _JPEG_MAX_SIDE_PX:
        raise DataError(
            f"{file_format}: got {picture.width} x {picture.height} px, "
            f"expected at most {_JPEG_MAX_SIDE_PX} px a side. Write a .png",
            reason="format",
        )
    image, buffer = picture.to_image(), io.BytesIO()
    if image.mode in ("LA", "RGBA") and pillow_format == "JPEG":
        seen = over_white(image.convert("RGB"), image.getchannel("A"))
        seen.info = image.info
        image = seen
    kept: dict[str, Any] = {key: image.info[key] for key in ("icc_profile", "exif", "xmp") if key in image.info}
    if pillow_format == "PNG" and "xmp" in kept:
        texts = PngInfo()
        texts.add_itxt(XMP_KEYWORD, kept.pop("xmp").decode())
        kept["pnginfo"] = texts
    try:
        image.save(buffer, pillow_format, **options, **kept)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{file_format}: cannot hold this picture ({why}). Write a .png", reason="format") from error
    return [buffer.getvalue()]
