"""The payload's layout: bands, streams, lengths, and wrong lengths."""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest

from hfd.autoencoder.streams import StreamLayout, StreamReader, StreamWriter, bands_of
from hfd.errors import BitstreamError

LISTS = ([[0, 20000, 40000, 60000, 65536]], [5], [-1])
"""Symbols -1, 0 and 1, and the escape."""

SPLIT = StreamLayout(groups=(2, 4), hyper_symbols=6, bands=((0, 4), (4, 8), (8, 12)), width=4)
SINGLE = StreamLayout(groups=(2, 4), hyper_symbols=6, bands=((0, 12),), width=4)


@pytest.mark.parametrize(
    ("height", "width"), [(4, 4), (32, 48), (1252, 1252), (4, 2**20), (2**14, 4), (180, 184), (184, 180)]
)
def test_bands_cover_the_latent_in_multiples_of_four(height: int, width: int) -> None:
    bands = bands_of(height, width)
    assert bands[0][0] == 0 and bands[-1][1] == height
    assert all(one[1] == other[0] for one, other in pairwise(bands))
    assert all(first % 4 == 0 and last > first for first, last in bands)
    assert all((last - first) * width <= 2**15 or last - first == 4 for first, last in bands)
    assert (len(bands) == 1) is (height * width <= 2**15 or height == 4)


def test_every_part_has_a_stream_of_its_own() -> None:
    streams = [SPLIT.stream(k, phase, band) for k in (0, 1) for phase in (0, 1) for band in range(3)]
    assert streams == list(range(1, 13))
    assert SPLIT.sizes() == [6] + [2 * 4 * 4 // 2] * 6 + [4 * 4 * 4 // 2] * 6
    assert {SINGLE.stream(k, phase, 0) for k in (0, 1) for phase in (0, 1)} == {0}
    assert SINGLE.sizes() == [6 + 6 * 12 * 4] == [sum(SPLIT.sizes())]


def parts(layout: StreamLayout) -> list[tuple[int, list[int]]]:
    """Symbols of z and of each part, in the order of a traversal: a band's rest after the next band's anchors."""
    rng = random.Random(0)
    order, bands = [(0, layout.hyper_symbols)], layout.bands
    for k, channels in enumerate(layout.groups):
        steps = [(0, 0)]
        for band in range(1, len(bands)):
            steps += [(0, band), (1, band - 1)]
        for phase, band in [*steps, (1, len(bands) - 1)]:
            first, last = bands[band]
            order.append((layout.stream(k, phase, band), channels * (last - first) * layout.width // 2))
    return [(stream, [rng.choice([-1, 0, 1, 5, -300]) for _ in range(count)]) for stream, count in order]


def written(layout: StreamLayout) -> bytes:
    writer = StreamWriter(layout)
    for stream, symbols in parts(layout):
        writer.add(stream, symbols, [0] * len(symbols), LISTS)
    return writer.finish()


@pytest.mark.parametrize("layout", [SPLIT, SINGLE])
def test_written_streams_are_read_back(layout: StreamLayout) -> None:
    reader = StreamReader(written(layout), layout)
    for stream, symbols in parts(layout):
        assert reader.take(stream, [0] * len(symbols), LISTS) == symbols


def test_lengths_of_the_streams_come_first() -> None:
    payload = written(SPLIT)
    lengths = struct.unpack_from("<13I", payload)
    assert sum(lengths) + 52 == len(payload) and all(length >= 4 and length % 4 == 0 for length in lengths)


def test_lengths_that_lie_are_refused() -> None:
    payload = written(SPLIT)
    for size in (*range(52), *range(52, len(payload), 7), len(payload) - 1):
        with pytest.raises(BitstreamError, match="damaged"):
            StreamReader(payload[:size], SPLIT)
    with pytest.raises(BitstreamError, match="damaged"):
        StreamReader(payload + b"\0" * 4, SPLIT)
    first, second = struct.unpack_from("<2I", payload)
    for forged in ((first + 1, second - 1), (first + second, 0), (2**32 - 4, second), (first + 400, second)):
        with pytest.raises(BitstreamError, match="damaged"):
            StreamReader(struct.pack("<2I", *forged) + payload[8:], SPLIT)
