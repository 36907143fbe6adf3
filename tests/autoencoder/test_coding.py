"""The entropy coder: lossless, near its estimated rate, and safe with damaged streams."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hfd.autoencoder import coding, streams
from hfd.autoencoder.coding import EntropyTables, FrequencyTables, LatentCoder, build_tables, scale_indexes
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import DEFAULT_RATE, MAX_RATE, MIN_RATE, step_units
from hfd.autoencoder.weights import read_autoencoder, write_autoencoder
from hfd.codec.pixels import picture_to_tensor
from hfd.errors import BitstreamError, ConfigError, DataError, DecodeMismatchError
from hfd.io.model_folders import find_model, shipped_models
from hfd.io.storage import Folder
from tests.support.networks import Fixed, lively_elic
from tests.support.pictures import photograph

CONFIG = {"arch": "elic", "N": 16, "M": 16, "groups": [8, 8]}


@pytest.fixture(scope="module")
def model() -> Elic:
    return lively_elic(16, 16, (8, 8))


@pytest.fixture(scope="module")
def coder(model: Elic) -> LatentCoder:
    return LatentCoder(model, build_tables(model))


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 192), (192, 64), (128, 128), (192, 192)])
def test_round_trip(model: Elic, coder: LatentCoder, height: int, width: int) -> None:
    x = picture(height, width, seed=height + width)
    coded, y_hat = coder.encode(x)
    assert y_hat.round().unique().numel() > 10
    back = coder.decode(coded.payload, checksum=coded.checksum, height=height, width=width)
    assert torch.equal(back, y_hat)
    # What is coded is the quantised latent: no value is further than half a step from y.
    with torch.no_grad():
        assert float((model.g_a(x) - y_hat).abs().max()) <= 0.5 + 1e-4


@pytest.mark.parametrize("spread", [40.0, 4e3, 4e5])
def test_round_trip_of_symbols_outside_the_tables(spread: float) -> None:
    model = lively_elic(16, 16, (8, 8), spread=spread)
    with torch.no_grad():
        model.h_a[-1].weight.mul_(100.0)
    coder = LatentCoder(model, build_tables(model))
    coded, y_hat = coder.encode(picture(128, 64))
    assert float(y_hat.abs().max()) > 2 * spread
    back = coder.decode(coded.payload, checksum=coded.checksum, height=128, width=64)
    assert torch.equal(back, y_hat)


def test_encoding_twice_gives_the_same_bytes(coder: LatentCoder) -> None:
    assert coder.encode(picture(64, 128))[0] == coder.encode(picture(64, 128))[0]


@pytest.mark.parametrize("rate", [MIN_RATE, 100, 117, 140, MAX_RATE])
def test_round_trip_at_a_rate(model: Elic, coder: LatentCoder, rate: int) -> None:
    x = picture(128, 64)
    coded, y_hat = coder.encode(x, rate)
    back = coder.decode(coded.payload, checksum=coded.checksum, height=128, width=64, rate=rate)
    assert torch.equal(back, y_hat)
    # The step is the quantiser's cell, in whole units of 1/1024.
    half = step_units(rate) / 2048
    with torch.no_grad():
        error = (model.g_a(x) - y_hat).abs()
    assert 0.8 * half < float(error.max()) <= half + 1e-4
    assert torch.equal((y_hat * 1024).round(), y_hat * 1024)
    # The same symbols at another step are another picture.
    other = rate + 1 if rate < MAX_RATE else rate - 1
    with pytest.raises(DecodeMismatchError):
        coder.decode(coded.payload, checksum=coded.checksum, height=128, width=64, rate=other)


def test_default_rate_is_the_models_own(coder: LatentCoder) -> None:
    assert coder.encode(picture(64, 64))[0] == coder.encode(picture(64, 64), DEFAULT_RATE)[0]


def test_a_larger_step_takes_fewer_bytes(coder: LatentCoder) -> None:
    sizes = [len(coder.encode(picture(128, 128), rate)[0].payload) for rate in range(MIN_RATE, MAX_RATE + 1, 16)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 4


def test_what_is_no_rate_is_refused(coder: LatentCoder) -> None:
    with pytest.raises(ConfigError, match="rate: got 63"):
        coder.encode(picture(64, 64), 63)
    with pytest.raises(BitstreamError, match="rate: got 0"):
        coder.decode(bytes(8), checksum=0, height=64, width=64, rate=0)


def test_large_latents_are_coded_by_bands(coder: LatentCoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several streams hold the very symbols that one does."""
    x = picture(320, 128)
    whole, y_hat = coder.encode(x)
    monkeypatch.setattr(streams, "BAND_POSITIONS", 64)
    split, y_hat_by_bands = coder.encode(x)
    assert streams.bands_of(20, 8) == ((0, 8), (8, 16), (16, 20))
    assert torch.equal(y_hat, y_hat_by_bands) and split.checksum == whole.checksum
    assert split.bits_est == pytest.approx(whole.bits_est, rel=1e-9)
    # A length and a state of the coder for each of z and 12 parts.
    assert len(whole.payload) < len(split.payload) <= len(whole.payload) + 13 * 12
    back = coder.decode(split.payload, checksum=split.checksum, height=320, width=128)
    assert torch.equal(back, y_hat)
    rng = random.Random(1)
    for _ in range(60):
        broken = damaged(split.payload, rng)
        with contextlib.suppress(BitstreamError):
            assert torch.equal(coder.decode(broken, checksum=split.checksum, height=320, width=128), y_hat)


def test_a_picture_by_rows_is_the_picture(coder: LatentCoder, monkeypatch: pytest.MonkeyPatch) -> None:
    x, longest = picture(640, 64), 0

    def rows(first: int, last: int) -> Tensor:
        nonlocal longest
        longest = max(longest, last - first)
        return x[:, :, first:last]

    _, y_hat = coder.encode(x)
    monkeypatch.setattr(coding, "STRIP_POSITIONS", 16)
    coded, y_hat_by_rows = coder.code(coder.analyse(rows, 640, 64))
    assert longest < 640
    # Strips round otherwise, so that a value half-way between two may go the other way.
    assert float((y_hat != y_hat_by_rows).float().mean()) < 0.01
    assert torch.equal(coder.decode(coded.payload, checksum=coded.checksum, height=640, width=64), y_hat_by_rows)


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_whole_numbers_cost_no_rate(name: str) -> None:
    autoencoder = read_autoencoder(find_model(name) / "autoencoder")
    x = picture_to_tensor(photograph(192, 256, seed=3))
    coded, _ = LatentCoder(autoencoder.model, autoencoder.tables).encode(x)
    with torch.no_grad():
        output = autoencoder.model(x)
    assert coded.bits_est == pytest.approx(float(output.bits_y + output.bits_z), rel=0.005)
    assert 8 * len(coded.payload) == pytest.approx(coded.bits_est, rel=0.01, abs=512)


DECODE = """
import sys, torch, zlib
from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.weights import read_autoencoder
from hfd.io.storage import Folder
folder, threads, onednn, bfloat16, double = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
torch.backends.mkldnn.enabled = bool(onednn)
autoencoder = read_autoencoder(Folder(folder))
coder = LatentCoder(autoencoder.model.double() if double else autoencoder.model, autoencoder.tables)
with torch.autocast("cpu", torch.bfloat16, enabled=bool(bfloat16)):
    for line in sys.stdin:
        payload, checksum, height, width, rate = line.split()
        sizes = {"height": int(height), "width": int(width), "rate": int(rate)}
        y_hat = coder.decode(bytes.fromhex(payload), checksum=int(checksum), **sizes)
        print(zlib.crc32(y_hat.numpy().tobytes()))
"""


@pytest.mark.integration
@pytest.mark.parametrize(
    ("capability", "threads", "onednn", "bfloat16", "double"),
    [("default", 1, 0, 0, 0), ("avx2", 2, 1, 1, 0), ("", 2, 0, 0, 1)],
)
def test_files_decode_alike_under_any_setting(
    tmp_path: Path, model: Elic, capability: str, threads: int, onednn: int, bfloat16: int, double: int
) -> None:
    write_autoencoder(Folder(str(tmp_path)), model, build_tables(model), CONFIG)
    coder, lines, expected = LatentCoder(model, build_tables(model)), [], []
    for seed, (height, width, rate) in enumerate([(128, 192, 128), (256, 64, 110), (64, 64, 150), (192, 256, 128)]):
        coded, y_hat = coder.encode(picture(height, width, seed=seed), rate)
        lines.append(f"{coded.payload.hex()} {coded.checksum} {height} {width} {rate}")
        expected.append(zlib.crc32(y_hat.numpy().tobytes()))
    chosen = {"ATEN_CPU_CAPABILITY": capability} if capability else {}
    there = subprocess.run(
        [sys.executable, "-c", DECODE, str(tmp_path), *map(str, (threads, onednn, bfloat16, double))],
        input="\n".join(lines),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **chosen},
    ).stdout
    assert [int(line) for line in there.split()] == expected


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0, 12.0])
def test_payload_is_as_long_as_its_estimate(scale: float) -> None:
    """The estimate holds for latents that follow the model, so they are drawn from it here.

    On an untrained network it says little: symbols far outside the predicted scales have their
    likelihood bounded at 1e-9, 30 bits, while the coder pays for an escape. So the context model is made to
    answer with one scale and mean everywhere, and y is drawn from just that Gaussian.
    """
    model = lively_elic(16, 16, (8, 8))
    with torch.no_grad():
        for k, channels in enumerate(model.groups):
            last = model.param_aggregation[k][-1]
            last.weight.zero_()
            last.bias.copy_(torch.cat([torch.full((channels,), scale), torch.full((channels,), 0.25)]))
    generator = torch.Generator().manual_seed(0)
    y = 0.25 + scale * torch.randn(1, 16, 24, 24, generator=generator)
    model.g_a = Fixed(y)
    x = picture(384, 384)
    coded, _ = LatentCoder(model, build_tables(model)).encode(x)
    assert coded.bits_est / 8 > 500
    assert len(coded.payload) == pytest.approx(coded.bits_est / 8, rel=0.01, abs=64)
    # The latent's share is the entropy of that Gaussian, which neither the coder nor the estimate knows of.
    if scale >= 1.0:
        with torch.no_grad():
            bits_y = float(model(x).bits_y)
        entropy = y.numel() * 0.5 * math.log2(2 * math.pi * math.e * scale**2)
        assert bits_y == pytest.approx(entropy, rel=0.03)


def test_estimate_is_that_of_the_eval_forward(model: Elic, coder: LatentCoder) -> None:
    x = picture(128, 64)
    with torch.no_grad():
        output = model(x)
    coded, y_hat = coder.encode(x)
    assert coded.bits_est == pytest.approx(float(output.bits_y + output.bits_z), rel=1e-4)
    torch.testing.assert_close(model.reconstruct(y_hat), output.x_hat.clamp(0, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.integration
def test_weights_that_are_not_finite_are_reported() -> None:
    """In a process of its own: the coder would never return from a symbol of -2^31."""
    script = """
import torch
from tests.support.networks import lively_elic
from hfd.autoencoder.coding import LatentCoder, build_tables
model = lively_elic(16, 16, (8, 8))
tables = build_tables(model)
with torch.no_grad():
    model.g_a[0].weight.fill_(float("nan"))
LatentCoder(model, tables).encode(torch.rand(1, 3, 64, 64))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "DataError: latent: got NaN, expected numbers. The weights are damaged" in ended.stderr


def test_wrong_checksum(coder: LatentCoder) -> None:
    coded, _ = coder.encode(picture(64, 64))
    with pytest.raises(DecodeMismatchError, match="checksum of symbols"):
        coder.decode(coded.payload, checksum=coded.checksum ^ 1, height=64, width=64)


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """One of the ways in which a stream breaks; never the stream itself."""
    kind = rng.randrange(6)
    if kind == 0:
        broken = bytearray(payload)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] ^= rng.randint(1, 255)
        return bytes(broken) if bytes(broken) != payload else b""
    if kind == 1:
        return payload[: rng.randrange(len(payload) // 4) * 4]
    if kind == 2:
        return payload[: rng.randrange(len(payload))]
    if kind == 3:
        return payload[4 * rng.randint(1, 4) :]
    if kind == 4:
        return rng.randbytes(4 * rng.randint(1, 300))
    return bytes([rng.choice([0x00, 0x0F, 0xF0, 0xFF])]) * (4 * rng.randint(1, 300))


def test_damaged_streams_are_refused(coder: LatentCoder) -> None:
    coded, y_hat = coder.encode(picture(64, 64))
    rng = random.Random(0)
    refused = 0
    for _ in range(200):
        broken = damaged(coded.payload, rng)
        try:
            back = coder.decode(broken, checksum=coded.checksum, height=64, width=64)
        except BitstreamError:
            refused += 1
        else:
            # The last words of a stream need not matter; whatever decodes is what was encoded.
            assert torch.equal(back, y_hat)
    assert refused > 180


def test_longer_stream_than_any_encoder_writes_is_refused(coder: LatentCoder) -> None:
    """Escapes ask for as many more bits as they like: the reader must not run past its memory."""
    symbols = 16 * 16 + 16
    with pytest.raises(BitstreamError, match=f"expected at most {8 * symbols + 8} for {symbols} symbols"):
        coder.decode(b"\xff" * (8 * symbols + 12), checksum=0, height=64, width=64)
    with pytest.raises(DecodeMismatchError):
        coder.decode(b"\xff" * (8 * symbols + 8), checksum=0, height=64, width=64)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 7])
def test_odd_lengths_are_refused(coder: LatentCoder, length: int) -> None:
    with pytest.raises(BitstreamError, match=f"got {length} bytes"):
        coder.decode(b"\x01" * length, checksum=0, height=64, width=64)


def test_stream_of_another_size_is_refused(coder: LatentCoder) -> None:
    coded, _ = coder.encode(picture(128, 64))
    for height, width in ((64, 64), (64, 128), (192, 192)):
        with pytest.raises(BitstreamError):
            coder.decode(coded.payload, checksum=coded.checksum, height=height, width=width)


ENCODE = """
import sys, torch
from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.weights import read_autoencoder
from hfd.io.storage import Folder
torch.set_num_threads(1)
autoencoder = read_autoencoder(Folder(sys.argv[1]))
x = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(7))
coded, _ = LatentCoder(autoencoder.model, autoencoder.tables).encode(x)
sys.stdout.buffer.write(coded.checksum.to_bytes(4, "little") + coded.payload)
"""


@pytest.mark.integration
def test_encoder_and_decoder_in_two_processes(tmp_path: Path, model: Elic) -> None:
    folder = Folder(str(tmp_path))
    write_autoencoder(folder, model, build_tables(model), CONFIG)
    there = subprocess.run([sys.executable, "-c", ENCODE, str(tmp_path)], stdout=subprocess.PIPE, check=True).stdout
    autoencoder = read_autoencoder(folder)
    coder = LatentCoder(autoencoder.model, autoencoder.tables)
    coded, y_hat = coder.encode(picture(128, 192, seed=7))
    assert there == coded.checksum.to_bytes(4, "little") + coded.payload
    back = coder.decode(there[4:], checksum=int.from_bytes(there[:4], "little"), height=128, width=192)
    assert torch.equal(back, y_hat)


def families(tables: EntropyTables) -> list[FrequencyTables]:
    return [tables.z, tables.y]


def test_tables_are_integers_that_a_coder_can_use(model: Elic) -> None:
    tables = build_tables(model)
    assert len(tables.z.lengths) == model.N and len(tables.y.lengths) == len(tables.scales)
    assert bool((tables.scales.diff() > 0).all())
    for family in families(tables):
        assert family.cdf.dtype == family.lengths.dtype == family.offsets.dtype == torch.int32
        assert not any(tensor.is_floating_point() for tensor in (family.cdf, family.lengths, family.offsets))
        for row, length in zip(family.cdf, family.lengths.tolist(), strict=True):
            assert int(row[0]) == 0 and int(row[length - 1]) == 2**16
            assert bool((row[:length].diff() > 0).all())
            assert not bool(row[length:].any())


def test_tables_come_from_the_model_and_leave_it_alone(model: Elic) -> None:
    before = copy.deepcopy(model.state_dict())
    tables = build_tables(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for one, other in zip(families(tables), families(build_tables(model)), strict=True):
        assert torch.equal(one.cdf, other.cdf)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.entropy_bottleneck.matrices[0].add_(0.5)
    assert not torch.equal(build_tables(other).z.cdf, tables.z.cdf)


def test_a_model_that_cannot_be_exact_has_no_tables(model: Elic) -> None:
    wild = copy.deepcopy(model)
    with torch.no_grad():
        wild.param_aggregation[1][2].weight[0, 0] = 1e6
    with pytest.raises(DataError, match=r"param_aggregation\.1\.1: got weights whose sums can reach"):
        build_tables(wild)


def test_table_of_a_scale_is_the_nearest_by_ratio(model: Elic) -> None:
    tables = build_tables(model)
    coder = LatentCoder(model, tables)
    scales = tables.scales
    half = float((scales[6] / scales[5]).sqrt())
    between = [float(scales[5]) * half * 0.97, float(scales[5]) * half * 1.03]
    asked = torch.tensor([-1.0, 0.0, 0.11, float(scales[5]), *between, 255.0, 1e6], dtype=torch.float64)
    expected = [0, 0, 0, 5, 5, 6, len(scales) - 1, len(scales) - 1]
    for rate in (MIN_RATE, DEFAULT_RATE, MAX_RATE):
        thresholds = coder.thresholds(rate)
        assert bool((thresholds == thresholds.floor()).all())
        # The scale of a symbol is that of the latent over the step.
        units = (asked * step_units(rate)).round()
        assert scale_indexes(units.unsqueeze(0), thresholds) == expected
