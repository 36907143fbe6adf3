"""Find the directory of a TIFF that holds the picture, and describe its samples (TIFF 6.0)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Literal, TypeAlias

from hfd.io.seekable import SeekableFile

Tags: TypeAlias = dict[int, tuple[int, ...]]

_MAX_DIRECTORIES = 4096
_MAX_VALUES = 64
"""Number of values that are read of a tag; longer tags, such as strip sizes, are cut."""

_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 13: "I", 16: "Q", 18: "Q"}
_WANTED = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 277, 278, 279, 284, 330, 338, 339, 530, 532, 50706}
)  # tags that `Directory` names
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2

_PHOTOMETRIC = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELAB"}
_PHOTOMETRIC |= {9: "ICCLAB", 10: "ITULAB", 32844: "LogL", 32845: "LogLuv"}
_CAMERA_RAW = (32803, 34892)  # colour filter array, linear raw
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_SAMPLE_FORMATS = {1: "", 2: "signed ", 3: "floating-point ", 4: "untyped ", 5: "complex ", 6: "complex "}

# Lossless compressions that both decoders know: none, LZW, deflate (two numbers), PackBits.
UNCOMPRESSED = 1
PLAIN = frozenset({UNCOMPRESSED, 5, 8, 32946, 32773})


@dataclass(frozen=True)
class Directory:
    """One directory of a file. ``page``: its number in the chain; ``sub``: its number among that page's SubIFDs."""

    tags: Tags
    offset: int
    order: Literal["<", ">"]
    is_big: bool
    page: int
    sub: int | None = None

    def first(self, tag: int, default: int) -> int:
        return next(iter(self.tags.get(tag, ())), default)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored, before rotation."""
        return self.first(256, 0), self.first(257, 0)

    @property
    def is_picture(self) -> bool:
        """False for a reduced version of another directory's picture or a transparency mask."""
        reduced = self.first(254, 0) & (_REDUCED | _MASK) or self.first(255, 0) == _OLD_REDUCED
        return not reduced and self.photometric != 4

    @property
    def is_camera_raw(self) -> bool:
        return 50706 in self.tags or self.photometric in _CAMERA_RAW

    @property
    def photometric(self) -> int:
        return self.first(262, 0)

    @property
    def compression(self) -> int:
        return self.first(259, 1)

    @property
    def samples(self) -> int:
        return self.first(277, 3 if self.compression in (6, 7) and self.photometric in (2, 6) else 1)

    @cached_property
    def bits(self) -> int | None:
        """Bits of each sample; None if they differ."""
        found = set(self.tags.get(258, (1,))[: self.samples])
        return found.pop() if len(found) == 1 else None

    @cached_property
    def format(self) -> int | None:
        """Sample format; None if samples differ in it."""
        found = set(self.tags.get(339, (UNSIGNED,))[: self.samples])
        return found.pop() if len(found) == 1 else None

    @property
    def extra(self) -> tuple[int, ...]:
        return self.tags.get(338, ())

    @property
    def is_planar(self) -> bool:
        """True if each sample has its own plane and there are several."""
        return self.first(284, 1) == 2 and self.samples > 1

    @property
    def is_reversed(self) -> bool:
        """True if the lowest bit of a byte comes first."""
        return self.first(266, 1) == 2

    @property
    def has_full_chroma(self) -> bool:
        """True for uncompressed YCbCr without subsampling. If the tag is missing, the strips' size decides."""
        if 530 in self.tags:
            return self.tags[530] == (1, 1)
        width, height = self.size
        return self.first(279, 0) == 3 * width * min(height, self.first(278, height))

    @property
    def has_full_range(self) -> bool:
        """True for YCbCr with the black and white of JPEG, 0 and 255, and a chroma of 128 for grey."""
        values = self.tags.get(532, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1))
        pairs = zip(values[::2], values[1::2], (0, 255, 128, 255, 128, 255), strict=False)
        return all(number == expected * divisor for number, divisor, expected in pairs)

    @property
    def kind(self) -> str:
        """Describe the samples for a message: ``"16-bit signed grey"``."""
        bits = "mixed-depth" if self.bits is None else f"{self.bits}-bit"
        form = "mixed " if self.format is None else _SAMPLE_FORMATS.get(self.format, f"format-{self.format} ")
        colours = _PHOTOMETRIC.get(self.photometric, f"photometric interpretation {self.photometric}")
        beside = [f"{self.samples} samples a pixel"]
        beside += ["0 is white"] if self.photometric == 0 else []
        beside += ["in planes"] if self.is_planar else []
        beside += ["big-endian"] if self.order == ">" and (self.bits or 0) > 8 else []
        beside += [] if self.compression in PLAIN else [f"compression {self.compression}"]
        return f"{bits} {form}{colours} ({', '.join(beside)})"


def picture_of(stream: BinaryIO) -> Directory | None:
    """Return the directory of a TIFF's picture: the first that is neither a reduced version nor a mask.

    SubIFDs follow their page. If there is no such directory, the largest is returned; of a camera raw file, the
    directory that marks it as raw. None: the file is damaged.
    """
    try:
        found = _picture_of(stream)
    except (struct.error, OverflowError, OSError, ValueError):
        found = None
    stream.seek(0)
    return found


def page_options(found: Directory) -> dict[str, int]:
    """Return the options with which libvips's ``tiffload`` loads this directory."""
    return {"page": found.page} if found.sub is None else {"page": found.page, "subifd": found.sub}


def count_pages(stream: BinaryIO) -> int:
    """Count the pages of a TIFF that are pictures; 1 if the file is damaged after its first page."""
    try:
        return sum(page.is_picture for page, _ in _pages(stream))
    except (struct.error, OverflowError, OSError, ValueError):
        return 1
    finally:
        stream.seek(0)


def _picture_of(stream: BinaryIO) -> Directory | None:
    others: list[Directory] = []
    for page, subs in _pages(stream):
        for one in (page, *subs):
            if one.is_camera_raw:
                return one
        if (found := next((one for one in (page, *subs) if one.is_picture), None)) is not None:
            return found
        others += [page, *subs]
    return max(others, key=lambda one: one.size[0] * one.size[1], default=None)


def _pages(stream: BinaryIO) -> Iterator[tuple[Directory, list[Directory]]]:
    """Yield each page of the chain with its SubIFDs."""
    stream.seek(0)
    head = stream.read(16)
    order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
    is_big = head[2:4] in (b"+\0", b"\0+")
    offset = struct.unpack_from(order + ("Q" if is_big else "I"), head, 8 if is_big else 4)[0]
    seen: set[int] = set()
    page = 0
    while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(offset)
        tags, following = _read_directory(stream, offset, order, is_big)
        subs = [sub for sub in dict.fromkeys(tags.get(330, ())) if sub not in seen]
        seen.update(subs)
        yield (
            Directory(tags, offset, order, is_big, page),
            [
                Directory(
                    _read_directory(stream, sub, order, is_big)[0], sub, order, is_big, page, tags[330].index(sub)
                )
                for sub in subs
            ],
        )
        offset, page = following, page + 1


def _read_directory(stream: BinaryIO, offset: int, order: str, is_big: bool) -> tuple[Tags, int]:
    """Read the known tags of a directory, and the offset of the next in the chain."""
    stream.seek(offset)
    counter, entry, word = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I")
    size = struct.calcsize("<" + entry)
    count = struct.unpack(order + counter, stream.read(struct.calcsize("<" + counter)))[0]
    if count > 65535:
        raise ValueError("more tags than a directory has")
    data = stream.read(count * size + struct.calcsize("<" + word))
    following = struct.unpack_from(order + word, data, count * size)[0]
    tags: Tags = {}
    for tag, kind, number, held in struct.iter_unpack(order + entry, data[: count * size]):
        if tag not in _WANTED or kind not in _TYPES:
            continue
        layout = f"{order}{min(number, _MAX_VALUES) * len(_TYPES[kind])}{_TYPES[kind][0]}"
        if number * struct.calcsize("<" + _TYPES[kind]) > len(held):
            stream.seek(struct.unpack(order + word, held)[0])
            held = stream.read(struct.calcsize(layout))
        tags[tag] = struct.unpack_from(layout, held)
    return tags, following


def from_directory(stream: BinaryIO, found: Directory) -> BinaryIO:
    """Return a view of the file in which this directory comes first, for decoders that only read the first."""
    return io.BufferedReader(_Redirected(stream, found))


class _Redirected(SeekableFile):
    """View of a file whose header points to another directory. Closing it leaves the file open."""

    def __init__(self, stream: BinaryIO, found: Directory) -> None:
        super().__init__(stream.seek(0, io.SEEK_END))
        stream.seek(0)
        head = stream.read(16)
        link = struct.pack(found.order + ("Q" if found.is_big else "I"), found.offset)
        self._head = head[:8] + link if found.is_big else head[:4] + link
        self._stream = stream

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._stream.seek(self._position)
        data = bytearray(self._stream.read(len(buffer)))
        if self._position < len(self._head):
            head = self._head[self._position : self._position + len(data)]
            data[: len(head)] = head
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
