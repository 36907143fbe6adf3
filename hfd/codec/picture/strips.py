"""Read large pictures by strips, on demand, so that they are never in memory as a whole.

Pillow can only decode whole pictures. It reads the header here; libvips decodes the strips to the same pixels, or
they are stored uncompressed in the file. Colours are converted as for every picture (:mod:`hfd.image.colour`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from hfd.codec.picture.content import Picture, kept_metadata, read_picture, split_picture
from hfd.codec.sections import AlphaArray, Extras
from hfd.errors import DataError
from hfd.image.colour import raw_mode_of
from hfd.image.containers import note_if_all_transparent
from hfd.image.failures import broken, cut_short
from hfd.image.load import (
    MAX_IMAGE_PIXELS,
    RgbArray,
    label_of,
    look_with,
    orientation_of_header,
)
from hfd.image.notes import Note, collected_notes
from hfd.image.tiff import page_options, picture_of

WHOLE_PIXELS = 2**24
"""Up to this size Pillow reads a picture as a whole, in eight bytes a pixel."""

STRIP_PIXELS = 2**20

_LOADERS = {"JPEG": ("jpegload", "truncated"), "PNG": ("pngload", "error"), "TIFF": ("tiffload", "error")}
"""By format: libvips's operation and ``fail_on`` level. Any bits decode as a JPEG, as in Pillow."""

_MODES = ("L", "LA", "RGB", "RGBA")
_TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")


@dataclass(frozen=True)
class _Header:
    """Header of a file that can be read by strips, from Pillow. ``kept``: metadata; ``offset``: position of
    uncompressed pixels; ``page``: libvips's options for the directory of a TIFF."""

    format: str
    mode: str
    size: tuple[int, int]
    icc: bytes | None
    kept: Extras
    offset: int | None = None
    page: Mapping[str, int] = field(default_factory=dict)


class StripPicture:
    """A picture, upright, whose rows are read on demand, best from top to bottom: going back reads the file again."""

    def __init__(
        self,
        open_strips: Callable[[], Iterator[RgbArray]],
        size: tuple[int, int],
        extras: Extras,
        notes: tuple[Note, ...] = (),
    ) -> None:
        self.width, self.height = size
        self.extras, self.notes = extras, notes
        self._open = open_strips
        self._strips: Iterator[RgbArray] = iter(())
        self._held: list[RgbArray] = []
        self._top = self._bottom = 0  # first row in memory

    def rows(self, first: int, last: int) -> RgbArray:
        """Rows ``first`` to ``last`` (exclusive), uint8 (last - first, W, 3).

        Raises :class:`DataError` if the file is damaged.
        """
        if first < self._top or self._bottom == 0:
            self._strips, self._held, self._top, self._bottom = self._open(), [], 0, 0
        while self._held and self._top + len(self._held[0]) <= first:
            self._top += len(self._held.pop(0))
        while self._bottom < last:
            strip = next(self._strips)
            self._bottom += len(strip)
            if self._bottom <= first:
                self._top = self._bottom
            else:
                self._held.append(strip)
        return np.concatenate(self._held)[first - self._top : last - self._top]


def open_picture(
    source: bytes | Path,
    *,
    name: str = "",
    keep_alpha: bool = True,
    keep_metadata: bool = False,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Picture | StripPicture:
    """As :func:`hfd.codec.picture.content.read_picture`, same pixels, but large pictures by strips if possible.

    Strips work for JPEG, PNG without interlacing, PPM and PGM, and TIFF (uncompressed, PackBits, LZW, deflate), if
    upright, of 8 bits a sample, grey or RGB. Memory holds the whole plane of opacity, if any, and not the colours.
    Damage after the header raises only when those rows are read.
    """
    is_pipe = isinstance(source, Path) and source.exists() and not source.is_file()  # a pipe can be read only once
    with collected_notes() as notes:
        look = partial(_header_of, keep_metadata=keep_metadata)
        header = None if is_pipe else look_with(look, source, name=name, max_pixels=max_pixels)
    if header is None:
        return read_picture(
            source, name=name, keep_alpha=keep_alpha, keep_metadata=keep_metadata, max_pixels=max_pixels
        )
    label = label_of(source, name)
    strips_of = _decoded if header.offset is None else _read

    def parts() -> Iterator[tuple[RgbArray, AlphaArray | None]]:
        for strip in strips_of(header, source, label):
            yield split_picture(strip, header.mode, keep_alpha=keep_alpha, keep_profile=keep_metadata)[:2]

    # The profile does not depend on the pixels.
    pixel = _image(header, (1, 1), bytes(len(header.mode)))
    with collected_notes() as more_notes:
        _, _, icc = split_picture(pixel, header.mode, keep_alpha=keep_alpha, keep_profile=keep_metadata)
        alpha = _alpha_of(header, parts()) if keep_alpha and "A" in header.mode else None
    extras = replace(header.kept, alpha=alpha, icc=icc)
    return StripPicture(lambda: (rgb for rgb, _ in parts()), header.size, extras, tuple(notes | more_notes))


def _alpha_of(header: _Header, parts: Iterator[tuple[RgbArray, AlphaArray | None]]) -> AlphaArray | None:
    """Read the whole opacity plane, which a file stores lossless. Reads the picture once."""
    alpha = np.empty(header.size[::-1], np.uint8)
    for (top, count), (_, plane) in zip(_spans(header), parts, strict=True):
        alpha[top : top + count] = plane
    note_if_all_transparent(int(alpha.max()) == 0)
    return None if int(alpha.min()) == 255 else alpha


def _header_of(image: Image.Image, stream: BinaryIO, *, keep_metadata: bool) -> _Header | None:
    """Return None if the picture is small, or its file cannot be read by strips."""
    if image.width * image.height <= WHOLE_PIXELS or image.format not in (*_LOADERS, "PPM"):
        return None
    is_plain = image.mode in _MODES and raw_mode_of(image) == image.mode and "transparency" not in image.info
    is_in_order = not image.info.get("interlace")
    if image.format == "TIFF":
        is_in_order = image.info.get("compression") in _TIFF_COMPRESSIONS
    offset = None
    if image.format == "PPM" and isinstance(image, ImageFile.ImageFile):
        is_in_order, offset = image.tile[0].codec_name == "raw", image.tile[0].offset
    if not is_plain or not is_in_order or orientation_of_header(image, stream) != 1:
        return None
    kept = kept_metadata(image) if keep_metadata else Extras()
    page = page_options(found) if image.format == "TIFF" and (found := picture_of(stream)) is not None else {}
    return _Header(image.format, image.mode, image.size, image.info.get("icc_profile"), kept, offset, page)


def _image(header: _Header, size: tuple[int, int], data: Any) -> Image.Image:
    image = Image.frombuffer(header.mode, size, data, "raw", header.mode, 0, 1)
    if header.icc is not None:
        image.info["icc_profile"] = header.icc
    return image


def _spans(header: _Header) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each strip."""
    rows = max(1, STRIP_PIXELS // header.size[0])
    for top in range(0, header.size[1], rows):
        yield top, min(rows, header.size[1] - top)


def _read(header: _Header, source: bytes | Path, label: str) -> Iterator[Image.Image]:
    assert header.offset is not None
    width = header.size[0]
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        stream.seek(header.offset)
        for _, count in _spans(header):
            data = stream.read(count * width * len(header.mode))
            if len(data) < count * width * len(header.mode):
                raise cut_short(label)
            yield _image(header, (width, count), data)


def _decoded(header: _Header, source: bytes | Path, label: str) -> Iterator[Image.Image]:
    import pyvips  # a native library, which few pictures need

    pyvips.cache_set_max(0)  # reading a file again must not return a partly read cached one
    width, height = header.size
    pyvips.vips_lib.vips_error_clear()  # remove warnings about other files
    loader, fail_on = _LOADERS[header.format]
    options = {"access": "sequential", "fail_on": fail_on, **header.page}
    try:
        if isinstance(source, bytes):
            picture = getattr(pyvips.Image, f"{loader}_buffer")(
                source, access="sequential", fail_on=fail_on, **header.page
            )
        else:
            picture = getattr(pyvips.Image, loader)(str(source), **options)
        found = (picture.width, picture.height, picture.bands, picture.format)
        expected = (width, height, len(header.mode), "uchar")
        if found != expected:
            raise DataError(f"{label}: got pixels {found}, expected {expected}. Replace the file", reason="broken")
        region = pyvips.Region.new(picture)
        for top, count in _spans(header):
            yield _image(header, (width, count), region.fetch(0, top, width, count))
    except pyvips.Error as error:
        raise (cut_short(label) if "premature end" in str(error) else broken(label, error)) from error
