"""The entropy-coded payload: the rANS streams and their symbols.

A latent (M, H, W) is coded by bands of rows, ``max(4, 4 floor(2^13 / W))`` each. One band: the payload is one rANS
stream of z and then, for each channel group, of the anchors and of the rest. Several bands: each of these, per band,
is a stream of its own, so that neither side holds all symbols at once. The payload then begins with the streams'
lengths in bytes (uint32, little-endian), in the order z; group 0: anchors of bands 0, 1, ..., the rest of bands 0, 1,
...; group 1; and so on; the streams follow in that order.

Symbols of a stream are in raster order of positions, with all channels of a position together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hfd.autoencoder.rans import rans
from hfd.errors import BitstreamError

BAND_POSITIONS = 2**15
"""Positions of the latent in a band, 8.4 megapixels, unless four rows hold more."""

Lists = tuple[list[list[int]], list[int], list[int]]
"""Cumulative frequencies, lengths and offsets, for the coder."""

_LENGTH = struct.Struct("<I")


def bands_of(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Rows, first and last (exclusive), of the bands of a latent; sides are multiples of 4."""
    rows = max(4, 4 * (BAND_POSITIONS // 4 // width))
    return tuple((first, min(first + rows, height)) for first in range(0, height, rows))


@dataclass(frozen=True)
class StreamLayout:
    """The streams of a latent of these channel ``groups``, ``bands`` of rows and ``width``; ``hyper_symbols``: of z."""

    groups: tuple[int, ...]
    hyper_symbols: int
    bands: tuple[tuple[int, int], ...]
    width: int

    @property
    def is_split(self) -> bool:
        return len(self.bands) > 1

    def stream(self, k: int, phase: int, band: int) -> int:
        """Index of the stream of a part; that of z is 0."""
        return 1 + (2 * k + phase) * len(self.bands) + band if self.is_split else 0

    def sizes(self) -> list[int]:
        """Number of symbols of each stream."""
        parts = [
            channels * (last - first) * self.width // 2
            for channels in self.groups
            for _ in range(2)
            for first, last in self.bands
        ]
        return [self.hyper_symbols, *parts] if self.is_split else [self.hyper_symbols + sum(parts)]


class StreamWriter:
    """Collects a payload; add parts in the order of the traversal."""

    def __init__(self, layout: StreamLayout) -> None:
        self._layout = layout
        self._encoder = rans().BufferedRansEncoder()
        self._streams: dict[int, bytes] = {}

    def add(self, stream: int, symbols: list[int], indexes: list[int], lists: Lists) -> None:
        self._encoder.encode_with_indexes(symbols, indexes, *lists)
        if self._layout.is_split:
            self._streams[stream] = self._encoder.flush()

    def finish(self) -> bytes:
        if not self._layout.is_split:
            payload: bytes = self._encoder.flush()
            return payload
        streams = [self._streams[i] for i in range(len(self._streams))]
        return b"".join([*(_LENGTH.pack(len(stream)) for stream in streams), *streams])


class StreamReader:
    """Reads a payload. Raises :class:`BitstreamError` for impossible lengths."""

    def __init__(self, payload: bytes, layout: StreamLayout) -> None:
        sizes = layout.sizes()
        streams = _split(payload, len(sizes)) if layout.is_split else [payload]
        for stream, num_symbols in zip(streams, sizes, strict=True):
            _check_length(len(stream), num_symbols)
        self._streams, self._sizes = streams, sizes
        self._open: tuple[int, Any] = (-1, rans().RansDecoder())

    def take(self, stream: int, indexes: list[int], lists: Lists) -> list[int]:
        """Decode the next symbols of a stream, one for each index."""
        if self._open[0] != stream:
            data = self._streams[stream]
            decoder = rans().RansDecoder()
            # rANS reads without a bound; zeros after the end keep a damaged stream inside memory.
            decoder.set_stream(data + bytes(_overrun_bytes(self._sizes[stream], len(data))))
            self._open = stream, decoder
        symbols: list[int] = self._open[1].decode_stream(indexes, *lists)
        return symbols


def _split(payload: bytes, count: int) -> Sequence[bytes]:
    start = _LENGTH.size * count
    lengths = [length for (length,) in _LENGTH.iter_unpack(payload[:start])] if len(payload) >= start else []
    if len(payload) != start + sum(lengths) or not lengths:
        raise BitstreamError(
            f"payload: got {len(payload)} bytes, expected {start} and {sum(lengths)} in {count} streams. "
            "The file is damaged"
        )
    streams = []
    for length in lengths:
        streams.append(payload[start : start + length])
        start += length
    return streams


def _check_length(num_bytes: int, num_symbols: int) -> None:
    if num_bytes < 4 or num_bytes % 4:
        raise BitstreamError(f"payload: got {num_bytes} bytes, expected a positive multiple of 4. The file is damaged")
    if num_bytes > _longest_bytes(num_symbols):
        raise BitstreamError(
            f"payload: got {num_bytes} bytes, expected at most {_longest_bytes(num_symbols)} "
            f"for {num_symbols} symbols. The file is damaged"
        )


def _longest_bytes(num_symbols: int) -> int:
    # A symbol takes at most 16 bits, an escape 36 more (a count and eight nibbles); the state takes 8 bytes.
    return 8 * num_symbols + 8


def _overrun_bytes(num_symbols: int, payload_bytes: int) -> int:
    """Bytes that the decoder may read after the end of a damaged stream.

    Each nibble of an escape can require 15 more nibbles. After the end, where it reads zeros, a symbol takes at most 2
    bytes, or 72 if it is an escape, with a probability of about 2^-16.
    """
    return 16 * payload_bytes + 4 * num_symbols + 4096
