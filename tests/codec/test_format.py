"""docs/format.md agrees with the code: a reader written from it alone, and its hex dump."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.tables import FrequencyTables
from hfd.codec.container import (
    LATENTS,
    MAX_CODEC_PIXELS,
    MAX_SIDE_PX,
    SECTION_NAMES,
    Container,
    pack,
    seed_of_file,
    unpack,
)
from hfd.codec.sampling_options import SAMPLER_IDS, SamplingOptions, decode_sampling, encode_sampling
from hfd.codec.sections import (
    MAX_METADATA_BYTES,
    Extras,
    decode_metadata,
    encode_metadata,
)
from hfd.errors import BitstreamError
from tests.support.coders import tensor_coder
from tests.support.format_reader import File, RefusedError, Row, read_file, read_metadata, read_sampling, read_symbols
from tests.support.hostile import hostile_file, sealed
from tests.support.networks import lively_elic
from tests.support.paths import ROOT

SPECIFICATION = (ROOT / "docs/format.md").read_text(encoding="utf-8")

SIDES = st.integers(1, 300) | st.integers(1, MAX_SIDE_PX)
CONTAINERS = st.builds(
    Container,
    width=SIDES,
    height=SIDES,
    model=st.binary(min_size=4, max_size=4),
    rate=st.integers(0, 255),
    checksum=st.integers(0, 2**32 - 1),
    sections=st.builds(
        lambda latents, others: {LATENTS: latents, **others},
        st.binary(max_size=200),
        st.dictionaries(st.integers(128, 255), st.binary(max_size=300), max_size=5),
    ),
)


def with_defaults(options: SamplingOptions) -> dict[str, Any]:
    """As the specification names them."""
    defaults = {"sampler": "auto", "steps": None, "gamma": 0.0, "realism": 1.0, "grain": False, "finish": True}
    values = {**defaults, "seed": None, "stop": 0.0, **options.stated()}
    return {"kind": values.pop("sampler"), **values}


def as_container(file: File) -> Container:
    sections = {LATENTS: file.latents, **file.sections}
    return Container(file.width, file.height, file.model, file.rate, file.checksum, sections)


def agree(data: bytes) -> bool:
    """Return True if both readers accept a file; they must agree on that and on the content."""
    try:
        ours = unpack(data)
    except BitstreamError:
        with pytest.raises(RefusedError):
            read_file(data)
        return False
    theirs = read_file(data)
    assert as_container(theirs) == ours
    assert theirs.seed == seed_of_file(data)
    return True


@given(CONTAINERS)
def test_the_specification_reads_written_files(container: Container) -> None:
    assert agree(pack(container))


@given(st.binary(min_size=1, max_size=80))
def test_the_specification_agrees_on_forged_files(tail: bytes) -> None:
    for layout in (tail[0], 0x00, 0x10, 0x15):
        agree(sealed(b"\x89HFD\x02" + bytes([layout]) + tail))


def test_the_specification_agrees_on_hostile_files() -> None:
    extras = Extras(np.zeros((9, 7), np.uint8), bytes(100), b"exif", SamplingOptions(steps=4))
    files = [
        pack(Container(70, 90, bytes(4), 128, 0, {LATENTS: bytes(range(40))})),
        pack(Container(300, 2**17, b"abcd", 128, 9, {LATENTS: bytes(range(40)), **extras.to_sections()})),
    ]
    accepted = sum(agree(hostile_file(i, files).data) for i in range(3000))
    assert 500 < accepted < 2500


@given(
    st.builds(
        SamplingOptions,
        sampler=st.sampled_from(sorted(SAMPLER_IDS)),
        steps=st.none() | st.integers(1, 2**16 - 1),
        gamma=st.floats(0.0, 1.0).map(abs),
        realism=st.floats(0.0, 1.0).map(abs),
        grain=st.booleans(),
        finish=st.booleans(),
        seed=st.none() | st.integers(0, 2**64 - 1),
        stop=st.floats(0.0, 1.0).map(abs),
    )
)
def test_the_specification_reads_sampling(sampling: SamplingOptions) -> None:
    assert read_sampling(encode_sampling(sampling)) == with_defaults(sampling)


@given(st.integers(0, 8), st.integers(0, 255), st.binary(max_size=35))
def test_the_specification_agrees_on_forged_sampling(kind: int, flags: int, rest: bytes) -> None:
    for section in (bytes([kind, flags]) + rest, bytes([kind, flags & 4]) + rest[:2], rest[:1]):
        try:
            ours = decode_sampling(section)
        except BitstreamError:
            with pytest.raises(RefusedError):
                read_sampling(section)
        else:
            assert read_sampling(section) == with_defaults(ours)


@given(st.binary(max_size=300) | st.integers(0, 3000).map(bytes), st.integers(0, 2), st.binary(max_size=3))
def test_the_specification_agrees_on_metadata(data: bytes, coding: int, tail: bytes) -> None:
    assert read_metadata(encode_metadata(data, name="icc")) == data
    for section in (encode_metadata(data, name="icc") + tail, bytes([coding]) + data):
        try:
            ours = decode_metadata(section, name="icc")
        except BitstreamError:
            with pytest.raises(RefusedError):
                read_metadata(section)
        else:
            assert read_metadata(section) == ours


def test_the_hex_dump_is_the_file_with_its_fields() -> None:
    dump = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+?)(?:\s{2,}(.*))?$", SPECIFICATION, re.MULTILINE)
    assert len(dump) > 15
    data = b""
    for offset, row, _ in dump:
        assert int(offset, 16) == len(data)
        data += bytes.fromhex(row)
    assert data == (ROOT / "tests/golden/sampling.hfd").read_bytes()
    container = unpack(data)
    said = "\n".join(meaning for _, _, meaning in dump)
    sampling = decode_sampling(container.sections[131])
    for words in (
        f"so {container.width} pixels",
        f"so {container.height} pixels",
        f"model {container.model.hex()}",
        f"rate {container.rate}",
        f"checksum of symbols: {container.checksum:08x}",
        f"its length: {len(container.sections[131])} bytes",
        f"steps: {sampling.steps}",
        f"seed: {sampling.seed}",
        f"latents: {len(container.sections[LATENTS])} bytes",
        f"CRC32 of all before it: {seed_of_file(data):08x}",
    ):
        assert words in said


def test_the_numbers_of_the_specification() -> None:
    for tag, name in SECTION_NAMES.items():
        assert f"| {tag} | {name} |" in SPECIFICATION
    for kind, number in SAMPLER_IDS.items():
        assert f"{number} {f'`{kind}`' if number else 'the decoder'}" in SPECIFICATION
    assert f"{MAX_METADATA_BYTES:,} (2^22) bytes" in SPECIFICATION
    assert f"{MAX_SIDE_PX:,} (2^24) pixels" in SPECIFICATION
    assert f"{MAX_CODEC_PIXELS:,} by default" in SPECIFICATION


# --- the stream ----------------------------------------------------------------------------------


def rows_of(tables: FrequencyTables) -> list[Row]:
    used = zip(tables.cdf.tolist(), tables.lengths.tolist(), tables.offsets.tolist(), strict=True)
    return [Row(cdf[:length], offset) for cdf, length, offset in used]


@pytest.mark.parametrize("wildness", [1, 300, 10**7])
def test_the_specification_reads_streams(wildness: int) -> None:
    """Symbols inside the tables and far outside, which take escapes."""
    from compressai.ans import BufferedRansEncoder

    tables = build_tables(lively_elic(16, 16, (8, 8))).y
    rng = np.random.default_rng(wildness)
    indexes = rng.integers(0, len(tables.lengths), 400)
    spread = rng.choice([1, wildness], 400)
    symbols = (rng.standard_normal(400) * spread).round().astype(int)
    encoder = BufferedRansEncoder()
    encoder.encode_with_indexes(symbols.tolist(), indexes.tolist(), *tables.as_lists())
    rows = rows_of(tables)
    assert list(read_symbols(encoder.flush(), [rows[i] for i in indexes])) == symbols.tolist()


def test_the_specification_decodes_a_latent() -> None:
    """All of it, where the networks answer with one scale and mean everywhere, so that no network is needed."""
    scale, mean = 3.0, 0.25
    model = lively_elic(16, 24, (8, 16))
    with torch.no_grad():
        for k, channels in enumerate(model.groups):
            last = model.param_aggregation[k][-1]
            last.weight.zero_()
            last.bias.copy_(torch.cat([torch.full((channels,), scale), torch.full((channels,), mean)]))
    tables = build_tables(model)
    coded, y_hat = tensor_coder(model, tables).encode(torch.rand(1, 3, 64, 128))
    scales = tables.scales.tolist()
    nearest = min(range(len(scales)), key=lambda i: abs(np.log(scales[i] / scale)))
    rows = rows_of(tables.z) * 2 + [rows_of(tables.y)[nearest]] * (24 * 4 * 8)
    symbols = iter(list(read_symbols(coded.payload, rows)))
    steps = [[next(symbols) for _ in range(16 * 2)]]
    found = np.empty((24, 4, 8))
    for group in (range(8), range(8, 24)):
        for parity in (0, 1):
            steps.append([])
            for row, column in ((row, column) for row in range(4) for column in range(8)):
                for channel in group if (row + column) % 2 == parity else ():
                    steps[-1].append(next(symbols))
                    found[channel, row, column] = steps[-1][-1] + mean
    assert next(symbols, None) is None
    crcs = [zlib.crc32(np.array(step, "<i4").tobytes()).to_bytes(4, "little") for step in steps]
    assert zlib.crc32(b"\x80" + b"".join(crcs)) == coded.checksum
    np.testing.assert_array_equal(found, y_hat[0])
