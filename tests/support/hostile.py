"""Invalid files for tests of the decoder: damaged, cut, spliced and forged; the n-th is always the same."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from hfd.codec.container import ALPHA, EXIF, ICC, LATENTS, SAMPLING, Container, pack, unpack

HEAD_BYTES = 6
"""Magic, version and layout: what a flip there breaks is found before anything else is read."""


@dataclass(frozen=True)
class Hostile:
    """``kind``: how it was made, for the table."""

    kind: str
    data: bytes


def sealed(body: bytes) -> bytes:
    """With the CRC32 that belongs to it, so that what is inside is reached."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def hostile_file(index: int, files: Sequence[bytes]) -> Hostile:
    """The case of a number. Every fourth cuts a file, until each was cut at every byte, both as it is and with a CRC32
    that fits."""
    if index % 4 == 0 and index // 4 < 2 * sum(map(len, files)):
        length, as_it_is = divmod(index // 4, 2)
        for data in files:
            if length < len(data):
                return Hostile("cut", data[:length]) if as_it_is else Hostile("cut, sealed", sealed(data[:length]))
            length -= len(data)
    rng = random.Random(index)
    kind = rng.choices(list(_MAKERS), weights=[weight for weight, _ in _MAKERS.values()])[0]
    return Hostile(kind, _MAKERS[kind][1](rng, files))


def _flipped(rng: random.Random, data: bytes, start: int = 0) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        broken[rng.randrange(min(start, len(broken) - 1), len(broken))] ^= rng.randint(1, 255)
    return bytes(broken)


def _flip(rng: random.Random, files: Sequence[bytes]) -> bytes:
    return _flipped(rng, rng.choice(files))


def _flip_sealed(rng: random.Random, files: Sequence[bytes]) -> bytes:
    return sealed(_flipped(rng, rng.choice(files)[:-4], start=rng.choice([5, 5, HEAD_BYTES, 20])))


def _splice(rng: random.Random, files: Sequence[bytes]) -> bytes:
    one, other = rng.choice(files)[:-4], rng.choice(files)[:-4]
    body = one[: rng.randrange(5, len(one))] + other[rng.randrange(len(other)) :]
    for _ in range(rng.choice([0, 0, 1, 3])):  # a stretch twice, or left out
        start, length = rng.randrange(5, len(body) + 1), rng.randrange(64)
        middle = body[start : start + length]
        body = body[:start] + (middle * 2 if rng.random() < 0.5 else b"") + body[start + length :]
    return sealed(body)


def _payload(rng: random.Random, files: Sequence[bytes]) -> bytes:
    """A sound header before a stream that no encoder wrote."""
    container = unpack(rng.choice(files))
    payload = container.sections[LATENTS]
    words = rng.choice([1, 2, 3, 8, 60, 300, 2000])
    made = rng.choice(
        [
            rng.randbytes(4 * words),
            bytes([rng.choice([0x00, 0x01, 0x0F, 0x7F, 0x80, 0xF0, 0xFF])]) * (4 * words),
            _flipped(rng, payload),
            payload[: rng.randrange(len(payload) // 4) * 4],
            payload[4 * rng.randint(1, 4) :],
            payload + rng.randbytes(4 * words),
            payload[: rng.randrange(len(payload))] + b"\xff" * (4 * words),
        ]
    )
    return pack(_with(container, {LATENTS: made}))


def _size(rng: random.Random, files: Sequence[bytes]) -> bytes:
    """The stream of one picture under the size of another."""
    container = unpack(rng.choice(files))
    width, height = (max(1, int(2 ** rng.uniform(0, rng.choice([6, 9, 16, 24])))) for _ in range(2))
    if rng.random() < 0.2:
        width, height = rng.choice([(2**16, 2**15), (2**24, 2**24), (2**24, 1), (1, 2**24), (1, 1), (46341, 46341)])
    return pack(Container(width, height, container.model, container.rate, container.checksum, container.sections))


def _forged(rng: random.Random, files: Sequence[bytes]) -> bytes:
    """A file put together from fields each of which may lie: layout, rate, sides, tags, lengths."""
    container = unpack(rng.choice(files))
    model = container.model if rng.random() < 0.8 else rng.randbytes(4)
    rate = container.rate if rng.random() < 0.7 else rng.randrange(256)
    layout = rng.choice([rng.randrange(256), rng.randrange(32), 0b00000, 0b10000, 0b10101, 0b10001])
    body = b"\x89HFD\x02" + bytes([layout]) + model + bytes([rate])
    for extra in (layout & 3, layout >> 2 & 3):
        length = 1 + extra if rng.random() < 0.8 else rng.randrange(5)
        body += rng.choice([b"\x3f", b"\x00\x01", b"\x20\x00\x01", b"\xff\xff\xff\xff", rng.randbytes(4)])[:length]
    body += container.checksum.to_bytes(4, "little")
    for _ in range(rng.choice([0, 1, 1, 2, 5, 400])):
        content = rng.randbytes(rng.choice([0, 1, 9, 30]))
        length = rng.choice(
            [_varint(len(content)), _varint(rng.getrandbits(rng.choice([3, 8, 31, 32, 63]))), b"\x80\x00", b"\xff" * 12]
        )
        body += bytes([rng.choice([0, 1, 127, 128, 129, 130, 131, 200, 255])]) + length + content
    return sealed(body + container.sections[LATENTS])


def _section(rng: random.Random, files: Sequence[bytes]) -> bytes:
    """A sound file with sections whose inside is hostile."""
    container = unpack(rng.choice(files))
    sections: dict[int, bytes] = {}
    for tag in rng.sample([ALPHA, ICC, EXIF, SAMPLING, 200], rng.randint(1, 3)):
        sections[tag] = _hostile_section(rng, tag, container)
    return pack(_with(container, sections))


def _hostile_section(rng: random.Random, tag: int, container: Container) -> bytes:
    own = container.sections.get(tag)
    if own is not None and rng.random() < 0.5:
        return _flipped(rng, own) if rng.random() < 0.7 else own[: rng.randrange(len(own))]
    match tag:
        case 128:
            width, height = rng.choice([(container.width, container.height), (2**31 - 1, 2**31 - 1), (16384, 16384)])
            return rng.choice([_png(rng, width, height), _webp(rng, width, height)])
        case 129 | 130:
            bomb = _zeros(rng.choice([100, 2**22, 2**22 + 1, 2**25]))
            return rng.choice([b"\x01" + bomb, b"\x01" + bomb[: len(bomb) // 2], b"\x01" + rng.randbytes(50), b"\x02"])
        case _:
            return rng.randbytes(rng.choice([0, 1, 2, 10, 28, 200]))


@cache
def _zeros(count: int) -> bytes:
    """So many zeros, compressed."""
    return zlib.compress(bytes(count), 1)


def _png(rng: random.Random, width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = _zeros(rng.choice([0, 1000, 2**20, 2**26]))
    extra = rng.choice(
        [b"", chunk(b"zTXt", b"a\0\0" + pixels), chunk(b"iCCP", b"a\0\0" + pixels), chunk(b"PLTE", b"a")]
    )
    head = struct.pack(">II", width, height) + b"\x08\x00\x00\x00" + bytes([rng.choice([0, 1, 9])])
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x00\x89PNG\r\n\x1a\n" + (body if rng.random() < 0.5 else _flipped(rng, body, start=26))


def _webp(rng: random.Random, width: int, height: int) -> bytes:
    bits = (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14
    chunk = b"VP8L" + struct.pack("<I", rng.choice([5, 40, 2**31])) + b"\x2f" + struct.pack("<I", bits)
    chunk += rng.randbytes(rng.choice([0, 35, 500]))
    return b"\x01RIFF" + struct.pack("<I", rng.choice([4 + len(chunk), 12, 2**32 - 2])) + b"WEBP" + chunk


def _noise(rng: random.Random, _files: Sequence[bytes]) -> bytes:
    return rng.choice([b"", b"\x89HFD", b"\x89HFD\x02", b"\x89HFD\x01"]) + rng.randbytes(rng.choice([0, 3, 40, 3000]))


def _with(container: Container, sections: dict[int, bytes]) -> Container:
    held = {**container.sections, **sections}
    return Container(container.width, container.height, container.model, container.rate, container.checksum, held)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


_MAKERS: dict[str, tuple[float, Callable[[random.Random, Sequence[bytes]], bytes]]] = {
    "flip": (1, _flip),
    "flip, sealed": (4, _flip_sealed),
    "splice, sealed": (3, _splice),
    "payload": (4, _payload),
    "size": (2, _size),
    "forged fields": (3, _forged),
    "section": (3, _section),
    "noise": (0.5, _noise),
}
"""Each kind's share and maker."""
