"""Optional sections: written and read back, and bounded memory for hostile ones."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from hfd.codec import sections
from hfd.codec.container import ALPHA, EXIF, ICC, LATENTS, SAMPLING, Container, pack, unpack
from hfd.codec.sampling_options import SAMPLER_IDS, SamplingOptions, decode_sampling, encode_sampling
from hfd.codec.sections import (
    MAX_METADATA_BYTES,
    Extras,
    decode_alpha,
    decode_metadata,
    encode_alpha,
    encode_metadata,
    read_extras,
    upright_exif,
)
from hfd.errors import BitstreamError, ConfigError, DataError
from hfd.kinds import SamplerKind

UNIT = st.floats(0.0, 1.0).map(abs)  # without -0.0, which is no other setting than 0.0
SAMPLINGS = st.builds(
    SamplingOptions,
    sampler=st.none() | st.sampled_from(sorted(SAMPLER_IDS.keys() - {"auto"})),
    steps=st.none() | st.integers(1, 2**16 - 1),
    gamma=st.none() | UNIT.filter(lambda gamma: gamma != 0.0),
    realism=st.none() | UNIT.filter(lambda realism: realism != 1.0),
    grain=st.none() | st.just(True),
    finish=st.none() | st.just(False),
    seed=st.none() | st.integers(0, 2**64 - 1),
    stop=st.none() | UNIT.filter(lambda stop: stop != 0.0),
)
PLANES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))
METADATA = st.binary(max_size=2000) | st.integers(0, 5000).map(bytes)


def container_of(extras: Extras, width: int, height: int) -> Container:
    """As it comes out of a file."""
    held = {LATENTS: b"payload", **extras.to_sections()}
    return unpack(pack(Container(width, height, bytes(4), 128, 0, held)))


# --- there and back ------------------------------------------------------------------------------


@given(SAMPLINGS)
def test_sampling_round_trip(sampling: SamplingOptions) -> None:
    assert decode_sampling(encode_sampling(sampling)) == sampling


@given(METADATA)
def test_metadata_round_trip(data: bytes) -> None:
    section = encode_metadata(data, name="icc")
    assert decode_metadata(section, name="icc") == data
    assert len(section) <= len(data) + 1


@given(PLANES)
def test_alpha_round_trip(alpha: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_alpha(encode_alpha(alpha), alpha.shape[1], alpha.shape[0]), alpha)


@given(st.none() | PLANES, st.none() | METADATA, st.none() | METADATA, SAMPLINGS)
def test_extras_round_trip(
    alpha: np.ndarray | None, icc: bytes | None, exif: bytes | None, sampling: SamplingOptions
) -> None:
    height, width = (7, 9) if alpha is None else alpha.shape
    found = read_extras(container_of(Extras(alpha, icc, exif, sampling), width, height), max_pixels=2000)
    assert (found.icc, found.sampling) == (icc, sampling)
    assert found.exif == (None if exif is None else upright_exif(exif))
    if alpha is None:
        assert found.alpha is None
    else:
        np.testing.assert_array_equal(found.alpha, alpha)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_exif_of_a_rotated_picture_states_upright(order: str, orientation: int) -> None:
    tags = Image.Exif()
    tags.endian = order
    tags[0x010F], tags[0x0112], tags[0x0131], tags[0x011A] = "maker", orientation, "hfd", 72.0
    written = tags.tobytes()
    found = upright_exif(written)
    assert found == upright_exif(written.removeprefix(b"Exif\0\0")) == upright_exif(found)
    read = Image.Exif()
    read.load(found)
    assert dict(read) == {**dict(tags), 0x0112: 1}
    changed = [i for i, (a, b) in enumerate(zip(found, written[6:], strict=True)) if a != b]
    assert len(changed) == (orientation != 1)


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\xff\xff"])
)
def test_exif_of_any_bytes_keeps_its_length(tail: bytes, head: bytes) -> None:
    assert len(upright_exif(head + tail)) == len(head + tail) - 6 * (head + tail).startswith(b"Exif\0\0")


def test_nothing_is_written_for_nothing() -> None:
    assert Extras().to_sections() == {}
    assert read_extras(container_of(Extras(), 3, 4), max_pixels=100) == Extras()


def test_sections_are_under_their_tags() -> None:
    extras = Extras(np.zeros((2, 3), np.uint8), b"i", b"e", SamplingOptions(grain=True))
    assert sorted(extras.to_sections()) == [ALPHA, ICC, EXIF, SAMPLING] == [128, 129, 130, 131]


@pytest.mark.parametrize(
    ("sampling", "section"),
    [
        (SamplingOptions(), "00 00"),
        (SamplingOptions(steps=4), "00 04 04 00"),
        (SamplingOptions(sampler="dpmpp-2m", grain=True, finish=False), "03 03"),
        (SamplingOptions(300, "ancestral", gamma=0.5), "01 0c 2c 01 00 00 00 00 00 00 e0 3f"),
        (SamplingOptions(realism=0.5), "00 10 00 00 00 00 00 00 e0 3f"),
        (SamplingOptions(seed=258), "00 20 02 01 00 00 00 00 00 00"),
        (SamplingOptions(steps=4, stop=0.5), "00 44 04 00 00 00 00 00 00 00 e0 3f"),
    ],
)
def test_bytes_of_sampling(sampling: SamplingOptions, section: str) -> None:
    assert encode_sampling(sampling).hex(" ") == section


def test_ids_of_samplers_are_for_good_and_every_sampler_has_one() -> None:
    assert set(SAMPLER_IDS) == set(get_args(SamplerKind))
    expected = ["auto", "ancestral", "ddim", "dpmpp-2m", "euler", "heun", "midpoint"]
    assert [SAMPLER_IDS[kind] for kind in expected] == list(range(7))


@pytest.mark.parametrize("noisy", [False, True])
def test_alpha_is_a_picture_that_others_read_and_no_longer_than_a_png(noisy: bool) -> None:
    ramp = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint8)
    alpha = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8) if noisy else ramp
    section, plain = encode_alpha(alpha), io.BytesIO()
    Image.fromarray(alpha).save(plain, "PNG", optimize=True)
    assert len(section) <= 1 + len(plain.getvalue())
    with Image.open(io.BytesIO(section[1:])) as image:
        assert image.format == ("PNG", "WEBP")[section[0]]
        np.testing.assert_array_equal(np.array(image.convert("L")), alpha)


def test_alpha_beyond_the_sides_of_webp() -> None:
    alpha = np.zeros((2, 20_000), np.uint8)
    section = encode_alpha(alpha)
    assert section[0] == 0
    np.testing.assert_array_equal(decode_alpha(section, 20_000, 2), alpha)


# --- damage and hostility ------------------------------------------------------------------------


def refusal(call: object, *arguments: object, **named: object) -> str:
    with pytest.raises(BitstreamError) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_sampling_in_one_spelling_or_refused(section: bytes) -> None:
    for flags in (section, bytes([len(section) % 7]) + section):
        try:
            found = decode_sampling(flags)
        except BitstreamError as error:
            assert "\n" not in str(error)
        else:
            assert encode_sampling(found) == flags


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("", "sampling: got "),
        ("00", "sampling: got 00 "),
        ("07 00", "sampling: got id 7, which this version does not know. Use a newer hfd"),
        ("00 80", "which no encoder writes"),
        ("00 40", "sampling: got 00 40"),
        ("00 40 00 00 00 00 00 00 00 00", "which no encoder writes"),
        ("00 40 00 00 00 00 00 00 00 40", "stop: got 2.0, expected 0 to 1"),
        ("00 00 00", "which no encoder writes"),
        ("00 04 00 00", "steps: got 0, expected 1 to 65535"),
        ("00 04 01", "sampling: got 00 04 01"),
        ("00 08 00 00 00 00 00 00 00 00", "which no encoder writes"),
        ("00 08 00 00 00 00 00 00 00 80", "which no encoder writes"),
        ("00 08 00 00 00 00 00 00 f8 7f", "gamma: got nan"),
        ("00 10 00 00 00 00 00 00 f0 7f", "realism: got inf"),
        ("00 10 00 00 00 00 00 00 f0 3f", "which no encoder writes"),
    ],
)
def test_a_damaged_sampling_is_refused(section: str, words: str) -> None:
    assert words in refusal(decode_sampling, bytes.fromhex(section))


@pytest.mark.parametrize(
    "values",
    [
        {"sampler": "dpm"},
        {"steps": 0},
        {"steps": 65_536},
        {"gamma": -0.1},
        {"realism": 1.1},
        {"seed": -1},
        {"seed": 2**64},
        {"gamma": float("nan")},
        {"stop": 1.5},
    ],
)
def test_a_sampling_out_of_range_is_never_written(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"^(sampler|steps|gamma|realism|seed|stop): got "):
        encode_sampling(SamplingOptions(**values))  # type: ignore[arg-type]


def test_stated_defaults_are_not_written() -> None:
    assert encode_sampling(SamplingOptions(None, "auto", 0.0, 1.0, False, True)) == encode_sampling(SamplingOptions())
    assert Extras(sampling=SamplingOptions(gamma=0.0, finish=True)).to_sections() == {}


def test_a_bomb_in_metadata_is_refused_before_memory_is_taken() -> None:
    bomb = b"\x01" + zlib.compress(bytes(200 * 2**20), 9)
    tracemalloc.start()
    message = refusal(decode_metadata, bomb, name="exif")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message == f"exif: got more than {MAX_METADATA_BYTES} bytes, expected at most that. " + sections.DAMAGED
    assert peak < 4 * MAX_METADATA_BYTES


def test_metadata_at_the_limit() -> None:
    most = bytes(MAX_METADATA_BYTES)
    assert decode_metadata(encode_metadata(most, name="icc"), name="icc") == most
    with pytest.raises(DataError, match=r"^xmp: got 65001 bytes, expected at most 65000"):
        encode_metadata(bytes(65_001), name="xmp")
    assert decode_metadata(encode_metadata(bytes(65_000), name="xmp"), name="xmp") == bytes(65_000)
    assert "xmp: got more than 65000 bytes" in refusal(decode_metadata, b"\1" + zlib.compress(most), name="xmp")
    with pytest.raises(DataError, match=f"^icc: got {MAX_METADATA_BYTES + 1} bytes, expected at most"):
        encode_metadata(most + b"\0", name="icc")
    assert "icc: got more than" in refusal(decode_metadata, b"\0" + most + b"\0", name="icc")
    assert "icc: got more than" in refusal(decode_metadata, b"\1" + zlib.compress(most + b"\0"), name="icc")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (b"", "icc: got nothing, which this version does not know"),
        (b"\x02abc", "icc: got id 2, which this version does not know. Use a newer hfd"),
        (b"\x01", "icc: got a zlib stream of another length"),
        (b"\x01abc", "icc: got no zlib stream"),
        (b"\x01" + zlib.compress(b"abc")[:-1], "icc: got a zlib stream of another length"),
        (b"\x01" + zlib.compress(b"abc") + b"x", "icc: got a zlib stream of another length"),
        (b"\x01" + zlib.compress(b"abc")[:-1] + b"x", "icc: got no zlib stream"),
    ],
)
def test_damaged_metadata_is_refused(section: bytes, words: str) -> None:
    assert words in refusal(decode_metadata, section, name="icc")


def webp(width: int, height: int) -> bytes:
    """The head of a lossless WebP that claims these sides, and nothing of use behind it."""
    bits = (width - 1) | (height - 1) << 14
    chunk = b"VP8L" + struct.pack("<I", 40) + b"\x2f" + struct.pack("<I", bits) + bytes(35)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def png(width: int, height: int, depth_and_colour: bytes = b"\x08\x00", pixels: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">II", width, height) + depth_and_colour + bytes(3)
    data = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (b"", "alpha: got nothing"),
        (b"\x02" + bytes(40), "alpha: got id 2, which this version does not know. Use a newer hfd"),
        (b"\x00", "alpha: got no such picture, expected a PNG of 3 x 2"),
        (b"\x01", "alpha: got no such picture, expected a WebP of 3 x 2"),
        (b"\x00" + png(2**31 - 1, 2**31 - 1), "alpha: got 2147483647 x 2147483647, expected a PNG of 3 x 2"),
        (b"\x01" + webp(16_384, 16_384), "alpha: got 16384 x 16384, expected a WebP of 3 x 2"),
        (b"\x01" + webp(3, 2), "alpha: got a damaged WebP"),
        (b"\x00" + png(3, 2), "alpha: got a damaged PNG"),
        (b"\x00" + png(3, 2, b"\x10\x00", bytes(14)), "alpha: got no such picture"),
        (b"\x00" + png(3, 2, b"\x08\x02", bytes(20)), "alpha: got no such picture"),
        (b"\x01" + png(3, 2, pixels=bytes(8)), "alpha: got no such picture, expected a WebP"),
    ],
)
def test_a_hostile_alpha_is_refused(section: bytes, words: str) -> None:
    assert words in refusal(decode_alpha, section, 3, 2)


def test_a_plain_png_of_any_writer_is_read() -> None:
    section = b"\x00" + png(3, 2, pixels=b"\0\1\2\3\0\4\5\6")
    np.testing.assert_array_equal(decode_alpha(section, 3, 2), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("noisy", [False, True])
def test_an_alpha_cut_short_or_damaged_is_refused_or_of_its_size(noisy: bool) -> None:
    alpha = np.random.default_rng(1).integers(0, 256 if noisy else 2, (60, 50), dtype=np.uint8)
    section = encode_alpha(alpha)
    rng = np.random.default_rng(2)
    for _ in range(300):
        broken = bytearray(section)
        broken[rng.integers(len(broken))] ^= rng.integers(1, 256)
        try:
            found = decode_alpha(bytes(broken[: rng.integers(len(broken) // 2, len(broken) + 1)]), 50, 60)
        except BitstreamError as error:
            assert "\n" not in str(error)
        else:
            assert found.shape == alpha.shape


def test_an_alpha_as_large_as_its_picture_claims_is_refused_before_memory_is_taken() -> None:
    container = Container(2**20, 2**20, bytes(4), 128, 0, {LATENTS: b"", ALPHA: b"\x00" + png(2**20, 2**20)})
    with pytest.raises(DataError, match=r"^size: got 1048576 x 1048576 pixels, expected at most 1000 pixels"):
        read_extras(container, max_pixels=1000)
