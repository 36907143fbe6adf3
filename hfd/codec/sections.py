"""Optional sections of a ``.hfd`` file: alpha, ICC profile, EXIF and XMP. No torch.

``docs/format.md`` specifies every byte. Sizes are checked before memory is allocated.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from hfd.codec.container import ALPHA, EXIF, GREY, ICC, SAMPLING, SECTION_NAMES, XMP, Container, check_size
from hfd.codec.sampling_options import UNSTATED, SamplingOptions, decode_sampling, encode_sampling
from hfd.codec.xmp import MAX_RIGHTS_BYTES
from hfd.errors import BitstreamError, DataError

AlphaArray = npt.NDArray[np.uint8]

MAX_METADATA_BYTES = 2**22
"""Largest ICC profile or EXIF block, unpacked: the largest printer profiles have 3 MB."""

_STORED, _DEFLATED = 0, 1
_PNG, _WEBP = 0, 1
_MAX_WEBP_SIDE_PX = 16_383
_PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_WEBP_HEAD_BYTES = 25
_ORIENTATION, _TIFF_SHORT = 0x0112, 3
DAMAGED = "The file is damaged; fetch it again"


@dataclass(frozen=True)
class Extras:
    """Contents of a file other than the colours.

    ``alpha``: uint8 (H, W), None: opaque; ``icc``: the profile of the coded RGB values, None: sRGB; ``exif``: a TIFF
    stream, with or without a leading ``Exif\\0\\0``, written as :func:`upright_exif` returns it;
    ``is_grey``: the channels are equal; ``xmp``: rights, as :func:`hfd.codec.xmp.rights_of` returns them.
    """

    alpha: AlphaArray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    is_grey: bool = False
    xmp: bytes | None = None

    def to_sections(self) -> dict[int, bytes]:
        """Encode as the sections of a container, without those that are None or the default.

        Raises :class:`DataError` on metadata above their limit (:func:`limit_of`).
        """
        sections = {} if self.alpha is None else {ALPHA: encode_alpha(self.alpha)}
        exif = None if self.exif is None else upright_exif(self.exif)
        for tag, data in ((ICC, self.icc), (EXIF, exif), (XMP, self.xmp)):
            if data is not None:
                sections[tag] = encode_metadata(data, name=SECTION_NAMES[tag])
        if (section := encode_sampling(self.sampling)) != UNSTATED:
            sections[SAMPLING] = section
        if self.is_grey:
            sections[GREY] = b""
        return sections


def read_extras(container: Container, *, max_pixels: int) -> Extras:
    """Decode the optional sections.

    Raises :class:`BitstreamError` on a section that is damaged, :class:`DataError` on alpha above ``max_pixels``.
    """
    sections = container.sections
    icc, exif, xmp = (metadata_of(container, tag) for tag in (ICC, EXIF, XMP))
    sampling = decode_sampling(sections[SAMPLING]) if SAMPLING in sections else SamplingOptions()
    is_grey = holds_grey(container)
    if ALPHA not in sections:
        return Extras(None, icc, exif, sampling, is_grey, xmp)
    check_size(container.width, container.height, max_pixels)
    alpha = decode_alpha(sections[ALPHA], container.width, container.height)
    return Extras(alpha, icc, exif, sampling, is_grey, xmp)


def holds_grey(container: Container) -> bool:
    """Return True for the file of a grey picture. Raises :class:`BitstreamError` on a damaged section."""
    held = container.sections.get(GREY, b"")
    if held:
        raise BitstreamError(f"grey: got {len(held)} bytes, expected none. {DAMAGED}")
    return GREY in container.sections


# --- metadata ------------------------------------------------------------------------------------


def metadata_of(container: Container, tag: int) -> bytes | None:
    """The data of the section ``ICC``, ``EXIF`` or ``XMP``; None without it. Raises as `decode_metadata`."""
    section = container.sections.get(tag)
    return None if section is None else decode_metadata(section, name=SECTION_NAMES[tag])


def limit_of(name: str) -> int:
    """The most bytes that the data of a section may take, unpacked."""
    return MAX_RIGHTS_BYTES if name == SECTION_NAMES[XMP] else MAX_METADATA_BYTES


def encode_metadata(data: bytes, *, name: str) -> bytes:
    """Encode as a byte, 0 or 1, and the data, plain or as a zlib stream (RFC 1950), whichever is shorter."""
    if len(data) > limit_of(name):
        raise DataError(f"{name}: got {len(data)} bytes, expected at most {limit_of(name)}. Leave it out")
    deflated = zlib.compress(data, 9)
    return bytes([_DEFLATED]) + deflated if len(deflated) < len(data) else bytes([_STORED]) + data


def decode_metadata(section: bytes, *, name: str) -> bytes:
    """Decode the data of a section, in bounded memory. Raises :class:`BitstreamError`."""
    coding, packed, limit = section[:1], section[1:], limit_of(name)
    if coding == bytes([_STORED]):
        data = packed
    elif coding == bytes([_DEFLATED]):
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(packed, limit + 1)
        except zlib.error as error:
            raise BitstreamError(f"{name}: got no zlib stream ({error}). {DAMAGED}") from error
        whole = inflater.eof and not inflater.unused_data
        if not whole and len(data) <= limit:
            raise BitstreamError(f"{name}: got a zlib stream of another length than the section. {DAMAGED}")
    else:
        raise _unknown(name, coding)
    if len(data) > limit:
        raise BitstreamError(f"{name}: got more than {limit} bytes, expected at most that. {DAMAGED}")
    return data


def upright_exif(exif: bytes) -> bytes:
    """Return EXIF for a picture that was rotated upright: orientation, if any, 1, and no leading ``Exif\\0\\0``.

    All other bytes stay the same; EXIF that cannot be parsed is returned unchanged.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return tiff
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    if first > len(tiff) - 2:
        return tiff
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    for entry in range(first + 2, min(first + 2 + 12 * count, len(tiff) - 11), 12):
        if struct.unpack_from(f"{order}HHI", tiff, entry) == (_ORIENTATION, _TIFF_SHORT, 1):
            return tiff[: entry + 8] + struct.pack(f"{order}H", 1) + tiff[entry + 10 :]
    return tiff


# --- alpha ---------------------------------------------------------------------------------------


def encode_alpha(alpha: AlphaArray) -> bytes:
    """Encode uint8 (H, W), 255 opaque, as a byte, 0 or 1, and a PNG or lossless WebP, whichever is shorter."""
    assert alpha.dtype == np.uint8 and alpha.ndim == 2 and alpha.size
    plane = Image.fromarray(alpha)
    candidates = [bytes([_PNG]) + _saved(plane, "PNG", optimize=True)]
    if max(plane.size) <= _MAX_WEBP_SIDE_PX:
        candidates.append(bytes([_WEBP]) + _saved(plane.convert("RGB"), "WEBP", lossless=True, quality=75))
    return min(candidates, key=len)


def decode_alpha(section: bytes, width: int, height: int) -> AlphaArray:
    """Decode to uint8 (height, width), in memory for a plane of that size. Raises :class:`BitstreamError`."""
    coding, data = section[:1], section[1:]
    if coding not in (bytes([_PNG]), bytes([_WEBP])):
        raise _unknown("alpha", coding)
    is_png = coding[0] == _PNG
    kind, mode = ("PNG", "L") if is_png else ("WebP", "RGB")
    # Check before Pillow opens it, which allocates memory for the canvas.
    size = _png_size(data) if is_png else _webp_size(data)
    if size != (width, height):
        got = "no such picture" if size is None else f"{size[0]} x {size[1]}"
        raise BitstreamError(f"alpha: got {got}, expected a {kind} of {width} x {height}. {DAMAGED}")
    try:
        # Not Image.open: its pixel limit is for pictures of unknown size.
        with PngImageFile(io.BytesIO(data)) if is_png else WebPImageFile(io.BytesIO(data)) as image:
            plane = np.array(image.getchannel("L" if is_png else "G"))
            fits = image.mode == mode and plane.shape == (height, width)
    # Pillow's plugins raise errors of many types on damaged pictures.
    except Exception as error:
        why = " ".join(str(error).split())[:80]
        raise BitstreamError(f"alpha: got a damaged {kind} ({why}). {DAMAGED}") from error
    if not fits:
        raise BitstreamError(f"alpha: got mode {image.mode}, expected {mode} of {width} x {height}. {DAMAGED}")
    return plane


def _saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _png_size(data: bytes) -> tuple[int, int] | None:
    # 8 bits, greyscale: the only kind written
    if not data.startswith(_PNG_HEAD) or data[24:26] != b"\x08\x00":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < _WEBP_HEAD_BYTES or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or data[20] != 0x2F:
        return None
    bits = int.from_bytes(data[21:25], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _unknown(name: str, coding: bytes) -> BitstreamError:
    got = f"id {coding[0]}" if coding else "nothing"
    return BitstreamError(f"{name}: got {got}, which this version does not know. Use a newer hfd")
