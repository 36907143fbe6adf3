"""Update the EXIF of rotated or cropped pictures: correct the stated sizes and remove the preview."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
_EXIF_IFD, _PREVIEW_START, _PREVIEW_BYTES = 0x8769, 0x0201, 0x0202
_SHORT, _LONG = 3, 4


def fitted_exif(exif: bytes, width: int, height: int) -> bytes:
    """Return EXIF for a rotated or cropped picture of ``width`` x ``height`` px: sizes corrected, preview zeroed.

    The length stays the same, less a leading ``Exif\\0\\0``; entries that cannot be parsed stay unchanged.
    """
    data = bytearray(exif.removeprefix(b"Exif\0\0"))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        return bytes(data)
    with suppress(struct.error):  # truncated EXIF
        _fit(data, order, width, height)
    return bytes(data)


def _fit(data: bytearray, order: str, width: int, height: int) -> None:
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    for tag, kind, at in list(_entries(data, order, first)):
        _set_side(data, order, (tag, kind, at), width, height)
        if tag == _EXIF_IFD and kind == _LONG:
            (inner,) = struct.unpack_from(f"{order}I", data, at)
            for entry in list(_entries(data, order, inner)):
                _set_side(data, order, entry, width, height)
    (count,) = struct.unpack_from(f"{order}H", data, first)
    link = first + 2 + 12 * count
    (second,) = struct.unpack_from(f"{order}I", data, link)
    struct.pack_into(f"{order}I", data, link, 0)
    preview = {tag: struct.unpack_from(f"{order}I", data, at)[0] for tag, _, at in _entries(data, order, second)}
    start, size = preview.get(_PREVIEW_START, 0), preview.get(_PREVIEW_BYTES, 0)
    if link + 4 <= start <= start + size <= len(data):
        data[start : start + size] = bytes(size)  # zeros compress to almost nothing


def _entries(data: bytearray, order: str, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, type and value offset of each single-valued entry of an IFD; ``at`` 0: no IFD."""
    if at == 0:
        return
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, entry)
        if values == 1:
            yield tag, kind, entry + 8


def _set_side(data: bytearray, order: str, entry: tuple[int, int, int], width: int, height: int) -> None:
    tag, kind, at = entry
    side = width if tag in _WIDTHS else height if tag in _HEIGHTS else None
    if side is not None and kind in (_SHORT, _LONG) and (kind == _LONG or side < 2**16):
        struct.pack_into(f"{order}{'H' if kind == _SHORT else 'I'}", data, at, side)
