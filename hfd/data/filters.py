"""Measures of photographs, and limits that reject bad training data: strong compression, blur, grey, clipping."""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.errors import ConfigError, DataError

# The tables of the JPEG standard (ITU-T T.81, K.1 and K.2), which libjpeg scales by quality; in zigzag order.
# fmt: off
_LUMA = (
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61,
    60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113,
    121, 112, 100, 120, 92, 101, 103, 99,
)
# fmt: on
_SIDE_PX = 256
"""Colourfulness is measured on a picture averaged down to a shorter side of one to two times this."""


@dataclass(frozen=True)
class FilterSettings:
    """Limits of the measures below; None: no limit. ``min_jpeg_quality``, 1 to 100, applies to JPEG alone.

    Raises:
        ConfigError: ``max_aspect_ratio`` below 1.
    """

    min_jpeg_quality: int | None = None
    max_aspect_ratio: float | None = None
    min_colourfulness: float | None = None
    min_sharpness: float | None = None
    max_clipped_share: float | None = None

    def __post_init__(self) -> None:
        if self.max_aspect_ratio is not None and self.max_aspect_ratio < 1.0:
            raise ConfigError(f"max_aspect_ratio: got {self.max_aspect_ratio}, expected at least 1. Change it")

    @property
    def measures_pixels(self) -> bool:
        """True if a limit is of a measure of the pixels."""
        return any(limit is not None for limit in (self.min_colourfulness, self.min_sharpness, self.max_clipped_share))


@dataclass(frozen=True)
class Measures:
    """Measures of a decoded picture; None: not measured."""

    colourfulness: float | None = None
    sharpness: float | None = None
    clipped_share: float | None = None


def jpeg_quality(data: bytes) -> int | None:
    """Estimate the quality, 1 to 100, of a JPEG; None for any other format.

    The estimate is the quality whose luma table, as libjpeg scales it, is nearest in the sum of absolute differences:
    exact for libjpeg's and Pillow's standard tables, the nearest for encoders with tables of their own.
    """
    table = _first_table(data)
    return None if table is None else _nearest_quality(table)


@functools.lru_cache(maxsize=256)  # photographs of one encoder share tables
def _nearest_quality(table: tuple[int, ...]) -> int:
    return 1 + int(np.abs(_scaled_tables() - np.array(table)).sum(axis=1).argmin())


def aspect_ratio(width: int, height: int) -> float:
    """Ratio of the longer to the shorter side."""
    return max(width, height) / min(width, height)


def colourfulness(picture: Image.Image) -> float:
    """Colourfulness of an RGB picture: 0 for grey, about 10 for slight tints, above 30 for most photographs.

    With rg = R - G and yb = (R + G) / 2 - B in levels: sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2)
    (Hasler and Suesstrunk 2003, M3), of the picture averaged down, so that colour noise does not count.
    """
    factor = max(1, min(picture.size) // _SIDE_PX)
    x = np.asarray(picture.reduce(factor), dtype=np.float32)
    rg = x[..., 0] - x[..., 1]
    yb = 0.5 * (x[..., 0] + x[..., 1]) - x[..., 2]
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def sharpness(picture: Image.Image) -> float:
    """Variance of the 4-neighbour Laplacian of 8-bit luma without borders: 0 for flat pictures, low for blur.

    A Gaussian blur of 2 px brings photographs from between 130 and 8,000 to about 8. 0 if a side is below 3 px.
    """
    x = np.asarray(picture.convert("L")).astype(np.int16)
    laplacian = 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]
    if laplacian.size == 0:
        return 0.0
    # Exact in integers, so that the limit means the same on every machine.
    total, squares = int(laplacian.sum(dtype=np.int64)), int(np.square(laplacian, dtype=np.int32).sum(dtype=np.int64))
    return float(squares / laplacian.size - (total / laplacian.size) ** 2)


def clipped_share(picture: Image.Image) -> float:
    """Share in [0, 1] of an RGB picture's samples, over the three channels, that are 0 or 255."""
    counts = picture.histogram()
    return sum(counts[start] + counts[start + 255] for start in (0, 256, 512)) / sum(counts)


def measure(picture: Image.Image, settings: FilterSettings) -> Measures:
    """Compute only the measures that have a limit."""
    return Measures(
        colourfulness(picture) if settings.min_colourfulness is not None else None,
        sharpness(picture) if settings.min_sharpness is not None else None,
        clipped_share(picture) if settings.max_clipped_share is not None else None,
    )


def check_encoding(name: str, quality: int | None, settings: FilterSettings) -> None:
    """Raise :class:`DataError`, reason ``jpeg-quality``, for a JPEG below the lowest quality."""
    _check(name, "an estimated JPEG quality", quality, settings, "min_jpeg_quality", "jpeg-quality")


def check_measures(name: str, size: tuple[int, int], measures: Measures, settings: FilterSettings) -> None:
    """Raise :class:`DataError`, reason ``aspect-ratio``, ``grey``, ``blurred`` or ``clipped``, beyond a limit."""
    _check(name, "an aspect ratio", aspect_ratio(*size), settings, "max_aspect_ratio", "aspect-ratio")
    _check(name, "a colourfulness", measures.colourfulness, settings, "min_colourfulness", "grey")
    _check(name, "a sharpness", measures.sharpness, settings, "min_sharpness", "blurred")
    _check(name, "a clipped share", measures.clipped_share, settings, "max_clipped_share", "clipped")


def _check(name: str, what: str, got: float | None, settings: FilterSettings, setting: str, reason: str) -> None:
    limit = getattr(settings, setting)
    if got is None or limit is None:
        return
    bound, change = ("at least", "lower") if setting.startswith("min") else ("at most", "raise")
    if got < limit if bound == "at least" else got > limit:
        raise DataError(
            f"{name}: got {what} of {got:.4g}, expected {bound} {limit:g}. Leave it out or {change} prepare.{setting}.",
            reason=reason,
        )


def _first_table(data: bytes) -> tuple[int, ...] | None:
    """Quantisation table 0 (luma by convention) of a JPEG in zigzag order; None if there is none."""
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while len(data) >= at + 4 and data[at] == 0xFF and data[at + 1] != 0xDA:  # up to the start of scan
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDB:
            table = _table_zero(data[at + 4 : at + 2 + length])
            if table is not None:
                return table
        at += 2 + length
    return None


def _table_zero(segment: bytes) -> tuple[int, ...] | None:
    at = 0
    while at < len(segment):
        width = 2 if segment[at] >> 4 else 1
        values = segment[at + 1 : at + 1 + 64 * width]
        if segment[at] & 15 == 0 and len(values) == 64 * width:
            return struct.unpack(">64H" if width == 2 else "64B", values)
        at += 1 + 64 * width
    return None


@functools.cache
def _scaled_tables() -> npt.NDArray[np.int64]:
    """The luma table at each quality, (100, 64): libjpeg's ``jpeg_quality_scaling``, clamped to a byte."""
    qualities = np.arange(1, 101)
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables: npt.NDArray[np.int64] = np.clip((np.array(_LUMA)[None, :] * scale[:, None] + 50) // 100, 1, 255)
    return tables
