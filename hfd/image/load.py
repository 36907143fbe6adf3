"""Read encoded pictures as sRGB pixels, and encode them. All pictures enter `hfd` here.

Imports only numpy and Pillow, in a fraction of a second, since every worker process imports it.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile

from hfd.errors import DataError
from hfd.image.colour import raw_mode_of, to_srgb
from hfd.image.containers import is_all_transparent, open_container, without_padding
from hfd.image.failures import ADVICE, check_size, codestream_ends, not_an_image, one_line, pillow_failures
from hfd.image.formats import HEIC_SUFFIXES, reads_heic
from hfd.image.pillow_warnings import pillow_warnings_off
from hfd.image.png_parts import PNG_SIGNATURE, read_png_parts, without_parts
from hfd.image.side_data import check_side_data
from hfd.image.stated import stated_profile

ImageSource: TypeAlias = bytes | Path | BinaryIO
RgbArray: TypeAlias = npt.NDArray[np.uint8]
T = TypeVar("T")

MAX_IMAGE_PIXELS = 2**27
"""134 million pixels, 400 MB decoded: more than any camera takes, except stitched panoramas."""

# fmt: off
IMAGE_SUFFIXES: frozenset[str] = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff", ".bmp",
    ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".j2c", ".tga", ".qoi",
    ".pcx", ".sgi", ".psd",
}) | (HEIC_SUFFIXES if reads_heic() else frozenset())
# fmt: on
"""Suffixes of pictures in a listing; compare with ``path.suffix.lower()``."""

# Pillow opens these, but they are drawings, containers or films; some would run another program.
# Files of our own plugin are excluded: compressing them again loses quality twice.
_NOT_PICTURES = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "HFD"})

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_picture(
    source: ImageSource,
    *,
    name: str = "",
    max_pixels: int = MAX_IMAGE_PIXELS,
    before: Callable[[Image.Image], None] = lambda _image: None,
) -> Image.Image:
    """Decode a picture to sRGB, upright, over white.

    EXIF (or XMP) orientation is applied. Colours that the file states (an ICC profile; cICP or gAMA with cHRM of a PNG,
    nclx of an AVIF) are converted to sRGB with perceptual intent. Pixels whose colours cannot be converted, or whose
    profile is damaged or of another colour space, are read as sRGB, with a note (:mod:`hfd.image.notes`). Transparency
    is composited over white. Only the first frame is read; of a TIFF, the first page or SubIFD that is neither a
    reduced version of another nor a mask. Integer greys of 16 bits map 65535 to 255
    (12-bit TIFF: 4095), rounded. Floating-point greys are read as [0, 1], or as [0, 255] when a value exceeds
    2, and clipped. Of 16-bit *colour* Pillow returns only the high byte.

    Args:
        source: encoded bytes, a path, or a binary stream, which is read from its beginning and left open.
        name: the picture's name in error messages; default: the path.
        max_pixels: width x height allowed, checked on the header before any pixel is decoded. Pillow's own
            limit, twice ``PIL.Image.MAX_IMAGE_PIXELS``, also applies.
        before: called with the opened picture, before it is decoded.

    Returns:
        Mode RGB, loaded, independent of the file.

    Raises:
        DataError: one line; ``reason`` is ``"not-an-image"``, ``"truncated"``, ``"too-large"``, ``"broken"``
            (any other failure to decode), ``"unread-format"`` (a format or layout that is not read),
            ``"transparent"`` (no pixel shows) or ``"unreadable"`` (the path or stream cannot be read at all).
    """

    def convert(image: Image.Image, raw_mode: str) -> Image.Image:
        if is_all_transparent(image):
            raise DataError(
                f"{label_of(source, name)}: got a picture that is transparent in every pixel, expected one that shows "
                f"something. {ADVICE}",
                reason="transparent",
            )
        return upright_srgb(image, raw_mode)

    return load_with(convert, source, name=name, max_pixels=max_pixels, before=before)


def load_with(
    convert: Callable[[Image.Image, str], T],
    source: ImageSource,
    *,
    name: str = "",
    max_pixels: int = MAX_IMAGE_PIXELS,
    before: Callable[[Image.Image], None] = lambda _image: None,
) -> T:
    """Apply ``convert`` to a picture that Pillow decoded, and to its raw mode (:func:`hfd.image.colour.raw_mode_of`).

    Arguments and errors are those of `load_picture`.
    """
    label = label_of(source, name)

    def decode(image: Image.Image, stream: BinaryIO) -> T:
        before(image)
        raw_mode = raw_mode_of(image)
        image.load()
        if image.format == "TGA":
            image = without_padding(image, stream)
        if image.format == "JPEG2000" and not codestream_ends(stream):
            raise EOFError("no end of codestream")
        # Icon containers state the true size of the picture inside only once it is decoded.
        check_size(image.size, label, max_pixels)
        return convert(image, raw_mode)

    return look_with(decode, source, name=name, max_pixels=max_pixels)


def allow_pixels(max_pixels: int) -> None:
    """Raise Pillow's own limit to ``max_pixels``, for the whole process; it is never lowered."""
    guard = Image.MAX_IMAGE_PIXELS
    if guard is not None:
        Image.MAX_IMAGE_PIXELS = max(guard, -(-max_pixels // 2))


def upright_srgb(image: Image.Image, raw_mode: str) -> Image.Image:
    """Convert a decoded picture to sRGB, upright, over white, mode RGB. See `load_picture`."""
    method = turn_of(image)
    rgb = to_srgb(image, raw_mode)
    return rgb if method is None else rgb.transpose(method)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that EXIF (or XMP) asks for. Call it before a conversion drops ``info``."""
    return _TRANSPOSE.get(_orientation(image.getexif))


def load_rgb(source: ImageSource, *, name: str = "", max_pixels: int = MAX_IMAGE_PIXELS) -> RgbArray:
    """`load_picture` as uint8 (H, W, 3), C-contiguous, writable, owning its memory. Raises the same."""
    return np.array(load_picture(source, name=name, max_pixels=max_pixels), dtype=np.uint8, order="C")


def look_with(
    look: Callable[[Image.Image, BinaryIO], T],
    source: ImageSource,
    *,
    name: str = "",
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> T:
    """Call ``look`` with an opened picture, not decoded, and its stream.

    Arguments and errors are those of `load_picture`.
    """
    label = label_of(source, name)
    with _stream(source, label) as stream, pillow_failures(label, stream), pillow_warnings_off:
        return look(_open_header(stream, label, max_pixels), stream)


def orientation_of_header(image: Image.Image, stream: BinaryIO) -> int | None:
    """Return the orientation tag, 1 to 8, of a picture that is not decoded; None if only decoding would tell it."""
    if image.format != "PNG":
        return _orientation(image.getexif)
    # PngImageFile.getexif would decode the whole picture to search for a missing tag.
    return None if _metadata_follows_pixels(stream) else _orientation(lambda: Image.Image.getexif(image))


def encode_webp_lossless(x: RgbArray) -> bytes:
    """Encode uint8 (H, W, 3) sRGB as lossless WebP: `load_rgb` returns exactly ``x``.

    Raises:
        ValueError: ``x`` has another shape or dtype, or a side above 16383 px, the format's limit.
    """
    buffer = io.BytesIO()
    _from_array(x).save(buffer, "WEBP", lossless=True, quality=25, method=2)
    return buffer.getvalue()


def _from_array(x: RgbArray) -> Image.Image:
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
        raise ValueError(f"x: got {x.dtype} {x.shape}, expected uint8 (H, W, 3)")
    return Image.fromarray(x)


def label_of(source: ImageSource, name: str) -> str:
    """Return the name of a picture in messages."""
    return name or (str(source) if isinstance(source, Path) else "image")


@contextmanager
def _stream(source: ImageSource, label: str) -> Iterator[BinaryIO]:
    """Yield a seekable stream over the source, at its beginning; close it only if it was opened here."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            stream = opened if opened.seekable() else io.BytesIO(opened.read())
            stream.seek(0)
        except OSError as error:
            got = error.strerror or one_line(error)
            message = f"{label}: got {got!r}, expected a readable file. {ADVICE}"
            raise DataError(message, reason="unreadable") from error
        yield stream


def _open_header(stream: BinaryIO, label: str, max_pixels: int) -> Image.Image:
    stream.seek(0)
    parts = read_png_parts(stream) if stream.read(8) == PNG_SIGNATURE else None
    stream.seek(0)
    image = open_container(stream, label, max_pixels) if parts is None else Image.open(without_parts(stream, parts))
    if image.format in _NOT_PICTURES:
        raise not_an_image(label, f"a file of format {image.format}")
    check_size(image.size, label, max_pixels)
    check_side_data(image)
    if (profile := stated_profile(image, stream, parts)) is not None:
        image.info["icc_profile"] = profile
    if image.format in ("JPEG", "MPO") and isinstance(image, ImageFile.ImageFile):
        # libjpeg cannot suspend the decoding of arithmetic-coded data between blocks: pass all of it at once.
        image.decodermaxblock = max(image.decodermaxblock, stream.seek(0, os.SEEK_END))
    return image


def _orientation(read_exif: Callable[[], Image.Exif]) -> int:
    """Return the orientation tag, 1 to 8; 1 if it is missing or the metadata are damaged."""
    try:
        value = read_exif().get(ExifTags.Base.Orientation, 1)
    # The parser raises errors of many types on damaged EXIF; the pixels are still valid.
    except Exception:
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSE else 1


def _metadata_follows_pixels(stream: BinaryIO) -> bool:
    """Return True for a PNG with chunks after its pixels that may hold an orientation."""
    stream.seek(len(PNG_SIGNATURE))
    seen_pixels = False
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if seen_pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            return True
        seen_pixels = seen_pixels or kind == b"IDAT"
        stream.seek(length + 4, os.SEEK_CUR)
    return False
