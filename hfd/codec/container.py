"""The ``.hfd`` container, version 2. Pure bytes: no torch, no numpy. ``docs/format.md`` is its specification.

Layout (integers are little-endian; ``varint`` is unsigned LEB128: 7 bits a byte, least significant first, the
shortest form only):

====================  ==========================================================
``89 48 46 44``       magic: 0x89 and ``HFD``
``02``                version
1 byte                layout: bits 0-1 and 2-3, bytes of width and height less 1; bit 4, optional sections
                      follow the checksum; bits 5-7, colour (0: three channels, the only one)
4 bytes               model: the first 4 bytes of the autoencoder's fingerprint
1 byte                rate: the quantiser's id
1 to 3 bytes each     width - 1 and height - 1 in pixels, the shortest form only
4 bytes               checksum: CRC32 of the decoded symbols
sections              if bit 4 is set, at least one: tag (1 byte, 1 to 255, ascending), length (varint),
                      bytes; after the last, the byte ``00``
the rest              the entropy-coded latents, up to the last 4 bytes
4 bytes               CRC32 of everything before it
====================  ==========================================================

A picture without sections takes at most 23 bytes beside the latents up to 65,536 pixels a side, and at most 25 above.
A reader rejects a file with an unknown tag below 128, and may skip unknown tags from 128 on. Numbers are never
reused for another meaning.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from hfd.errors import BitstreamError, DataError

MAGIC = b"\x89HFD"
VERSION = 2
MODEL_BYTES = 4
MAX_SIDE_PX = 2**24
DEFAULT_RATE = 128
"""The rate id of quantiser step 1, at which the networks are trained."""

MAX_CODEC_PIXELS = 64_000_000
"""Larger pictures are refused before memory is allocated, since a forged header may claim any size."""

LATENTS, ALPHA, ICC, EXIF, SAMPLING, GREY, XMP = 0, 128, 129, 130, 131, 132, 133
"""Keys of a container's sections, and their tags in a file. ``LATENTS`` is required, and is the last in a file."""
SECTION_NAMES: Mapping[int, str] = {
    LATENTS: "latents",
    ALPHA: "alpha",
    ICC: "icc",
    EXIF: "exif",
    SAMPLING: "sampling",
    GREY: "grey",
    XMP: "xmp",
}

_OPTIONAL_FROM = 128
_SHORTEST_BYTES = 21
HEADER_BYTES = 32
"""Bytes that hold the sides."""
_HAS_SECTIONS = 1 << 4
_COLOUR_SHIFT = 5


@dataclass(frozen=True)
class Container:
    """The contents of a file.

    ``model``: 4 bytes; ``rate``: 0 to 255; ``checksum``: CRC32 of symbols; ``sections``: tag -> bytes, with the latents
    under ``LATENTS``; ``crc32``: the CRC32 that ends the file, 0 before it is written.
    """

    width: int
    height: int
    model: bytes
    rate: int
    checksum: int
    sections: Mapping[int, bytes] = field(default_factory=dict)
    crc32: int = field(default=0, compare=False)


def pack(container: Container) -> bytes:
    """Serialise a container to the bytes of a file."""
    assert len(container.model) == MODEL_BYTES
    assert 0 <= container.rate <= 255
    assert LATENTS in container.sections
    width, height = _side(container.width), _side(container.height)
    optional = sorted((tag, section) for tag, section in container.sections.items() if tag != LATENTS)
    layout = len(width) - 1 | len(height) - 1 << 2 | _HAS_SECTIONS * bool(optional)
    parts = [MAGIC, bytes([VERSION, layout]), container.model, bytes([container.rate]), width, height]
    parts.append(container.checksum.to_bytes(4, "little"))
    for tag, section in optional:
        assert 1 <= tag <= 255
        parts += [bytes([tag]), _varint(len(section)), section]
    parts += [bytes([LATENTS])] * bool(optional) + [container.sections[LATENTS]]
    body = b"".join(parts)
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(data: bytes) -> Container:
    """Parse a file. Raises :class:`BitstreamError` on bytes that :func:`pack` does not write."""
    if not data:
        raise BitstreamError("file: got no bytes, expected an .hfd file. Fetch it again")
    if data[:4] != MAGIC:
        raise BitstreamError(f"magic: got {data[:4].hex(' ')}, expected {MAGIC.hex(' ')}. This is not an .hfd file")
    if len(data) > 4 and data[4] != VERSION:
        release = "the hfd release that wrote it" if data[4] < VERSION else "a newer hfd"
        raise BitstreamError(f"version: got version {data[4]}, expected version {VERSION}. Use {release}")
    crc32 = int.from_bytes(data[-4:], "little")
    if len(data) < _SHORTEST_BYTES or zlib.crc32(memoryview(data)[:-4]) != crc32:
        raise BitstreamError("CRC32: does not match. The file is truncated or damaged; fetch it again")
    reader = _Reader(data, 5, len(data) - 4)
    layout = reader.take(1)[0]
    if layout >> _COLOUR_SHIFT:
        raise BitstreamError(f"colour: got id {layout >> _COLOUR_SHIFT}, expected 0. Use a newer hfd")
    model, rate = reader.take(MODEL_BYTES), reader.take(1)[0]
    width, height = reader.side("width", layout & 3), reader.side("height", layout >> 2 & 3)
    checksum = int.from_bytes(reader.take(4), "little")
    optional = _read_optional(reader) if layout & _HAS_SECTIONS else {}
    latents = reader.take(reader.end - reader.position)
    return Container(width, height, model, rate, checksum, {LATENTS: latents, **optional}, crc32)


def header_size(head: bytes) -> tuple[int, int]:
    """Return (width, height) by a file's first `HEADER_BYTES`, unchecked: for estimates alone.

    Raises :class:`BitstreamError` for bytes that begin no such file.
    """
    if head[:5] != MAGIC + bytes([VERSION]):
        raise BitstreamError(f"magic: got {head[:5].hex(' ')}, expected an .hfd file of version {VERSION}")
    reader = _Reader(head, 5, len(head))
    layout = reader.take(1)[0]
    reader.take(MODEL_BYTES + 1)
    return reader.side("width", layout & 3), reader.side("height", layout >> 2 & 3)


def seed_of_file(data: bytes) -> int:
    """Return a file's final CRC32, its default sampling seed, so that the same file gives the same picture."""
    return int.from_bytes(data[-4:], "little")


def check_size(width: int, height: int, max_pixels: int, *, stride: int = 1) -> None:
    """Raise :class:`DataError` if a picture, or the size that a header claims, is above ``max_pixels``.

    ``stride``: sides are rounded up to multiples of this, as memory is, so that a picture one pixel high counts fully.
    """
    if (width + -width % stride) * (height + -height % stride) > max_pixels:
        rounded = f", each side rounded up to a multiple of {stride}" if stride > 1 else ""
        raise DataError(
            f"size: got {width} x {height} pixels, expected at most {max_pixels} pixels{rounded}. "
            "Cut the picture, or allow more with max_pixels",
            reason="too-large",
        )


def _read_optional(reader: _Reader) -> dict[int, bytes]:
    sections: dict[int, bytes] = {}
    last = LATENTS
    while (tag := reader.take(1)[0]) != LATENTS:
        if tag <= last:
            raise BitstreamError(f"section: got tag {tag} after {last}, expected ascending tags. The file is damaged")
        if tag < _OPTIONAL_FROM:
            raise BitstreamError(f"section: got tag {tag}, expected {_OPTIONAL_FROM} to 255. Use a newer hfd")
        sections[tag] = reader.take(reader.varint())
        last = tag
    if not sections:
        raise BitstreamError("section: got none, expected one, as the layout byte says. The file is damaged")
    return sections


def _side(pixels: int) -> bytes:
    assert 1 <= pixels <= MAX_SIDE_PX
    return (pixels - 1).to_bytes(max(1, ((pixels - 1).bit_length() + 7) // 8), "little")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes, position: int, end: int) -> None:
        self._data, self.position, self.end = data, position, end

    def take(self, count: int) -> bytes:
        if count > self.end - self.position:
            raise BitstreamError(
                f"file: got {self.end - self.position} bytes where {count} were expected. "
                "The file is damaged; fetch it again"
            )
        self.position += count
        return self._data[self.position - count : self.position]

    def side(self, name: str, extra: int) -> int:
        if extra == 3:
            raise BitstreamError(f"{name}: got 4 bytes, expected 1 to 3. The file is damaged")
        raw = self.take(extra + 1)
        if extra and raw[-1] == 0:
            raise BitstreamError(f"{name}: got a padded number, expected its shortest form. The file is damaged")
        return int.from_bytes(raw, "little") + 1

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise BitstreamError("varint: got a padded number, expected its shortest form. The file is damaged")
                return value
            shift += 7
            if shift > 56:
                raise BitstreamError("varint: got more than 8 bytes, expected at most 8. The file is damaged")
