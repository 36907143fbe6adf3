"""Cut one photograph into source crops: pure functions of (bytes, settings).

Every random choice is a SHA-256 digest of the seed, the photograph's content and the purpose of the choice, so that
crops depend neither on the order of photographs, nor on the number of workers, nor on numpy's version.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from hfd.data.scaling import Scaling
from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box
from hfd.image.load import RgbArray
from hfd.image.reduced import Reduced, load_reduced

Split: TypeAlias = Literal["train", "validation"]


@dataclass(frozen=True)
class CropSettings:
    """Settings of cutting; as in :class:`hfd.config.PrepareConfig`. Raises :class:`ConfigError` on bad values.

    ``seed``: any integer; it moves the grids, the choice of cells and the split.
    """

    seed: int
    source_crop_px: int
    min_side_px: int
    max_crops_per_photo: int
    downscale: float | None
    validation_share: float
    max_pixels: int
    downscale_in_decoder: bool = False

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
class Crop:
    """A source crop, from which training takes smaller crops.

    ``id``: ``{content[:16]}-{index:03d}``, the same for any ``max_crops_per_photo``. ``photo``: the photograph's key in
    its corpus. ``content``: SHA-256 of its encoded bytes, 64 hex digits. ``pictures``: uint8 (H, W, 3) sRGB by name,
    maybe read-only: ``x``; after ``reconstruct`` also ``x_hat``.
    """

    id: str
    photo: str
    content: str
    pictures: Mapping[str, RgbArray]

    @property
    def x(self) -> RgbArray:
        return self.pictures["x"]


def content_hash(data: bytes) -> str:
    """SHA-256 of encoded bytes as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def split_of(content: str, *, seed: int, validation_share: float) -> Split:
    """Assign a photograph to a split by its content alone, so that exact duplicates share a split.

    Compares a digest of (seed, content), uniform in [0, 1), with ``validation_share``: a larger share only moves
    photographs from training to validation.
    """
    uniform = (_random_integer(seed, content, "split") >> 11) * 2.0**-53
    return "validation" if uniform < validation_share else "train"


def crop_boxes(width: int, height: int, *, content: str, settings: CropSettings) -> list[Box]:
    """Choose non-overlapping crops of a picture of ``width`` x ``height`` px.

    Square cells of ``source_crop_px`` form a grid at a random offset in the slack that they leave; a side shorter than
    a cell is kept whole. The crops are the first ``max_crops_per_photo`` cells in the order of their digests, so that
    raising that limit only appends to the list.

    Raises:
        ValueError: a side below 1 px.
    """
    if width < 1 or height < 1:
        raise ValueError(f"size: got {width} x {height} px, expected at least 1 x 1")
    cell_width, columns, left = _axis(width, "left", content, settings)
    cell_height, rows, top = _axis(height, "top", content, settings)
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    cells.sort(key=lambda cell: (_random_integer(settings.seed, content, f"cell:{cell[0]}:{cell[1]}"), cell))
    return [
        Box(top + row * cell_height, left + column * cell_width, cell_height, cell_width)
        for row, column in cells[: settings.max_crops_per_photo]
    ]


def reduced_size(size: tuple[int, int], settings: CropSettings) -> tuple[int, int]:
    """Return the sides of a lossy picture after ``downscale``; its own if one would be below ``min_side_px``."""
    width, height = (round(side * (settings.downscale or 1.0)) for side in size)
    return size if min(width, height) < settings.min_side_px else (width, height)


def load_source(data: bytes, name: str, settings: CropSettings) -> Reduced:
    """Decode a photograph for :func:`reduce_source`: with ``downscale_in_decoder``, a JPEG at 1/2, 1/4 or 1/8.

    Raises :class:`DataError` as :func:`hfd.image.load.load_picture`.
    """

    def target(size: tuple[int, int]) -> tuple[int, int]:
        if not settings.downscale_in_decoder or reduced_size(size, settings) == size:
            return size
        # Rounded down, so that half of an odd side is half of it.
        return max(1, int(size[0] * (settings.downscale or 1.0))), max(1, int(size[1] * (settings.downscale or 1.0)))

    return load_reduced(data, target, name=name, max_pixels=settings.max_pixels)


def reduce_source(source: Reduced, data: bytes, settings: CropSettings) -> Image.Image:
    """Scale a picture decoded from a lossy source by ``downscale`` (Lanczos, 8-bit sRGB), less what its decoder did.

    Returns the picture itself if the source is lossless or the shorter side would be below ``min_side_px``.
    """
    picture, size = source.picture, size_after(source, data, settings)
    if size == picture.size:
        return picture
    if _is_only_cut(source, size):
        return picture.crop((0, 0, *size))
    return picture.resize(size, Image.Resampling.LANCZOS, box=(0.0, 0.0, *_extent(source)))


def size_after(source: Reduced, data: bytes, settings: CropSettings) -> tuple[int, int]:
    """Return the sides of the picture that :func:`reduce_source` returns."""
    return reduced_size(source.size, settings) if is_lossy_source(data) else source.picture.size


def cut_crops(picture: Image.Image, photo: str, content: str, settings: CropSettings) -> list[Crop]:
    """Cut a picture, reduced by :func:`reduce_source`, into at least one crop, in the order of :func:`crop_boxes`.

    Raises:
        DataError: ``reason`` is ``"too-small"``.
    """
    boxes = _boxes_of(picture.size, photo, content, settings)
    is_whole = [box.corners for box in boxes] == [(0, 0, *picture.size)]
    return _crops([picture] if is_whole else [picture.crop(box.corners) for box in boxes], photo, content)


def cut_source(source: Reduced, data: bytes, photo: str, content: str, settings: CropSettings) -> list[Crop]:
    """Return the crops of :func:`cut_crops` of the picture that :func:`reduce_source` returns, equal in every bit.

    Scales only what the crops need where that takes less time. Raises as :func:`cut_crops`.
    """
    size = size_after(source, data, settings)
    boxes = _boxes_of(size, photo, content, settings)
    if size == source.picture.size or _is_only_cut(source, size):
        return cut_crops(reduce_source(source, data, settings), photo, content, settings)
    scaling = Scaling(source.picture, size, _extent(source))
    if not (scaling.rows_first and scaling.is_faster(boxes)):
        return cut_crops(reduce_source(source, data, settings), photo, content, settings)
    return _crops(scaling.parts(boxes), photo, content)


def is_lossy_source(data: bytes) -> bool:
    """True for the bytes of a lossy format: JPEG (MPO too), AVIF, or WebP with a VP8 frame.

    Reads the container only and raises nothing. TIFF and JPEG 2000 count as lossless, whatever they hold.
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


def _boxes_of(size: tuple[int, int], photo: str, content: str, settings: CropSettings) -> list[Box]:
    width, height = size
    if min(size) < settings.min_side_px:
        raise DataError(
            f"{photo}: got {width} x {height} px, expected a shorter side of at least "
            f"{settings.min_side_px} px. Leave it out or lower min_side_px.",
            reason="too-small",
        )
    return crop_boxes(width, height, content=content, settings=settings)


def _crops(parts: Sequence[Image.Image], photo: str, content: str) -> list[Crop]:
    return [
        Crop(f"{content[:16]}-{index:03d}", photo, content, {"x": np.asarray(part)}) for index, part in enumerate(parts)
    ]


def _extent(source: Reduced) -> tuple[float, float]:
    """Return the sides of a source in samples of its decoded picture: the last sample may be part of one."""
    return source.size[0] / source.scale, source.size[1] / source.scale


def _is_only_cut(source: Reduced, size: tuple[int, int]) -> bool:
    """Return True if the decoder did the scaling but for a last sample: another filter would only blur it."""
    sides = zip(source.picture.size, size, strict=True)
    return source.scale > 1 and all(0 <= have - want < 1.5 for have, want in sides)


def _bad_setting(key: str, got: object, expected: str) -> ConfigError:
    return ConfigError(f"{key}: got {got}, expected {expected}. Change it in the configuration.")


def _random_integer(seed: int, content: str, purpose: str) -> int:
    """A uniform integer in [0, 2^64): the first 8 bytes, big-endian, of SHA-256 of the three arguments."""
    digest = hashlib.sha256(f"hfd.crops:{seed}:{content}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _axis(side: int, purpose: str, content: str, settings: CropSettings) -> tuple[int, int, int]:
    """(cell length, number of cells, offset of the first) along one side of ``side`` px."""
    cell = min(side, settings.source_crop_px)
    count = side // cell
    # The bias of the modulus is below 2^-40 for any picture.
    return cell, count, _random_integer(settings.seed, content, purpose) % (side - count * cell + 1)


def _first_webp_frame(data: bytes, offset: int) -> bytes:
    """Return the kind of the first picture chunk at or after ``offset``; ``b""`` if there is none."""
    while len(head := data[offset : offset + 8]) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            return bytes(kind)
        if kind == b"ANMF":
            offset += 24  # into the frame: its 16 bytes of geometry come before its chunks
        else:
            offset += 8 + length + length % 2
    return b""
