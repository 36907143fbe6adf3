"""JPEG, WebP and AVIF by Pillow, and the search for the quality of a file size."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image, features

from hfd.errors import ConfigError, DataError
from hfd.image.load import RgbArray, load_rgb

_SaveOptions: TypeAlias = dict[str, int | str | bool]

NEIGHBOURS = 2
"""Qualities to try on each side of the result, since file size is not quite monotone."""


_JPEG_MAX_SIDE_PX = 65_500


@dataclass(frozen=True)
class Encoded:
    """A file and its quality."""

    data: bytes
    quality: int


class Baseline(Protocol):
    """A lossy codec with a quality; a later one of ``qualities`` should give a larger file."""

    @property
    def name(self) -> str:
        """Name in tables and configurations."""

    @property
    def qualities(self) -> range:
        """Valid qualities, from that of the smallest file to that of the largest."""

    def encode(self, x: RgbArray, quality: int) -> bytes:
        """Encode uint8 (H, W, 3) sRGB as a file without metadata.

        Raises:
            ConfigError: ``quality`` is not one of ``qualities``.
            DataError: the format cannot hold a picture of this size (``reason="codec-limit"``).
            ValueError: ``x`` has another shape or dtype.
        """

    def decode(self, data: bytes) -> RgbArray:
        """Decode a file to uint8 (H, W, 3) sRGB. Raises as :func:`hfd.image.load.load_rgb`."""


@dataclass(frozen=True)
class Jpeg:
    """libjpeg-turbo: optimised Huffman tables, 4:2:0, the smaller of sequential and progressive.

    Progressive files are up to a tenth larger at low rates and slightly smaller at high ones. Pillow advises against
    qualities above 95.
    """

    name: str = "jpeg"
    qualities: range = range(1, 96)

    def encode(self, x: RgbArray, quality: int) -> bytes:
        """See `Baseline.encode`."""
        options: _SaveOptions = {"optimize": True, "subsampling": "4:2:0"}
        files = [_save(self, x, quality, {**options, "progressive": scans}) for scans in (False, True)]
        return min(files, key=len)

    def decode(self, data: bytes) -> RgbArray:
        """See `Baseline.decode`."""
        return load_rgb(data, name=self.name)


@dataclass(frozen=True)
class WebP:
    """libwebp, lossy (always 4:2:0), at its slowest and best method, 6."""

    name: str = "webp"
    qualities: range = range(0, 101)

    def encode(self, x: RgbArray, quality: int) -> bytes:
        """See `Baseline.encode`."""
        return _save(self, x, quality, {"method": 6, "lossless": False})

    def decode(self, data: bytes) -> RgbArray:
        """See `Baseline.decode`."""
        return load_rgb(data, name=self.name)


@dataclass(frozen=True)
class Avif:
    """libavif, 4:2:0, one thread, since their number changes the file, and one tile.

    ``speed`` 6 is libavif's default. Against 4 it takes a fifth of the time and loses about 0.2 dB at equal bytes; 8
    loses another 0.3 dB.
    """

    name: str = "avif"
    qualities: range = range(0, 101)
    speed: int = 6

    def encode(self, x: RgbArray, quality: int) -> bytes:
        """See `Baseline.encode`."""
        one_thread: _SaveOptions = {"max_threads": 1, "autotiling": False}
        return _save(self, x, quality, {"speed": self.speed, "subsampling": "4:2:0", **one_thread})

    def decode(self, data: bytes) -> RgbArray:
        """See `Baseline.decode`."""
        return load_rgb(data, name=self.name)


BASELINES: tuple[Baseline, ...] = (Jpeg(), WebP(), Avif())

_PILLOW_FEATURE = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}


def available_baselines() -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
    """Split `BASELINES` into the codecs of this build of Pillow and the names of the missing ones."""
    present = tuple(baseline for baseline in BASELINES if features.check(_PILLOW_FEATURE[baseline.name]))
    return present, tuple(baseline.name for baseline in BASELINES if baseline not in present)


def bracket_rate(baseline: Baseline, x: RgbArray, target_bytes: int) -> tuple[Encoded | None, Encoded | None]:
    """Find the largest file of at most ``target_bytes`` and the smallest of at least ``target_bytes``.

    Bisection over the quality, then all qualities within 2 of the result, which corrects small deviations from a
    monotone file size. About 11 encodings of 101 qualities. Among files of one size, the last quality wins.

    ``x``: uint8 (H, W, 3) sRGB. Returns (at most, at least): the same file twice for an exact size; None for a side
    that the codec cannot reach. Raises :class:`ConfigError` for ``target_bytes`` below 1, and as `Baseline.encode`.
    """
    if target_bytes < 1:
        raise ConfigError(f"target_bytes: got {target_bytes}, expected at least 1. Give a file size.")
    qualities = baseline.qualities
    tried: dict[int, Encoded] = {}

    def size(index: int) -> int:
        if index not in tried:
            quality = qualities[index]
            tried[index] = Encoded(baseline.encode(x, quality), quality)
        return len(tried[index].data)

    # Invariant: sizes of [0, low) are at most the target, those of [high, end) above it, if monotone.
    low, high = 0, len(qualities)
    while low < high:
        middle = (low + high) // 2
        if size(middle) <= target_bytes:
            low = middle + 1
        else:
            high = middle
    for index in range(max(0, low - 1 - NEIGHBOURS), min(len(qualities), low + 1 + NEIGHBOURS)):
        size(index)
    below = [e for e in tried.values() if len(e.data) <= target_bytes]
    above = [e for e in tried.values() if len(e.data) >= target_bytes]
    return (
        max(below, key=lambda e: (len(e.data), qualities.index(e.quality)), default=None),
        min(above, key=lambda e: (len(e.data), -qualities.index(e.quality)), default=None),
    )


def _save(baseline: Baseline, x: RgbArray, quality: int, options: _SaveOptions) -> bytes:
    qualities = baseline.qualities
    if quality not in qualities:
        raise ConfigError(
            f"{baseline.name} quality: got {quality}, expected {qualities[0]} to {qualities[-1]}. Choose one of these."
        )
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
        raise ValueError(f"x: got {x.dtype} {x.shape}, expected uint8 (H, W, 3)")
    height, width = x.shape[:2]
    # libjpeg prints a line of its own for a larger side.
    if baseline.name == "jpeg" and max(height, width) > _JPEG_MAX_SIDE_PX:
        raise DataError(
            f"jpeg: got {width} x {height} px, expected at most {_JPEG_MAX_SIDE_PX} px a side. Cut the picture.",
            reason="codec-limit",
        )
    buffer = io.BytesIO()
    try:
        Image.fromarray(x).save(buffer, baseline.name.upper(), quality=quality, **options)
    # Each encoder has its own exception for a side beyond its format.
    except (OSError, ValueError, RuntimeError, SystemError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{baseline.name}: got {x.shape[1]} x {x.shape[0]} px ({reason}), expected a size that the "
            "format can hold. Cut the picture.",
            reason="codec-limit",
        ) from error
    return buffer.getvalue()
