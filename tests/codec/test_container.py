"""The ``.hfd`` container: what is packed is unpacked, and nothing else is."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.codec.container import LATENTS, MAX_SIDE_PX, MODEL_BYTES, Container, check_size, pack, unpack
from hfd.errors import BitstreamError, DataError

SIDES = st.integers(1, MAX_SIDE_PX) | st.integers(1, 70_000)
MODELS = st.binary(min_size=MODEL_BYTES, max_size=MODEL_BYTES)
RATES = st.integers(0, 255)
CHECKSUMS = st.integers(0, 2**32 - 1)
OPTIONAL = st.dictionaries(st.integers(128, 255), st.binary(max_size=300), max_size=4)

SMALL = Container(768, 512, b"\xde\xad\xbe\xef", 128, 0x12345678, {LATENTS: b"payload"})
GOLDEN = bytes.fromhex(
    "89484644"  # magic
    "02"  # version
    "05"  # layout: two bytes of width, two of height, no sections, colour 0
    "deadbeef"  # model
    "80"  # rate 128
    "ff02"  # width 768
    "ff01"  # height 512
    "78563412"  # checksum of symbols
    "7061796c6f6164"  # "payload"
)
HEADER = GOLDEN[:19]
"""Up to and with the checksum; the latents follow."""
SECTIONED = HEADER[:5] + b"\x15" + HEADER[6:]
"""The same for a file with optional sections, which follow."""


def _sealed(body: bytes) -> bytes:
    """A body with the CRC32 that belongs to it, as a forger would make it."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def _refusal(data: bytes) -> str:
    with pytest.raises(BitstreamError) as error:
        unpack(data)
    message = str(error.value)
    assert "\n" not in message
    return message


@given(SIDES, SIDES, MODELS, RATES, CHECKSUMS, st.binary(max_size=2000), OPTIONAL)
def test_round_trip(
    width: int, height: int, model: bytes, rate: int, checksum: int, latents: bytes, optional: dict[int, bytes]
) -> None:
    container = Container(width, height, model, rate, checksum, {LATENTS: latents, **optional})
    assert unpack(pack(container)) == container


def test_golden_bytes() -> None:
    """Files written by earlier releases stay readable: this layout is version 2 for good."""
    assert pack(SMALL) == GOLDEN + bytes.fromhex("e37d9d6a")
    assert unpack(GOLDEN + bytes.fromhex("e37d9d6a")) == SMALL


def test_sections_are_written_in_the_order_of_tags_and_the_latents_last() -> None:
    one = Container(1, 1, bytes(4), 128, 0, {200: b"b", LATENTS: b"a", 130: b"c"})
    other = Container(1, 1, bytes(4), 128, 0, {LATENTS: b"a", 130: b"c", 200: b"b"})
    assert pack(one) == pack(other)
    assert list(unpack(pack(one)).sections) == [LATENTS, 130, 200]
    assert pack(one)[17:-4] == b"\x82\x01c" + b"\xc8\x01b" + b"\x00" + b"a"


@pytest.mark.parametrize(
    ("side", "overhead_bytes"), [(1, 21), (256, 21), (257, 23), (768, 23), (65_536, 23), (65_537, 25), (2**24, 25)]
)
@pytest.mark.parametrize("payload_bytes", [0, 100, 16_384, 200_000, 5_000_000])
def test_overhead_of_a_plain_file_is_at_most_24_bytes(side: int, overhead_bytes: int, payload_bytes: int) -> None:
    data = pack(Container(side, side, bytes(4), 255, 2**32 - 1, {LATENTS: bytes(payload_bytes)}))
    assert len(data) - payload_bytes == overhead_bytes
    assert overhead_bytes <= 24 or side > 2**16


@pytest.mark.parametrize("side", [1, 256, 257, 65_536, 65_537, MAX_SIDE_PX])
def test_sides_at_the_edges_of_their_bytes(side: int) -> None:
    for width, height in ((side, 1), (1, side), (side, side)):
        container = Container(width, height, bytes(4), 128, 0, {LATENTS: b""})
        assert unpack(pack(container)) == container


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(len(GOLDEN) + 4))
def test_truncation_at_every_byte_is_refused(length: int) -> None:
    message = _refusal(pack(SMALL)[:length])
    words = "got no bytes" if length == 0 else "not an .hfd file" if length < 4 else "truncated or damaged"
    assert words in message


@pytest.mark.parametrize("byte", range(len(GOLDEN) + 4))
def test_every_single_bit_flip_is_refused(byte: int) -> None:
    for bit in range(8):
        data = bytearray(pack(SMALL))
        data[byte] ^= 1 << bit
        message = _refusal(bytes(data))
        words = "not an .hfd file" if byte < 4 else "version: got" if byte == 4 else "CRC32: does not match"
        assert words in message


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_container(data: bytes) -> None:
    _refusal(data)
    _refusal(GOLDEN[:5] + data)


@given(st.binary(max_size=60))
def test_forged_bodies_are_refused_or_read_back_the_same(tail: bytes) -> None:
    """With a matching CRC, an accepted file is exactly the output of pack: no content has two encodings."""
    for head in (GOLDEN[:5], GOLDEN[:10], HEADER, SECTIONED, SECTIONED + b"\x80"):
        data = _sealed(head + tail)
        try:
            container = unpack(data)
        except BitstreamError as error:
            assert "\n" not in str(error)
        else:
            assert pack(container) == data


def test_an_empty_file_is_called_one() -> None:
    assert _refusal(b"") == "file: got no bytes, expected an .hfd file. Fetch it again"


@pytest.mark.parametrize("data", [b"\x89", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff\xe0" + bytes(50)])
def test_a_foreign_file_is_called_one(data: bytes) -> None:
    assert "not an .hfd file" in _refusal(data)


def test_another_version_asks_for_another_release() -> None:
    first = _refusal(_sealed(GOLDEN[:4] + b"\x01" + GOLDEN[5:]))
    assert first == "version: got version 1, expected version 2. Use the hfd release that wrote it"
    third = _refusal(_sealed(GOLDEN[:4] + b"\x03" + GOLDEN[5:]))
    assert third == "version: got version 3, expected version 2. Use a newer hfd"


# --- forgeries whose CRC fits --------------------------------------------------------------------


@pytest.mark.parametrize("tag", [1, 3, 64, 127])
def test_an_unknown_tag_below_128_makes_a_file_unreadable(tag: int) -> None:
    message = _refusal(_sealed(SECTIONED + bytes([tag, 1]) + b"y" + b"\x00payload"))
    assert message == f"section: got tag {tag}, expected 128 to 255. Use a newer hfd"


@pytest.mark.parametrize("tag", [128, 200, 255])
def test_an_unknown_tag_from_128_on_does_not(tag: int) -> None:
    container = unpack(_sealed(SECTIONED + bytes([tag, 1]) + b"y" + b"\x00payload"))
    assert container.sections[LATENTS] == b"payload"
    assert (container.width, container.height) == (768, 512)


@pytest.mark.parametrize(("first", "second"), [(200, 130), (200, 200), (130, 1)])
def test_tags_ascend_and_come_once(first: int, second: int) -> None:
    body = SECTIONED + bytes([first, 1]) + b"a" + bytes([second, 1]) + b"b" + b"\x00payload"
    assert f"got tag {second} after {first}, expected ascending tags" in _refusal(_sealed(body))


def test_sections_that_are_announced_are_there_and_end() -> None:
    assert "section: got none, expected one" in _refusal(_sealed(SECTIONED + b"\x00payload"))
    assert "0 bytes where 1 were expected" in _refusal(_sealed(SECTIONED))
    assert "0 bytes where 1 were expected" in _refusal(_sealed(SECTIONED + b"\x80\x01y"))


@pytest.mark.parametrize("colour", range(1, 8))
def test_a_colour_that_is_not_known_is_refused(colour: int) -> None:
    message = _refusal(_sealed(HEADER[:5] + bytes([5 | colour << 5]) + HEADER[6:]))
    assert message == f"colour: got id {colour}, expected 0. Use a newer hfd"


@pytest.mark.parametrize(("layout", "name"), [(3, "width"), (3 << 2, "height")])
def test_a_side_of_four_bytes_is_refused(layout: int, name: str) -> None:
    body = HEADER[:5] + bytes([layout]) + HEADER[6:] + bytes(8)
    assert f"{name}: got 4 bytes, expected 1 to 3" in _refusal(_sealed(body))


@pytest.mark.parametrize(("layout", "sides"), [(1, b"\x07\x00\x00"), (4, b"\x07\x07\x00"), (2, b"\x07\x07\x00\x00")])
def test_a_side_has_one_form(layout: int, sides: bytes) -> None:
    body = HEADER[:5] + bytes([layout]) + HEADER[6:11] + sides + bytes(8)
    assert "padded number, expected its shortest form" in _refusal(_sealed(body))


@pytest.mark.parametrize("length", [b"\x81\x00", b"\x80\x81\x00", b"\x80\x00"])
def test_a_section_length_has_one_form(length: bytes) -> None:
    body = SECTIONED + b"\x80" + length + bytes(200)
    assert "padded number, expected its shortest form" in _refusal(_sealed(body))


@pytest.mark.parametrize("length", [b"\x0a", b"\x7f", b"\xff\xff\xff\xff\x0f", b"\xff" * 7 + b"\x7f"])
def test_a_section_longer_than_the_file_is_refused_before_memory_is_taken(length: bytes) -> None:
    assert "The file is damaged" in _refusal(_sealed(SECTIONED + b"\x80" + length + b"\x00payload"))


def test_a_length_of_nine_bytes_is_refused() -> None:
    assert "more than 8 bytes" in _refusal(_sealed(SECTIONED + b"\x80" + b"\xff" * 30))


@pytest.mark.parametrize("length", range(5, len(SECTIONED) + 4))
def test_truncation_inside_the_header_is_refused_where_the_crc_fits_too(length: int) -> None:
    _refusal(_sealed((SECTIONED + b"\x80\x02yy")[:length]))


def test_a_section_may_hold_anything() -> None:
    payload = pack(SMALL) + b"\x00" * 10 + bytes(range(256))
    container = Container(1, 1, bytes(4), 128, 0, {LATENTS: payload, 128: payload})
    assert unpack(pack(container)) == container


def test_the_size_that_a_header_claims_is_checked_before_anything_is_made_of_it() -> None:
    claims = unpack(pack(Container(2**16, 2**15, bytes(4), 128, 0, {LATENTS: b"payload"})))
    with pytest.raises(DataError) as caught:
        check_size(claims.width, claims.height, 64_000_000)
    assert str(caught.value) == (
        "size: got 65536 x 32768 pixels, expected at most 64000000 pixels. "
        "Cut the picture, or allow more with max_pixels"
    )
    assert caught.value.reason == "too-large"
    check_size(8_000, 8_000, 64_000_000, stride=64)
    with pytest.raises(DataError, match="at most 64000000 pixels, each side rounded up to a multiple of 64"):
        check_size(2**20, 1, 64_000_000, stride=64)


# --- our own mistakes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "container",
    [
        Container(0, 1, bytes(4), 128, 0, {LATENTS: b""}),
        Container(1, 2**24 + 1, bytes(4), 128, 0, {LATENTS: b""}),
        Container(1, 1, bytes(3), 128, 0, {LATENTS: b""}),
        Container(1, 1, bytes(4), 256, 0, {LATENTS: b""}),
        Container(1, 1, bytes(4), -1, 0, {LATENTS: b""}),
        Container(1, 1, bytes(4), 128, 0, {LATENTS: b"", -1: b""}),
        Container(1, 1, bytes(4), 128, 0, {}),
        Container(1, 1, bytes(4), 128, 0, {200: b""}),
        Container(1, 1, bytes(4), 128, 0, {LATENTS: b"", 256: b""}),
    ],
)
def test_invalid_containers_are_not_written(container: Container) -> None:
    with pytest.raises(AssertionError):
        pack(container)
