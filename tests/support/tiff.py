"""TIFF files that tests build byte by byte (TIFF 6.0), for layouts that Pillow cannot write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_SHORT, _LONG = 3, 4


@dataclass(frozen=True)
class Page:
    """One directory: its tags with their values, its strips, and the pages that it names as its SubIFDs."""

    tags: Mapping[int, Sequence[int]]
    strips: Sequence[bytes]
    subs: Sequence[Page] = field(default_factory=tuple)


def page(
    samples: npt.NDArray[np.generic],
    photometric: int,
    *,
    order: str = "<",
    planar: bool = False,
    deflate: bool = False,
    rows: int | None = None,
    extra: Sequence[int] = (),
    tags: Mapping[int, Sequence[int]] | None = None,
    subs: Sequence[Page] = (),
) -> Page:
    """A page of (H, W) or (H, W, S) samples of 8, 16, 32 or 64 bits. ``rows``: in a strip; ``extra``: tag 338."""
    x = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = x.shape
    kind = {"u": 1, "i": 2, "f": 3}[x.dtype.kind]
    rows = rows or height
    planes = [x[..., n : n + 1] for n in range(channels)] if planar else [x]
    strips = [
        one[top : top + rows].astype(x.dtype.newbyteorder(order)).tobytes()
        for one in planes
        for top in range(0, height, rows)
    ]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    bits = 8 * x.dtype.itemsize
    found: dict[int, Sequence[int]] = {
        256: [width], 257: [height], 258: [bits] * channels, 259: [8 if deflate else 1], 262: [photometric],
        277: [channels], 278: [rows], 284: [2 if planar else 1], 339: [kind] * channels,
    }  # fmt: skip
    if extra:
        found[338] = extra
    return Page(found | dict(tags or {}), strips, subs)


def packed_page(
    samples: npt.NDArray[np.integer], bits: int, photometric: int, *, order: str = "<", fill_order: int = 1
) -> Page:
    """A page of (H, W) samples of any number of bits, the highest first, rows padded to bytes."""
    height, width = samples.shape
    columns = np.arange(bits)[::-1]
    planes = (samples.astype(np.uint32)[..., None] >> columns & 1).astype(np.uint8)
    data = np.packbits(planes.reshape(height, -1), axis=1, bitorder="big" if fill_order == 1 else "little").tobytes()
    del order
    tags = {256: [width], 257: [height], 258: [bits], 259: [1], 262: [photometric], 266: [fill_order], 277: [1]}
    return Page(tags | {278: [height]}, [data])


def tiff(*pages: Page, order: str = "<") -> bytes:
    """A file of these pages."""
    data = bytearray(b"II" if order == "<" else b"MM")
    data += struct.pack(order + "HI", 42, 0)
    link = 4
    for one in pages:
        at, link_of_next = _append(data, one, order)
        struct.pack_into(order + "I", data, link, at)
        link = link_of_next
    return bytes(data)


def _append(data: bytearray, one: Page, order: str) -> tuple[int, int]:
    """Add a page; return where its directory and that directory's link to the next lie."""
    tags = dict(one.tags)
    if one.subs:
        tags[330] = [_append(data, sub, order)[0] for sub in one.subs]
    tags[273] = []
    for strip in one.strips:
        tags[273] = [*tags[273], len(data)]
        data += strip + bytes(len(strip) % 2)
    tags[279] = [len(strip) for strip in one.strips]
    entries = b""
    for tag, values in sorted(tags.items()):
        kind = _LONG if tag in (254, 256, 257, 273, 278, 279, 330) else _SHORT
        packed = struct.pack(f"{order}{len(values)}{'I' if kind == _LONG else 'H'}", *values)
        if len(packed) > 4:
            at = len(data)
            data += packed + bytes(len(packed) % 2)
            packed = struct.pack(order + "I", at)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    at = len(data)
    data += struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return at, len(data) - 4
