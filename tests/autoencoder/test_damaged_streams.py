"""The entropy coder is safe with damaged streams and broken weights."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import torch

from hfd.autoencoder.make_tables import build_tables
from hfd.errors import BitstreamError, DecodeMismatchError
from tests.support.coders import TensorCoder, tensor_coder
from tests.support.latents import damaged, picture
from tests.support.networks import lively_elic


@pytest.fixture(scope="module")
def coder() -> TensorCoder:
    model = lively_elic(16, 16, (8, 8))
    return tensor_coder(model, build_tables(model))


@pytest.mark.integration
def test_weights_that_are_not_finite_are_reported() -> None:
    """In a process of its own: the coder would never return from a symbol of -2^31."""
    script = """
import torch
from tests.support.latents import damaged, picture
from tests.support.networks import lively_elic
from hfd.autoencoder.make_tables import build_tables
from tests.support.coders import TensorCoder, tensor_coder
model = lively_elic(16, 16, (8, 8))
tables = build_tables(model)
with torch.no_grad():
    model.g_a[0].weight.fill_(float("nan"))
tensor_coder(model, tables).encode(torch.rand(1, 3, 64, 64))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "DataError: latent: got NaN, expected numbers. The weights are damaged" in ended.stderr


def test_wrong_checksum(coder: TensorCoder) -> None:
    coded, _ = coder.encode(picture(64, 64))
    with pytest.raises(DecodeMismatchError, match="checksum of symbols"):
        coder.decode(coded.payload, checksum=coded.checksum ^ 1, height=64, width=64)


def test_damaged_streams_are_refused(coder: TensorCoder) -> None:
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


def test_longer_stream_than_any_encoder_writes_is_refused(coder: TensorCoder) -> None:
    """Escapes ask for as many more bits as they like: the reader must not run past its memory."""
    symbols = 16 * 16 + 16
    with pytest.raises(BitstreamError, match=f"expected at most {8 * symbols + 8} for {symbols} symbols"):
        coder.decode(b"\xff" * (8 * symbols + 12), checksum=0, height=64, width=64)
    with pytest.raises(DecodeMismatchError):
        coder.decode(b"\xff" * (8 * symbols + 8), checksum=0, height=64, width=64)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 7])
def test_odd_lengths_are_refused(coder: TensorCoder, length: int) -> None:
    with pytest.raises(BitstreamError, match=f"got {length} bytes"):
        coder.decode(b"\x01" * length, checksum=0, height=64, width=64)


def test_stream_of_another_size_is_refused(coder: TensorCoder) -> None:
    coded, _ = coder.encode(picture(128, 64))
    for height, width in ((64, 64), (64, 128), (192, 192)):
        with pytest.raises(BitstreamError):
            coder.decode(coded.payload, checksum=coded.checksum, height=height, width=width)
