"""JPEG, WebP and AVIF as Pillow writes them, and the search for the quality that meets a file size."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image, features

from hfd.errors import ConfigError, DataError
from hfd.image.load import RgbArray, load_rgb

_SaveOptions: TypeAlias = dict[str, int | str | bool]

_NEIGHBOURS = 2
"""How many qualities on each side of the one found are tried too, since file size is not quite monotone."""


@dataclass(frozen=True)
class Encoded:
    """A finished file and the quality that made it."""

    data: bytes
    quality: int


class Baseline(Protocol):
    """A lossy codec with one quality knob; a higher quality is meant to give a larger file."""

    @property
    def name(self) -> str:
        """How tables and configurations call it."""

    @property
    def qualities(self) -> range:
        """The qualities it takes, rising."""

    def encode(self, x: RgbArray, quality: int) -> bytes:
        """Code uint8 (H, W, 3) sRGB as one finished file, without metadata.

        Raises:
            ConfigError: ``quality`` is not one of ``qualities``.
            DataError: the format cannot hold a picture of this size (``reason="codec-limit"``).
            ValueError: ``x`` has another shape or dtype.
        """

    def decode(self, data: bytes) -> RgbArray:
        """Read a file back as uint8 (H, W, 3) sRGB.

        Raises:
            DataError: ``data`` is no whole picture; for its reasons see `hfd.image.load.load_rgb`.
        """


@dataclass(frozen=True)
class Jpeg:
    """libjpeg-turbo: optimised Huffman tables, 4:2:0, sequential or progressive, whichever is smaller.

    Progressive scans cost up to a tenth at low rates and gain a little at high ones. Pillow advises against
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
    """libavif, 4:2:0, one thread and one tile.

    The number of threads changes the file, so it is fixed, and tiles would only cost bits. ``speed`` 6 is
    libavif's default. Against 4 it takes a fifth of the time and loses about 0.2 dB at equal bytes; 8 loses
    another 0.3 dB.
    """

    name: str = "avif"
    qualities: range = range(0, 101)
    speed: int = 6

    def encode(self, x: RgbArray, quality: int) -> bytes:
        """See `Baseline.encode`."""
        options: _SaveOptions = {
            "speed": self.speed,
            "subsampling": "4:2:0",
            "max_threads": 1,
            "autotiling": False,
        }
        return _save(self, x, quality, options)

    def decode(self, data: bytes) -> RgbArray:
        """See `Baseline.decode`."""
        return load_rgb(data, name=self.name)


BASELINES: tuple[Baseline, ...] = (Jpeg(), WebP(), Avif())

_PILLOW_FEATURE = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}


def available_baselines() -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
    """Split `BASELINES` by what this build of Pillow can do.

    Returns:
        The codecs it has, and the names of those it lacks, for the caller to report.
    """
    present = tuple(baseline for baseline in BASELINES if features.check(_PILLOW_FEATURE[baseline.name]))
    return present, tuple(baseline.name for baseline in BASELINES if baseline not in present)


def bracket_rate(baseline: Baseline, x: RgbArray, target_bytes: int) -> tuple[Encoded | None, Encoded | None]:
    """Find the files on both sides of a size: the largest up to ``target_bytes``, the smallest from it on.

    Bisection over the quality, as if file size rose with it, then every quality within 2 of the place found:
    the small steps back that real codecs make are repaired, larger ones are not. About 11 encodings of 101
    qualities. Among files of one size the highest quality counts.

    Args:
        baseline: the codec.
        x: uint8 (H, W, 3) sRGB.
        target_bytes: the size of file wanted, at least 1.

    Returns:
        (at most, at least); the same file twice when the size is met exactly; None on a side that the codec
        cannot reach.

    Raises:
        ConfigError: ``target_bytes`` is below 1.
        DataError: see `Baseline.encode`.
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

    # Invariant: all of [0, low) are taken to be at most the target, all of [high, end) to be above it.
    low, high = 0, len(qualities)
    while low < high:
        middle = (low + high) // 2
        if size(middle) <= target_bytes:
            low = middle + 1
        else:
            high = middle
    for index in range(max(0, low - 1 - _NEIGHBOURS), min(len(qualities), low + 1 + _NEIGHBOURS)):
        size(index)
    below = [e for e in tried.values() if len(e.data) <= target_bytes]
    above = [e for e in tried.values() if len(e.data) >= target_bytes]
    return (
        max(below, key=lambda e: (len(e.data), e.quality), default=None),
        min(above, key=lambda e: (len(e.data), -e.quality), default=None),
    )


def _save(baseline: Baseline, x: RgbArray, quality: int, options: _SaveOptions) -> bytes:
    qualities = baseline.qualities
    if quality not in qualities:
        raise ConfigError(
            f"{baseline.name} quality: got {quality}, expected {qualities[0]} to {qualities[-1]}. Choose one of these."
        )
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
        raise ValueError(f"x: got {x.dtype} {x.shape}, expected uint8 (H, W, 3)")
    buffer = io.BytesIO()
    try:
        Image.fromarray(x).save(buffer, baseline.name.upper(), quality=quality, **options)
    # Each encoder says in a type of its own that a side is beyond what its format can count.
    except (OSError, ValueError, RuntimeError, SystemError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{baseline.name}: got {x.shape[1]} x {x.shape[0]} px ({reason}), expected a size that the "
            "format can hold. Cut the picture.",
            reason="codec-limit",
        ) from error
    return buffer.getvalue()
