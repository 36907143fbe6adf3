"""One photograph's bytes in, source crops out: pure functions of (bytes, settings), whatever runs them.

Every random choice is a SHA-256 digest of the seed, the photograph's content and what is being chosen. No
generator state is shared, so neither the order of the photographs nor the number of workers nor numpy's
version can change a crop.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box
from hfd.image.load import RgbArray, load_picture

Split: TypeAlias = Literal["train", "validation"]


@dataclass(frozen=True)
class CropSettings:
    """How photographs become source crops.

    Raises:
        ConfigError: a value outside its range.
    """

    seed: int
    """Any integer; moves the grids, the choice of cells and the split."""
    source_crop_px: int
    """Side of a crop, at least ``min_side_px``; a shorter side of a photograph is kept whole."""
    min_side_px: int
    """What a photograph's shorter side must reach, after any downscale; at least 1."""
    max_crops_per_photo: int
    """At least 1."""
    downscale: float | None
    """Factor in (0, 1] by which lossy sources shrink, to lose their artefacts; None keeps every source."""
    validation_share: float
    """Expected share of photographs in the validation split, in [0, 1)."""
    max_pixels: int
    """Width x height above which a photograph is rejected undecoded; at least 1."""

    def __post_init__(self) -> None:
        for key in ("min_side_px", "max_crops_per_photo", "max_pixels"):
            if getattr(self, key) < 1:
                raise _bad_setting(key, getattr(self, key), "at least 1")
        if self.source_crop_px < self.min_side_px:
            raise _bad_setting("source_crop_px", self.source_crop_px, f"min_side_px ({self.min_side_px}) or more")
        if self.downscale is not None and not 0.0 < self.downscale <= 1.0:
            raise _bad_setting("downscale", self.downscale, "none or a factor in (0, 1]")
        if not 0.0 <= self.validation_share < 1.0:
            raise _bad_setting("validation_share", self.validation_share, "a share in [0, 1)")


@dataclass(frozen=True, eq=False)  # comparing arrays for equality has no single answer
class SourceCrop:
    """A piece of a photograph, from which training draws its own smaller crops."""

    id: str
    """``{content[:16]}-{index:03d}``; stays the same when ``max_crops_per_photo`` changes."""
    photo: str
    """The key of the photograph in its corpus."""
    content: str
    """SHA-256 of the photograph's encoded bytes, 64 hex digits."""
    split: Split
    x: RgbArray
    """uint8 (H, W, 3) sRGB, C-contiguous, owning its memory."""


def content_hash(data: bytes) -> str:
    """SHA-256 of encoded bytes as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def split_of(content: str, *, seed: int, validation_share: float) -> Split:
    """Assign a photograph by its content alone, so that exact duplicates never straddle the split.

    A digest of (seed, content), uniform in [0, 1), is compared with ``validation_share`` in [0, 1]: a larger
    share only ever moves photographs from training to validation.
    """
    uniform = (_draw(seed, content, "split") >> 11) * 2.0**-53
    return "validation" if uniform < validation_share else "train"


def crop_boxes(width: int, height: int, *, content: str, settings: CropSettings) -> list[Box]:
    """Choose non-overlapping crops of a picture of ``width`` x ``height`` px.

    Square cells of ``source_crop_px`` form a grid, which is shifted as a whole by an offset drawn in the
    slack that they leave; a side shorter than a cell is kept whole. Cells are then taken in the order of
    their digests, at most ``max_crops_per_photo``: raising that limit only appends to the list.

    Raises:
        ValueError: a side below 1 px.
    """
    if width < 1 or height < 1:
        raise ValueError(f"size: got {width} x {height} px, expected at least 1 x 1")
    cell_width, columns, left = _axis(width, "left", content, settings)
    cell_height, rows, top = _axis(height, "top", content, settings)
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    cells.sort(key=lambda cell: (_draw(settings.seed, content, f"cell:{cell[0]}:{cell[1]}"), cell))
    return [
        Box(top + row * cell_height, left + column * cell_width, cell_height, cell_width)
        for row, column in cells[: settings.max_crops_per_photo]
    ]


def source_crops(data: bytes, photo: str, settings: CropSettings) -> list[SourceCrop]:
    """Decode one photograph and cut its source crops.

    A lossy source is first reduced by ``downscale`` (Lanczos, on the decoded 8-bit sRGB samples), unless its
    shorter side would then miss ``min_side_px``: in that case it is used at its own size.

    Args:
        data: the photograph as encoded.
        photo: its key in the corpus, also used in messages.

    Returns:
        At least one crop, in the order of `crop_boxes`.

    Raises:
        DataError: ``reason`` is ``"too-small"`` or one of `hfd.image.load.load_picture`.
    """
    picture = reduced_source(load_picture(data, name=photo, max_pixels=settings.max_pixels), data, settings)
    return cut_crops(picture, photo, content_hash(data), settings)


def reduced_source(picture: Image.Image, data: bytes, settings: CropSettings) -> Image.Image:
    """A decoded picture as it is cut: a lossy source by ``downscale`` smaller, as `source_crops` says."""
    if settings.downscale is not None and is_lossy_source(data):
        return _reduced(picture, settings.downscale, settings.min_side_px)
    return picture


def cut_crops(picture: Image.Image, photo: str, content: str, settings: CropSettings) -> list[SourceCrop]:
    """Cut the source crops of a picture that is already as small as it is to be; see `source_crops`.

    Raises:
        DataError: ``reason`` is ``"too-small"``.
    """
    width, height = picture.size
    if min(width, height) < settings.min_side_px:
        raise DataError(
            f"{photo}: got {width} x {height} px, expected a shorter side of at least "
            f"{settings.min_side_px} px. Leave it out or lower min_side_px.",
            reason="too-small",
        )
    split = split_of(content, seed=settings.seed, validation_share=settings.validation_share)
    boxes = crop_boxes(width, height, content=content, settings=settings)
    return [
        SourceCrop(f"{content[:16]}-{index:03d}", photo, content, split, np.array(picture.crop(box.corners)))
        for index, box in enumerate(boxes)
    ]


def is_lossy_source(data: bytes) -> bool:
    """Tell whether encoded bytes are of a lossy format: JPEG (MPO too), AVIF, or WebP with a VP8 frame.

    Only the container is looked at; nothing is decoded and no error raised. TIFF and JPEG 2000 count as
    lossless, whatever they hold.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return True
    if data[4:8] == b"ftyp":
        (length,) = struct.unpack(">I", data[:4])
        brands = data[8 : min(length, 256)]
        return any(brands[i : i + 4] in (b"avif", b"avis") for i in range(0, len(brands), 4))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _first_webp_frame(data, 12) == b"VP8 "
    return False


def _bad_setting(key: str, got: object, expected: str) -> ConfigError:
    return ConfigError(f"{key}: got {got}, expected {expected}. Change it in the configuration.")


def _draw(seed: int, content: str, purpose: str) -> int:
    """A uniform integer in [0, 2^64): the first 8 bytes, big-endian, of SHA-256 of the three arguments."""
    digest = hashlib.sha256(f"hfd.crops:{seed}:{content}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _axis(side: int, purpose: str, content: str, settings: CropSettings) -> tuple[int, int, int]:
    """(cell length, number of cells, offset of the first) along one side of ``side`` px."""
    cell = min(side, settings.source_crop_px)
    count = side // cell
    # The bias of the modulus is below 2^-40 for any picture.
    return cell, count, _draw(settings.seed, content, purpose) % (side - count * cell + 1)


def _reduced(picture: Image.Image, factor: float, min_side_px: int) -> Image.Image:
    width, height = (round(side * factor) for side in picture.size)
    if min(width, height) < min_side_px or factor == 1.0:
        return picture
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _first_webp_frame(data: bytes, offset: int) -> bytes:
    """The kind of the first picture chunk at or after ``offset``, ``b""`` if there is none."""
    while len(head := data[offset : offset + 8]) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            return bytes(kind)
        if kind == b"ANMF":
            offset += 24  # into the frame: its 16 bytes of geometry come before its chunks
        else:
            offset += 8 + length + length % 2
    return b""
