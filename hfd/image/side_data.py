"""Side data of JPEG and WebP files, and EXIF, that are damaged: they are left out, and the picture is read."""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO

from PIL import Image

from hfd.image.colour import note_of_profile
from hfd.image.notes import NoteKind, add_note
from hfd.image.png_parts import without_ranges

_JPEG_HEAD = b"\xff\xd8\xff"
# Marker, identifier and least bytes of an application segment (JFIF 1.02; ICC.1, annex B; Adobe technical note 5116).
_JPEG_PARTS = ((0xE0, b"JFIF", 14), (0xE2, b"ICC_PROFILE\0", 15), (0xEE, b"Adobe", 12))
_PHOTOSHOP = (0xED, b"Photoshop 3.0\0")
_START_OF_SCAN, _LONGEST_HEAD = 0xDA, 2**24

_PIXEL_CHUNKS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"VP8X")
_WEBP_PARTS: dict[bytes, tuple[int, NoteKind]] = {
    b"ICCP": (0x20, "profile"),
    b"EXIF": (0x08, "metadata"),
    b"XMP ": (0x04, "metadata"),
}


def open_with_side_data(stream: BinaryIO) -> Image.Image:
    """Open a picture by Pillow; if side data are what it fails on, once more without them, and note that."""
    try:
        return Image.open(stream)
    except Image.DecompressionBombError:
        raise
    except Exception:
        rest = _without_damage(stream)
        if rest is None:
            raise
        return Image.open(rest)


def check_side_data(image: Image.Image) -> None:
    """Note side data of an opened picture that Pillow dropped or would misread, and drop them."""
    info = image.info
    if "icc_profile" in info and info["icc_profile"] is None:
        note_of_profile()
    exif = info.get("exif")
    if isinstance(exif, bytes) and not _is_exif(exif):
        add_note("metadata", "its EXIF is damaged, and is left out")
        del info["exif"]


def _is_exif(exif: bytes) -> bool:
    """True if the first directory of tags lies within the data. Its values may not; readers skip those."""
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return not data
    (first,) = struct.unpack_from(order + "I", data, 4)
    if first + 2 > len(data):
        return False
    (count,) = struct.unpack_from(order + "H", data, first)
    return bool(first + 2 + 12 * count <= len(data))


def _without_damage(stream: BinaryIO) -> BinaryIO | None:
    stream.seek(0)
    head = stream.read(12)
    if head.startswith(_JPEG_HEAD):
        return _jpeg_without_damage(stream)
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return _webp_without_damage(stream)
    return None


def _jpeg_without_damage(stream: BinaryIO) -> BinaryIO | None:
    left_out = []
    at, size = 2, stream.seek(0, os.SEEK_END)
    while at < min(size, _LONGEST_HEAD):
        stream.seek(at)
        mark, kind, length = struct.unpack(">BBH", stream.read(4).ljust(4, b"\0"))
        if mark != 0xFF or kind == _START_OF_SCAN or (length < 2 and kind != 0xFF):
            break
        if kind == 0xFF:  # fill
            at += 1
            continue
        if _is_damaged(kind, length - 2, stream.read(14)):
            add_note("metadata", f"its APP{kind & 15} part is damaged, and is left out")
            left_out.append((at, at + 2 + length))
        at += 2 + length
    stream.seek(0)
    return without_ranges(stream, tuple(left_out)) if left_out else None


def _is_damaged(kind: int, length: int, head: bytes) -> bool:
    """True for a segment too short for its kind. Of Photoshop's all count, since the damage may be deep inside."""
    if kind == _PHOTOSHOP[0]:
        return head.startswith(_PHOTOSHOP[1])
    return any(kind == one and head[:length].startswith(name) and length < least for one, name, least in _JPEG_PARTS)


def _webp_without_damage(stream: BinaryIO) -> BinaryIO | None:
    """The file with its whole chunks alone; None unless all its pixels are whole."""
    stream.seek(0)
    data = stream.read()
    chunks: dict[bytes, None] = {}
    kept, at = [], 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length
        if end > len(data):
            if name in _PIXEL_CHUNKS:
                return None
            break
        chunks[name] = None
        kept.append(data[at:end] + bytes(length & 1))
        at = end + (length & 1)
    is_cut = at < len(data) or int.from_bytes(data[4:8], "little") + 8 > len(data)
    if not is_cut or not chunks.keys() & {b"VP8 ", b"VP8L", b"ANMF"}:
        return None
    if next(iter(chunks)) == b"VP8X":
        flags = kept[0][8]
        for name, (flag, _) in _WEBP_PARTS.items():
            flags &= 0xFF if name in chunks else 0xFF ^ flag
        kept[0] = kept[0][:8] + bytes([flags]) + kept[0][9:]
    if at < len(data):
        cut = data[at : at + 4]
        shown = cut.decode("ascii", "replace").strip() if cut in _WEBP_PARTS else "last"
        add_note(_WEBP_PARTS.get(cut, (0, "metadata"))[1], f"its {shown} part is cut, and is left out")
    else:
        add_note("metadata", "its end is cut; what followed its pixels is left out")
    body = b"WEBP" + b"".join(kept)
    return io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body)
