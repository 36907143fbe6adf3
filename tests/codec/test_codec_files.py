"""Files of the codec: rate, sections, seed; and refused files."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from hfd.codec.codec import Codec, Request
from hfd.codec.container import ICC, LATENTS, SAMPLING, pack, seed_of_file, unpack
from hfd.codec.decode import resolve
from hfd.codec.sampling_options import SamplingOptions
from hfd.codec.sections import Extras, read_extras
from hfd.diffusion.sampling import Sampling
from hfd.errors import BitstreamError, DataError, DecodeMismatchError
from hfd.io.storage import Folder
from tests.support.pictures import photograph


@pytest.fixture(scope="module")
def codec(model_folder: Folder) -> Codec:
    return Codec.load(model_folder)


def test_sections_go_with_the_picture_and_change_nothing_of_it(codec: Codec, compressed: bytes) -> None:
    alpha = photograph(70, 90, seed=3)[..., 0]
    extras = Extras(alpha, b"profile", b"exif", SamplingOptions(steps=3, realism=0.5))
    data = codec.compress(photograph(70, 90), sections=extras.to_sections()).data
    plain, found = unpack(compressed), unpack(data)
    assert found.sections[LATENTS] == plain.sections[LATENTS] and found.checksum == plain.checksum
    np.testing.assert_array_equal(codec.reconstruct(data), codec.reconstruct(compressed))
    back = read_extras(found, max_pixels=6300)
    np.testing.assert_array_equal(back.alpha, alpha)
    assert (back.icc, back.exif, back.sampling) == (b"profile", b"exif", extras.sampling)


def test_a_plain_file_is_its_payload_and_at_most_24_bytes(codec: Codec) -> None:
    for height, width in ((1, 1), (64, 64), (300, 257)):
        x = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        data = codec.compress(x).data
        assert 21 <= len(data) - len(unpack(data).sections[LATENTS]) <= 24


def resolved(codec: Codec, data: bytes, options: SamplingOptions = SamplingOptions()) -> Request:
    container = unpack(data)
    return resolve(options, read_extras(container, max_pixels=10_000).sampling, container, codec.decoder)


def test_a_file_is_sampled_as_it_asks_and_otherwise_as_the_model_is(codec: Codec, compressed: bytes) -> None:
    assert resolved(codec, compressed) == Request(codec.default_sampling, seed_of_file(compressed))
    wish = SamplingOptions(None, "ancestral", 0.25, 0.5, True, False, 7)
    container = unpack(compressed)
    sections = {**container.sections, **Extras(sampling=wish).to_sections()}
    asked = resolved(codec, pack(replace(container, sections=sections)))
    assert asked == Request(Sampling(codec.default_sampling.steps, "ancestral", 0.25, 0.5, True, False), 7)
    stated = resolved(codec, pack(replace(container, sections=sections)), SamplingOptions(steps=2, gamma=0.0))
    assert stated == Request(Sampling(2, "ancestral", 0.0, 0.5, True, False), 7)
    assert resolved(codec, compressed, SamplingOptions(realism=0.0)).sampling is None
    sections[SAMPLING] = b"\x07\x00"
    with pytest.raises(BitstreamError, match="sampling: got id 7"):
        resolved(codec, pack(replace(container, sections=sections)))


def test_the_seed_of_a_file_is_the_crc_that_ends_it(compressed: bytes) -> None:
    """Of the bytes before it: over the whole file, a CRC that ends with itself is the same for every file."""
    other = pack(replace(unpack(compressed), checksum=0))
    assert zlib.crc32(compressed) == zlib.crc32(other)
    assert seed_of_file(compressed) == int.from_bytes(compressed[-4:], "little") != seed_of_file(other)


def test_the_latent_of_a_file(codec: Codec, compressed: bytes) -> None:
    y_hat = codec.open(unpack(compressed)).y_hat
    assert y_hat.shape == (1, 16, 8, 8)
    x_hat = codec.autoencoder.model.reconstruct(torch.from_numpy(y_hat))[0, :, :70, :90]
    np.testing.assert_array_equal(x_hat.mul(255).round().byte().permute(1, 2, 0), codec.reconstruct(compressed))


# --- refusals ------------------------------------------------------------------------------------


def refusal(codec: Codec, data: bytes) -> str:
    with pytest.raises((BitstreamError, DataError)) as caught:
        codec.reconstruct(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(type(caught.value)):
        codec.open(unpack(data))
    return str(caught.value)


def test_truncation_at_every_byte(codec: Codec) -> None:
    data = codec.compress(photograph(20, 30), sections={ICC: b"\0profile"}).data
    for length in range(len(data)):
        message = refusal(codec, data[:length])
        words = "no bytes" if length == 0 else "not an .hfd file" if length < 4 else "truncated or damaged; fetch it"
        assert words in message


@pytest.mark.parametrize(("width", "height"), [(2**16, 2**15), (2**24, 1), (1, 2**24), (2**24, 2**24), (8001, 8000)])
def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(
    codec: Codec, compressed: bytes, width: int, height: int
) -> None:
    message = refusal(codec, pack(replace(unpack(compressed), width=width, height=height)))
    assert message.startswith(f"size: got {width} x {height} pixels, expected at most 64000000 pixels")


def test_a_wrong_checksum_model_or_rate(codec: Codec, compressed: bytes) -> None:
    container = unpack(compressed)
    with pytest.raises(DecodeMismatchError, match="checksum of symbols: got"):
        codec.reconstruct(pack(replace(container, checksum=container.checksum ^ 1)))
    message = refusal(codec, pack(replace(container, model=b"abcd")))
    assert message.startswith("model: got a file made by 61626364, expected ") and "--model" in message
    assert refusal(codec, pack(replace(container, rate=63))).startswith("rate: got 63, expected 64 to 192")
    with pytest.raises(DecodeMismatchError):
        codec.reconstruct(pack(replace(container, rate=140)))


def test_a_file_of_version_1(codec: Codec, compressed: bytes) -> None:
    assert refusal(codec, compressed[:4] + b"\x01" + compressed[5:]) == (
        "version: got version 1, expected version 2. Use the hfd release that wrote it"
    )
