"""The entropy coder: lossless, and near its estimated rate."""

from __future__ import annotations

import contextlib
import math
import random

import pytest
import torch

from hfd.autoencoder import coding, streams
from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import DEFAULT_RATE, MAX_RATE, MIN_RATE, step_units
from hfd.autoencoder.weights import read_autoencoder
from hfd.codec.tensors import picture_to_tensor
from hfd.engine.base import Values
from hfd.errors import BitstreamError, ConfigError, DecodeMismatchError
from hfd.io.model_folders import find_model, shipped_models
from tests.support.coders import TensorCoder, tensor_coder
from tests.support.latents import damaged, picture
from tests.support.networks import Fixed, lively_elic
from tests.support.pictures import photograph


@pytest.fixture(scope="module")
def model() -> Elic:
    return lively_elic(16, 16, (8, 8))


@pytest.fixture(scope="module")
def coder(model: Elic) -> TensorCoder:
    return tensor_coder(model, build_tables(model))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 192), (192, 64), (128, 128), (192, 192)])
def test_round_trip(model: Elic, coder: TensorCoder, height: int, width: int) -> None:
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
    coder = tensor_coder(model, build_tables(model))
    coded, y_hat = coder.encode(picture(128, 64))
    assert float(y_hat.abs().max()) > 2 * spread
    back = coder.decode(coded.payload, checksum=coded.checksum, height=128, width=64)
    assert torch.equal(back, y_hat)


def test_encoding_twice_gives_the_same_bytes(coder: TensorCoder) -> None:
    assert coder.encode(picture(64, 128))[0] == coder.encode(picture(64, 128))[0]


@pytest.mark.parametrize("rate", [MIN_RATE, 100, 117, 140, MAX_RATE])
def test_round_trip_at_a_rate(model: Elic, coder: TensorCoder, rate: int) -> None:
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


def test_default_rate_is_the_models_own(coder: TensorCoder) -> None:
    assert coder.encode(picture(64, 64))[0] == coder.encode(picture(64, 64), DEFAULT_RATE)[0]


def test_a_larger_step_takes_fewer_bytes(coder: TensorCoder) -> None:
    sizes = [len(coder.encode(picture(128, 128), rate)[0].payload) for rate in range(MIN_RATE, MAX_RATE + 1, 16)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 4


def test_an_invalid_rate_is_refused(coder: TensorCoder) -> None:
    with pytest.raises(ConfigError, match="rate: got 63"):
        coder.encode(picture(64, 64), 63)
    with pytest.raises(BitstreamError, match="rate: got 0"):
        coder.decode(bytes(8), checksum=0, height=64, width=64, rate=0)


def test_large_latents_are_coded_by_bands(coder: TensorCoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several streams hold the same symbols as one."""
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


def test_a_picture_by_rows_is_the_picture(coder: TensorCoder, monkeypatch: pytest.MonkeyPatch) -> None:
    x, longest = picture(640, 64), 0

    def rows(first: int, last: int) -> Values:
        nonlocal longest
        longest = max(longest, last - first)
        return x[:, :, first:last].numpy()

    _, y_hat = coder.encode(x)
    monkeypatch.setattr(coding, "STRIP_POSITIONS", 16)
    coded, by_rows = coder.coder.code(coder.coder.analyse(rows, 640, 64))
    y_hat_by_rows = torch.from_numpy(by_rows)
    assert longest < 640
    # Strips round otherwise, so that a value half-way between two may go the other way.
    assert float((y_hat != y_hat_by_rows).float().mean()) < 0.01
    assert torch.equal(coder.decode(coded.payload, checksum=coded.checksum, height=640, width=64), y_hat_by_rows)


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_whole_numbers_cost_no_rate(name: str) -> None:
    autoencoder = read_autoencoder(find_model(name) / "autoencoder")
    x = picture_to_tensor(photograph(192, 256, seed=3))
    coded, _ = tensor_coder(autoencoder.model, autoencoder.tables).encode(x)
    with torch.no_grad():
        output = autoencoder.model(x)
    assert coded.bits_est == pytest.approx(float(output.bits_y + output.bits_z), rel=0.005)
    assert 8 * len(coded.payload) == pytest.approx(coded.bits_est, rel=0.01, abs=512)


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
    coded, _ = tensor_coder(model, build_tables(model)).encode(x)
    assert coded.bits_est / 8 > 500
    assert len(coded.payload) == pytest.approx(coded.bits_est / 8, rel=0.01, abs=64)
    # The latent's share is the entropy of that Gaussian, which neither the coder nor the estimate knows of.
    if scale >= 1.0:
        with torch.no_grad():
            bits_y = float(model(x).bits_y)
        entropy = y.numel() * 0.5 * math.log2(2 * math.pi * math.e * scale**2)
        assert bits_y == pytest.approx(entropy, rel=0.03)


def test_estimate_is_that_of_the_eval_forward(model: Elic, coder: TensorCoder) -> None:
    x = picture(128, 64)
    with torch.no_grad():
        output = model(x)
    coded, y_hat = coder.encode(x)
    assert coded.bits_est == pytest.approx(float(output.bits_y + output.bits_z), rel=1e-4)
    torch.testing.assert_close(model.reconstruct(y_hat), output.x_hat.clamp(0, 1), rtol=1e-4, atol=1e-4)
