"""Read the chunks of a PNG beside its pixels, so that a damaged or long one does not make the picture unreadable.

Pillow rejects a picture with a text above 1 MiB, or a wrong checksum or length of any chunk.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from hfd.image.notes import NoteKind, add_note
from hfd.io.seekable import SeekableFile

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE_BYTES = 2**22
"""Longest colour profile that is read, in bytes: the limit of an ``.hfd`` file."""

_PILLOW_TEXT_BYTES = 2**20
_MAX_TEXT_BYTES = 2**24
_MAX_PARTS = 4096
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4}
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_OF_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
_KINDS: dict[bytes, NoteKind] = {**dict.fromkeys(_TEXTS, "text"), b"iCCP": "profile", b"eXIf": "metadata"}


@dataclass(frozen=True)
class PngParts:
    """Colour chunks of a PNG. ``left_out``: (start, end) of chunks that Pillow must not read, ascending.

    ``icc``: the profile, unpacked; ``cicp``: primaries, transfer, matrix, full range; ``gamma``: times 100,000;
    ``chromaticities``: white, red, green, blue, x and y, times 100,000; ``is_grey``: pixels without colour.
    """

    is_grey: bool
    icc: bytes | None = None
    cicp: bytes | None = None
    is_srgb: bool = False
    gamma: int | None = None
    chromaticities: tuple[int, ...] | None = None
    left_out: tuple[tuple[int, int], ...] = ()


def read_png_parts(stream: BinaryIO) -> PngParts:
    """Read the chunks of a PNG. Adds a note for each that is damaged or too long, and therefore left out."""
    stream.seek(len(PNG_SIGNATURE))
    head = stream.read(25)
    found = PngParts(is_grey=len(head) > 17 and head[17] in (0, 4))
    total, count, seen_pixels = 0, 0, False
    for kind, length, start in _parts(stream):
        seen_pixels = seen_pixels or kind == b"IDAT"
        is_needed = not kind[0] & 0x20  # PNG: a lower-case first letter marks chunks that a reader may skip
        if is_needed or kind in _OF_PIXELS:
            continue
        count += 1
        total += length
        body = b"" if length > _MAX_TEXT_BYTES else stream.read(length)
        fault = _fault(kind, length, body, stream)
        if fault is None and (total > _MAX_TEXT_BYTES or count > _MAX_PARTS):
            fault = "long"
        if fault is not None:
            add_note(_KINDS.get(kind, "colours"), f"its {kind.decode()} part is {fault}, and is left out")
            found = replace(found, left_out=(*found.left_out, (start, start + 12 + length)))
        elif kind == b"iCCP":
            # Pillow would unpack only part of it; the whole profile is added later.
            found = replace(found, left_out=(*found.left_out, (start, start + 12 + length)), icc=_profile(body))
        elif not seen_pixels:
            found = _stated(found, kind, body)
    return found


def _parts(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, length and start of each chunk, with the stream at the chunk's content."""
    at, end = len(PNG_SIGNATURE), stream.seek(0, os.SEEK_END)
    while True:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND" or at + 12 + length > end:
            return
        yield kind, length, at
        at += 12 + length


def _fault(kind: bytes, length: int, body: bytes, stream: BinaryIO) -> str | None:
    if len(body) < length:
        return "long"
    if int.from_bytes(stream.read(4), "big") != zlib.crc32(body, zlib.crc32(kind)):
        return "damaged"
    if length != _LENGTHS.get(kind, length):
        return "damaged"
    if kind in (b"zTXt", b"iTXt"):
        return _fault_of_text(kind, body)
    if kind == b"tEXt" and length > _PILLOW_TEXT_BYTES:
        return "long"
    if kind != b"iCCP":
        return None
    name, _, packed = body.partition(b"\0")
    if not name or packed[:1] != b"\0":
        return "damaged"
    return _fault_of_packed(packed[1:], MAX_PROFILE_BYTES, whole=True)


def _fault_of_text(kind: bytes, body: bytes) -> str | None:
    if len(body) > _PILLOW_TEXT_BYTES:
        return "long"
    _, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        packed = rest[1:]
        if rest[:1] not in (b"", b"\0"):
            return "damaged"
    elif rest[:2] == b"\1\0":
        packed = rest[2:].split(b"\0", 2)[-1]
    else:
        return None
    return _fault_of_packed(packed, _PILLOW_TEXT_BYTES, whole=False)


def _fault_of_packed(packed: bytes, limit: int, *, whole: bool) -> str | None:
    """Name the fault of packed text. ``whole``: a failure to unpack is a fault; otherwise Pillow ignores it."""
    inflater = zlib.decompressobj()
    try:
        size = len(inflater.decompress(packed, limit + 1))
    except zlib.error:
        return "damaged" if whole else None
    if size > limit:
        return f"longer than {limit} bytes"
    return "damaged" if whole and not inflater.eof else None


def _profile(body: bytes) -> bytes:
    return zlib.decompressobj().decompress(body.partition(b"\0")[2][1:], MAX_PROFILE_BYTES)


def _stated(found: PngParts, kind: bytes, body: bytes) -> PngParts:
    if kind == b"cICP":
        return replace(found, cicp=body)
    if kind == b"sRGB":
        return replace(found, is_srgb=True)
    if kind == b"gAMA":
        return replace(found, gamma=int.from_bytes(body, "big"))
    return replace(found, chromaticities=struct.unpack(">8I", body)) if kind == b"cHRM" else found


def without_parts(stream: BinaryIO, parts: PngParts) -> BinaryIO:
    """Return the stream for Pillow."""
    return without_ranges(stream, parts.left_out) if parts.left_out else stream


def without_ranges(stream: BinaryIO, left_out: tuple[tuple[int, int], ...]) -> BinaryIO:
    """Return a view of a stream without some of its ranges, (start, end), ascending."""
    return cast(BinaryIO, _WithoutRanges(stream, left_out))


class _WithoutRanges(SeekableFile):
    """A view of a stream without some of its ranges."""

    def __init__(self, stream: BinaryIO, left_out: tuple[tuple[int, int], ...]) -> None:
        self._stream = stream
        self._pieces: list[tuple[int, int, int]] = []  # start in this view, start and end in the stream
        here = there = 0
        for start, end in (*left_out, (stream.seek(0, os.SEEK_END), 0)):
            if start > there:
                self._pieces.append((here, there, start))
                here += start - there
            there = end
        super().__init__(here)

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes; all that remain if it is negative or None."""
        stop = self._size if size is None or size < 0 else min(self._size, self._position + size)
        found = []
        for here, there, end in self._pieces:
            first, last = max(here, self._position), min(here + end - there, stop)
            if first < last:
                self._stream.seek(there + first - here)
                found.append(self._stream.read(last - first))
        self._position = max(self._position, stop)
        return b"".join(found)
