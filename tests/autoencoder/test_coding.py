"""The entropy coder: what it loses (nothing), what it costs, and what damaged streams do to it (nothing bad)."""

from __future__ import annotations

import copy
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import Fixed, lively_elic
from torch import Tensor

from hfd.autoencoder.coding import EntropyTables, FrequencyTables, LatentCoder, _indexes, build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import DEFAULT_RATE, MAX_RATE, MIN_RATE, step_units
from hfd.autoencoder.weights import read_autoencoder, write_autoencoder
from hfd.errors import BitstreamError, DecodeMismatchError
from hfd.storage import Folder

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
from hfd.storage import Folder
torch.set_num_threads(1)
autoencoder = read_autoencoder(Folder(sys.argv[1]))
x = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(7))
coded, _ = LatentCoder(autoencoder.model, autoencoder.tables).encode(x)
sys.stdout.buffer.write(coded.checksum.to_bytes(4, "little") + coded.payload)
"""


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


def test_table_of_a_scale_is_the_nearest_by_ratio(model: Elic) -> None:
    tables = build_tables(model)
    coder = LatentCoder(model, tables)
    scales = tables.scales
    half = float((scales[6] / scales[5]).sqrt())
    between = [float(scales[5]) * half * 0.97, float(scales[5]) * half * 1.03]
    asked = torch.tensor([-1.0, 0.0, 0.11, float(scales[5]), *between, 255.0, 1e6], dtype=torch.float64)
    expected = [0, 0, 0, 5, 5, 6, len(scales) - 1, len(scales) - 1]
    for rate in (MIN_RATE, DEFAULT_RATE, MAX_RATE):
        thresholds = coder._thresholds(rate)
        assert bool((thresholds == thresholds.floor()).all())
        # The scale of a symbol is that of the latent over the step.
        units = (asked * step_units(rate)).round()
        assert _indexes(units.unsqueeze(0), thresholds) == expected
