"""The ``.hfd`` container: what is packed is unpacked, and nothing else is."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.codec.container import LATENTS, MAX_SIDE_PX, MODEL_BYTES, Container, pack, unpack
from hfd.errors import BitstreamError

SIDES = st.integers(1, MAX_SIDE_PX)
MODELS = st.binary(min_size=MODEL_BYTES, max_size=MODEL_BYTES)
CHECKSUMS = st.integers(0, 2**32 - 1)
OPTIONAL = st.dictionaries(st.integers(128, 255), st.binary(max_size=300), max_size=4)

SMALL = Container(768, 512, b"\xde\xad\xbe\xef", 0x12345678, {LATENTS: b"payload"})
GOLDEN = bytes.fromhex(
    "89484644"  # magic
    "01"  # version
    "deadbeef"  # model
    "8006"  # width 768
    "8004"  # height 512
    "78563412"  # checksum of symbols
    "07"  # length of the latents
    "7061796c6f6164"  # "payload"
)
HEADER = GOLDEN[:17]
"""Up to and with the checksum; the latents follow."""


def _sealed(body: bytes) -> bytes:
    """A body with the CRC32 that belongs to it, as a forger would make it."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def _refusal(data: bytes) -> str:
    with pytest.raises(BitstreamError) as error:
        unpack(data)
    message = str(error.value)
    assert "\n" not in message
    return message


@given(SIDES, SIDES, MODELS, CHECKSUMS, st.binary(max_size=2000), OPTIONAL)
def test_round_trip(
    width: int, height: int, model: bytes, checksum: int, latents: bytes, optional: dict[int, bytes]
) -> None:
    container = Container(width, height, model, checksum, {LATENTS: latents, **optional})
    assert unpack(pack(container)) == container


def test_golden_bytes() -> None:
    """Files written by earlier releases stay readable: this layout is version 1 for good."""
    assert pack(SMALL) == GOLDEN + bytes.fromhex("558b6b86")
    assert unpack(GOLDEN + bytes.fromhex("558b6b86")) == SMALL


def test_sections_are_written_in_the_order_of_tags() -> None:
    one = Container(1, 1, bytes(4), 0, {200: b"b", LATENTS: b"a", 130: b"c"})
    other = Container(1, 1, bytes(4), 0, {LATENTS: b"a", 130: b"c", 200: b"b"})
    assert pack(one) == pack(other)
    assert list(unpack(pack(one)).sections) == [LATENTS, 130, 200]


def test_overhead_of_a_plain_file_is_at_most_24_bytes() -> None:
    for payload_bytes, overhead_bytes in [(100, 22), (1000, 23), (16_383, 23), (16_384, 24), (200_000, 24)]:
        data = pack(Container(768, 512, bytes(4), 2**32 - 1, {LATENTS: bytes(payload_bytes)}))
        assert len(data) - payload_bytes == overhead_bytes


@pytest.mark.parametrize("side", [1, 127, 128, 16_383, 16_384, MAX_SIDE_PX])
def test_sides_at_the_edges_of_a_varint(side: int) -> None:
    container = Container(side, side, bytes(4), 0, {LATENTS: b""})
    assert unpack(pack(container)) == container


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(len(GOLDEN) + 4))
def test_truncation_at_every_byte_is_refused(length: int) -> None:
    message = _refusal(pack(SMALL)[:length])
    assert "no .hfd file" in message if length < 4 else "truncated or damaged" in message


@pytest.mark.parametrize("byte", range(len(GOLDEN) + 4))
def test_every_single_bit_flip_is_refused(byte: int) -> None:
    for bit in range(8):
        data = bytearray(pack(SMALL))
        data[byte] ^= 1 << bit
        message = _refusal(bytes(data))
        words = "no .hfd file" if byte < 4 else "version: got" if byte == 4 else "CRC32: does not match"
        assert words in message


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_container(data: bytes) -> None:
    _refusal(data)
    _refusal(GOLDEN[:5] + data)


@given(st.binary(max_size=40))
def test_forged_bodies_are_refused_or_read_back_the_same(tail: bytes) -> None:
    """With the CRC made to fit, what is accepted is exactly what pack writes: no file has two spellings."""
    data = _sealed(HEADER + tail)
    try:
        container = unpack(data)
    except BitstreamError as error:
        assert "\n" not in str(error)
    else:
        assert pack(container) == data


@pytest.mark.parametrize("data", [b"", b"\x89", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff\xe0" + bytes(50)])
def test_a_foreign_file_is_called_one(data: bytes) -> None:
    assert "no .hfd file" in _refusal(data)


def test_another_version_asks_for_another_release() -> None:
    message = _refusal(_sealed(GOLDEN[:4] + b"\x02" + GOLDEN[5:]))
    assert message == "version: got 2, expected 1. Use the hfd release that wrote it"


# --- forgeries whose CRC fits --------------------------------------------------------------------


@pytest.mark.parametrize("tag", [1, 3, 64, 127])
def test_an_unknown_tag_below_128_makes_a_file_unreadable(tag: int) -> None:
    message = _refusal(_sealed(GOLDEN + bytes([tag, 1]) + b"y"))
    assert message == f"section: got tag {tag}, expected 128 to 255. Use a newer hfd"


@pytest.mark.parametrize("tag", [128, 200, 255])
def test_an_unknown_tag_from_128_on_does_not(tag: int) -> None:
    container = unpack(_sealed(GOLDEN + bytes([tag, 1]) + b"y"))
    assert container.sections[LATENTS] == b"payload"
    assert (container.width, container.height) == (768, 512)


@pytest.mark.parametrize(("first", "second"), [(200, 130), (200, 200), (130, 1), (130, 0)])
def test_tags_ascend_and_come_once(first: int, second: int) -> None:
    body = GOLDEN + bytes([first, 1]) + b"a" + bytes([second, 1]) + b"b"
    assert f"got tag {second} after {first}, expected ascending tags" in _refusal(_sealed(body))


def test_latents_are_required() -> None:
    assert "truncated" in _refusal(_sealed(HEADER))


@pytest.mark.parametrize(
    "width",
    [b"\x80\x00", b"\x81\x00", b"\x80\x86\x00", b"\xff\x80\x80\x00"],
)
def test_a_number_has_one_form(width: bytes) -> None:
    body = GOLDEN[:9] + width + GOLDEN[11:]
    assert "padded number, expected its shortest form" in _refusal(_sealed(body))


def test_a_padded_section_length_is_refused() -> None:
    assert "padded number" in _refusal(_sealed(HEADER + b"\x81\x00x"))
    assert "padded number" in _refusal(_sealed(GOLDEN + b"\x80\x81\x00x"))


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (b"\x00", "width: got 0, expected 1 to 16777215"),
        (b"\x80\x80\x80\x08", "width: got 16777216, expected 1 to 16777215"),
        (b"\xff" * 7 + b"\x7f", "width: got 72057594037927935"),
        (b"\xff" * 30, "more than 8 bytes"),
    ],
)
def test_a_forged_width_is_refused(width: bytes, words: str) -> None:
    assert words in _refusal(_sealed(GOLDEN[:9] + width + GOLDEN[11:]))


def test_a_forged_height_is_refused() -> None:
    assert "height: got 0" in _refusal(_sealed(GOLDEN[:11] + b"\x00" + GOLDEN[13:]))


@pytest.mark.parametrize("length", [b"\x08", b"\x7f", b"\xff\xff\xff\xff\x0f", b"\xff" * 7 + b"\x7f"])
def test_a_section_longer_than_the_file_is_refused_before_memory_is_taken(length: bytes) -> None:
    assert "The file is truncated" in _refusal(_sealed(HEADER + length + b"payload"))
    assert "The file is truncated" in _refusal(_sealed(GOLDEN + b"\x80" + length + b"payload"))


@pytest.mark.parametrize("tail", [b"\x00", b"\x00" * 12, b"abc", b"\x01", b"\x80", b"\xff\xff"])
def test_bytes_behind_the_end_are_refused(tail: bytes) -> None:
    _refusal(_sealed(GOLDEN + tail))
    assert "CRC32" in _refusal(pack(SMALL) + tail)


def test_a_latent_too_short_by_a_byte_is_refused() -> None:
    assert "truncated" in _refusal(_sealed(GOLDEN[:-1]))


def test_a_section_may_hold_anything() -> None:
    payload = pack(SMALL) + b"\x00" * 10 + bytes(range(256))
    container = Container(1, 1, bytes(4), 0, {LATENTS: payload})
    assert unpack(pack(container)).sections[LATENTS] == payload


# --- our own mistakes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "container",
    [
        Container(0, 1, bytes(4), 0, {LATENTS: b""}),
        Container(1, 2**24, bytes(4), 0, {LATENTS: b""}),
        Container(1, 1, bytes(3), 0, {LATENTS: b""}),
        Container(1, 1, bytes(4), 0, {LATENTS: b"", -1: b""}),
        Container(1, 1, bytes(4), 0, {}),
        Container(1, 1, bytes(4), 0, {200: b""}),
        Container(1, 1, bytes(4), 0, {LATENTS: b"", 256: b""}),
    ],
)
def test_what_cannot_be_read_is_not_written(container: Container) -> None:
    with pytest.raises(AssertionError):
        pack(container)
