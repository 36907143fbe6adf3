"""A reader of ``.hfd`` files made from docs/format.md alone. It shares no code with `hfd`, and must not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


class RefusedError(Exception):
    """The file cannot be read."""


def need(rule: bool) -> None:
    if not rule:
        raise RefusedError


@dataclass
class File:
    width: int
    height: int
    model: bytes
    rate: int
    checksum: int
    sections: dict[int, bytes]
    latents: bytes
    seed: int


def read_file(file: bytes) -> File:
    need(file[:4] == bytes([0x89, 0x48, 0x46, 0x44]))
    need(file[4:5] == b"\x02")
    need(len(file) >= 21)
    body, (crc,) = file[:-4], struct.unpack("<I", file[-4:])
    need(zlib.crc32(body) == crc)
    layout, at = body[5], 11
    need(layout < 0b100000)
    sides = []
    for size in (layout % 4 + 1, layout // 4 % 4 + 1):
        need(size < 4 and at + size <= len(body))
        digits = body[at : at + size]
        need(size == 1 or digits[-1] != 0)
        sides.append(1 + sum(digit * 256**place for place, digit in enumerate(digits)))
        at += size
    need(at + 4 <= len(body))
    (checksum,) = struct.unpack("<I", body[at : at + 4])
    at += 4
    sections: dict[int, bytes] = {}
    if layout & 16:
        at = read_sections(body, at, sections)
        need(len(sections) > 0)
    return File(sides[0], sides[1], body[6:10], body[10], checksum, sections, body[at:], crc)


def read_sections(body: bytes, at: int, into: dict[int, bytes]) -> int:
    """Read the sections; return the position of the latents."""
    while True:
        need(at < len(body))
        tag = body[at]
        at += 1
        if tag == 0:
            return at
        need(tag >= 128 and all(tag > before for before in into))
        length = places = 0
        while True:
            need(at < len(body) and places < 8)
            byte = body[at]
            length += (byte % 128) * 128**places
            at, places = at + 1, places + 1
            if byte < 128:
                break
        need(byte != 0 or places == 1)
        need(at + length <= len(body))
        into[tag] = body[at : at + length]
        at += length


def read_metadata(section: bytes, limit: int = 2**22) -> bytes:
    need(len(section) >= 1 and section[0] in (0, 1))
    if section[0] == 0:
        data = section[1:]
    else:
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(section[1:], limit + 1)
        except zlib.error:
            raise RefusedError from None
        need(stream.eof and stream.unused_data == b"")
    need(len(data) <= limit)
    return data


def read_grey(sections: dict[int, bytes]) -> bool:
    need(sections.get(132, b"") == b"")
    return 132 in sections


def read_sampling(section: bytes) -> dict[str, Any]:
    need(len(section) >= 2 and section[0] <= 6 and section[1] < 128)
    flags, rest = section[1], section[2:]
    names = ["auto", "ancestral", "ddim", "dpmpp-2m", "euler", "heun", "midpoint"]
    found: dict[str, Any] = {"kind": names[section[0]], "grain": bool(flags & 1), "finish": not flags & 2}
    found |= {"steps": None, "gamma": 0.0, "realism": 1.0, "seed": None, "stop": 0.0}
    numbers = (4, "steps", "<H"), (8, "gamma", "<d"), (16, "realism", "<d"), (32, "seed", "<Q"), (64, "stop", "<d")
    for bit, name, form in numbers:
        if flags & bit:
            size = struct.calcsize(form)
            need(len(rest) >= size)
            (found[name],) = struct.unpack(form, rest[:size])
            rest = rest[size:]
    need(rest == b"" and found["steps"] != 0)
    need(not flags & 8 or 0 < found["gamma"] <= 1)
    need(not flags & 64 or 0 < found["stop"] <= 1)
    need(not flags & 16 or (0 <= found["realism"] < 1 and struct.pack("<d", found["realism"])[-1] < 128))
    return found


@dataclass
class Row:
    """A row of a family of tables."""

    cdf: Sequence[int]
    offset: int


def read_symbols(latents: bytes, rows: Sequence[Row]) -> Iterator[int]:
    """The symbols of a stream, one for each of the rows that they are coded with."""
    need(len(latents) > 0 and len(latents) % 4 == 0)
    words = iter(struct.unpack(f"<{len(latents) // 4}I", latents))
    x = next(words) + 2**32 * next(words, 0)

    def more(x: int) -> int:
        return 2**32 * x + next(words, 0) if x < 2**31 else x

    def four_bits() -> int:
        nonlocal x
        value, x = x % 16, more(x // 16)
        return value

    for row in rows:
        f, escape = x % 65_536, len(row.cdf) - 2
        v = next(v for v in range(escape + 1) if row.cdf[v] <= f < row.cdf[v + 1])
        x = more((row.cdf[v + 1] - row.cdf[v]) * (x // 65_536) + f - row.cdf[v])
        if v < escape:
            yield v + row.offset
            continue
        n = last = four_bits()
        while last == 15:
            last = four_bits()
            n += last
        r = sum(four_bits() * 16**place for place in range(n))
        yield (-(r // 2) - 1 if r % 2 else r // 2 + escape) + row.offset
