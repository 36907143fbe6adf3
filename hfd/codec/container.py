"""The ``.hfd`` container, version 1. Pure bytes: no torch, no numpy.

Layout, integers little-endian, ``varint`` as unsigned LEB128 (7 bits a byte, least significant first, the
shortest form only):

====================  ==========================================================
``89 48 46 44``       magic: 0x89 and ``HFD``
``01``                version
4 bytes               model: the first 4 bytes of the autoencoder's fingerprint
varint, varint        width and height in pixels, 1 to 2^24 - 1 each
4 bytes               checksum: CRC32 of the decoded symbols
varint, bytes         length of the entropy-coded latents, and they
sections              tag (1 byte), length (varint), bytes; each tag once, ascending; mostly none
4 bytes               CRC32 of everything before it
====================  ==========================================================

That is 23 bytes beside the latents of a picture of 768 x 512 up to 16 KiB, and one more beyond. A tag is 1 to
255, and none is defined yet: one below 128 makes a file unreadable for this version, one from 128 on may be
skipped. Numbers are never given a second meaning.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from hfd.errors import BitstreamError

MAGIC = b"\x89HFD"
VERSION = 1
MODEL_BYTES = 4
MAX_SIDE_PX = 2**24 - 1
LATENTS = 0
"""The key of the entropy-coded latents among a container's sections; in a file they come first, without a tag."""
_OPTIONAL_FROM = 128


@dataclass(frozen=True)
class Container:
    """What a file holds. ``model``: 4 bytes; ``checksum``: CRC32 of symbols; ``sections``: tag -> bytes, with
    the latents under ``LATENTS``."""

    width: int
    height: int
    model: bytes
    checksum: int
    sections: Mapping[int, bytes] = field(default_factory=dict)


def pack(container: Container) -> bytes:
    """The bytes of a file."""
    assert len(container.model) == MODEL_BYTES
    assert LATENTS in container.sections
    assert 1 <= container.width <= MAX_SIDE_PX and 1 <= container.height <= MAX_SIDE_PX
    parts = [MAGIC, bytes([VERSION]), container.model, _varint(container.width), _varint(container.height)]
    parts.append(container.checksum.to_bytes(4, "little"))
    for tag, section in sorted(container.sections.items()):
        assert 0 <= tag <= 255
        parts += [bytes([tag]) if tag != LATENTS else b"", _varint(len(section)), section]
    body = b"".join(parts)
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(data: bytes) -> Container:
    """Read a file. Raises :class:`BitstreamError` on anything that :func:`pack` does not write."""
    if data[:4] != MAGIC:
        raise BitstreamError(
            f"magic: got {data[:4].hex(' ') or 'nothing'}, expected {MAGIC.hex(' ')}. This is no .hfd file"
        )
    if len(data) > 4 and data[4] != VERSION:
        raise BitstreamError(f"version: got {data[4]}, expected {VERSION}. Use the hfd release that wrote it")
    reader = _Reader(data, 5)
    if len(data) < 10 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise BitstreamError("CRC32: does not match. The file is truncated or damaged; fetch it again")
    reader.end = len(data) - 4
    model = reader.take(MODEL_BYTES)
    width, height = reader.varint(), reader.varint()
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_SIDE_PX:
            raise BitstreamError(f"{name}: got {side}, expected 1 to {MAX_SIDE_PX}. The file is damaged")
    checksum = int.from_bytes(reader.take(4), "little")
    sections = _read_sections(reader)
    return Container(width, height, model, checksum, sections)


def _read_sections(reader: _Reader) -> dict[int, bytes]:
    sections = {LATENTS: reader.take(reader.varint())}
    last = LATENTS
    while reader.position < reader.end:
        tag = reader.take(1)[0]
        if tag <= last:
            raise BitstreamError(f"section: got tag {tag} after {last}, expected ascending tags. The file is damaged")
        if tag < _OPTIONAL_FROM:
            raise BitstreamError(f"section: got tag {tag}, expected {_OPTIONAL_FROM} to 255. Use a newer hfd")
        sections[tag] = reader.take(reader.varint())
        last = tag
    return sections


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self._data, self.position, self.end = data, position, len(data)

    def take(self, count: int) -> bytes:
        if count > self.end - self.position:
            raise BitstreamError(f"got {self.end - self.position} bytes, expected {count} more. The file is truncated")
        self.position += count
        return self._data[self.position - count : self.position]

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
