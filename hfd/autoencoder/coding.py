"""Entropy coding of the latents: one rANS stream per image, from integer tables that travel with the weights.

The tables (cumulative frequencies, 16 bit) are made once, when training ends, and stored as integers:
a decoder never recomputes a probability from floating-point weights. The entropy *parameters* are still
computed by float32 convolutions, the same calls on the same shapes on both sides; a checksum of the
symbols guards against kernels that differ between machines.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.models.base import get_scale_table
from torch import Tensor

from hfd.autoencoder.model import STRIDE, Elic, gaussian_bits
from hfd.errors import BitstreamError, DecodeMismatchError


@dataclass(frozen=True)
class FrequencyTables:
    """Cumulative frequencies of a family of distributions. Int32 tensors.

    ``cdf`` (D, L): rows ascending from 0 to 2^16, padded with 0; ``lengths`` (D,): used entries of a row;
    ``offsets`` (D,): the smallest symbol of each row.
    """

    cdf: Tensor
    lengths: Tensor
    offsets: Tensor

    def as_lists(self) -> tuple[list[list[int]], list[int], list[int]]:
        """For the coder, which copies them at every call: without the padding, most of y's table."""
        lengths = self.lengths.tolist()
        rows = [row[:length] for row, length in zip(self.cdf.tolist(), lengths, strict=True)]
        return rows, lengths, self.offsets.tolist()


@dataclass(frozen=True)
class EntropyTables:
    """Tables of z (a row per channel, medians subtracted) and of y (a row per scale); ``scales``, float32 (S,)."""

    z: FrequencyTables
    y: FrequencyTables
    scales: Tensor


@dataclass(frozen=True)
class Coded:
    """``payload``: the rANS stream; ``checksum``: CRC32 of all symbols; ``bits_est``: their likelihood estimate."""

    payload: bytes
    checksum: int
    bits_est: float


@torch.no_grad()
def build_tables(model: Elic) -> EntropyTables:
    """Make the integer tables of a trained model, on the CPU in float32. Does not change the model."""
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional

    bottleneck = EntropyBottleneck(model.N)
    bottleneck.load_state_dict(
        {name: value for name, value in model.entropy_bottleneck.state_dict().items() if value.numel()},
        strict=False,
    )
    bottleneck.float().cpu()
    medians = bottleneck.quantiles[:, 0, 1].clone()
    bottleneck._update_quantiles()
    bottleneck.quantiles[:, 0, 1] = medians
    bottleneck.update(force=True)
    conditional = GaussianConditional(None)
    scales = get_scale_table()
    conditional.update_scale_table(scales, force=True)
    return EntropyTables(z=_tables_of(bottleneck), y=_tables_of(conditional), scales=scales)


def _tables_of(entropy_model: torch.nn.Module) -> FrequencyTables:
    return FrequencyTables(
        cdf=entropy_model.get_buffer("_quantized_cdf").int().contiguous(),
        lengths=entropy_model.get_buffer("_cdf_length").reshape(-1).int(),
        offsets=entropy_model.get_buffer("_offset").reshape(-1).int(),
    )


class LatentCoder:
    """Encodes images to, and decodes latents from, one entropy-coded stream. Holds a model and its tables."""

    def __init__(self, model: Elic, tables: EntropyTables) -> None:
        self._model = model.eval()
        self._tables = tables
        # Geometric means of neighbours. Product and square root are rounded correctly, hence the same everywhere.
        self._thresholds = (tables.scales[1:] * tables.scales[:-1]).sqrt()
        self._lists_y = tables.y.as_lists()
        self._lists_z = tables.z.as_lists()

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Coded, Tensor]:
        """Encode one image (1, 3, H, W) float32 in [0, 1], sides multiples of 64.

        Returns the coded image and y_hat (1, M, H/16, W/16), which is what :meth:`decode` will return.
        """
        model, encoder, sums = self._model, BufferedRansEncoder(), _Sums()
        y = model.g_a(x).float()
        medians = model.medians()
        z = model.h_a(y).float()
        symbols_z = torch.round(z - medians).int()
        z_hat = symbols_z.float() + medians
        encoder.encode_with_indexes(symbols_z.flatten().tolist(), self._indexes_z(z_hat), *self._lists_z)
        _, likelihood = model.entropy_bottleneck(z_hat, training=False)
        sums.add(symbols_z, float(-likelihood.double().log2().sum()))

        def code(k: int, at: Tensor, scales_hat: Tensor, means_hat: Tensor) -> Tensor:
            symbols = torch.round(model.group(y, k).flatten(2)[..., at] - means_hat).int()
            encoder.encode_with_indexes(symbols.flatten().tolist(), self._indexes_y(scales_hat), *self._lists_y)
            sums.add(symbols, float(gaussian_bits(symbols.double(), scales_hat.double())))
            return symbols.float() + means_hat

        y_hat = model.walk_latent(z_hat, code)
        return Coded(encoder.flush(), sums.checksum, sums.bits), y_hat

    @torch.no_grad()
    def decode(self, payload: bytes, *, checksum: int, height: int, width: int) -> Tensor:
        """The latent y_hat (1, M, H/16, W/16) of a stream; sides in pixels, multiples of 64.

        Raises :class:`DecodeMismatchError` when the symbols are not those that were encoded, and
        :class:`BitstreamError` when the stream is too short to be one.
        """
        if len(payload) < 4 or len(payload) % 4:
            raise BitstreamError(
                f"payload: got {len(payload)} bytes, expected a positive multiple of 4. The file is damaged"
            )
        model, sums = self._model, _Sums()
        num_symbols = (height * width // 256) * model.M + (height * width // STRIDE**2) * model.N
        if len(payload) > _longest_bytes(num_symbols):
            raise BitstreamError(
                f"payload: got {len(payload)} bytes, expected at most {_longest_bytes(num_symbols)} "
                f"for {width} x {height} pixels. The file is damaged"
            )
        decoder = RansDecoder()
        # rANS reads 32-bit words without a bound; zeros behind the end keep a damaged stream inside memory.
        decoder.set_stream(payload + bytes(_overrun_bytes(num_symbols, len(payload))))
        medians = model.medians()
        shape_z = (1, model.N, height // STRIDE, width // STRIDE)
        symbols_z = self._read(decoder, self._indexes_z(torch.empty(shape_z)), self._lists_z).reshape(shape_z)
        sums.add(symbols_z, 0.0)

        def code(_k: int, _at: Tensor, scales_hat: Tensor, means_hat: Tensor) -> Tensor:
            symbols = self._read(decoder, self._indexes_y(scales_hat), self._lists_y).reshape(scales_hat.shape)
            sums.add(symbols, 0.0)
            return symbols.to(means_hat.device).float() + means_hat

        y_hat = model.walk_latent(symbols_z.to(medians.device).float() + medians, code)
        if sums.checksum != checksum:
            raise DecodeMismatchError(
                f"checksum of symbols: got {sums.checksum:08x}, expected {checksum:08x}. "
                "The file is damaged, or this machine computes other entropy parameters than the encoder's"
            )
        return y_hat

    @staticmethod
    def _read(decoder: RansDecoder, indexes: list[int], lists: tuple[list[list[int]], list[int], list[int]]) -> Tensor:
        return torch.tensor(decoder.decode_stream(indexes, *lists), dtype=torch.int32)

    @staticmethod
    def _indexes_z(z: Tensor) -> list[int]:
        _, channels, height, width = z.shape
        return list(np.repeat(np.arange(channels), height * width).tolist())

    def _indexes_y(self, scales_hat: Tensor) -> list[int]:
        # Index of the nearest table scale, by ratio. Rounding up, as is usual, costs 2.5 times the excess rate.
        return list(torch.bucketize(scales_hat.contiguous(), self._thresholds.to(scales_hat.device)).flatten().tolist())


def _longest_bytes(num_symbols: int) -> int:
    # A symbol takes at most 16 bits, an escape 36 more (a count and eight nibbles); the state takes 8 bytes.
    return 8 * num_symbols + 8


def _overrun_bytes(num_symbols: int, payload_bytes: int) -> int:
    """How far behind the end of a damaged stream the decoder may read.

    Each nibble of a stream of escapes can ask for 15 more nibbles. Behind the end, where only zeros are
    read, a symbol takes at most 2 bytes, or 72 if it is an escape, which has a chance of about 2^-16.
    """
    return 16 * payload_bytes + 4 * num_symbols + 4096


@dataclass
class _Sums:
    checksum: int = 0
    bits: float = 0.0

    def add(self, symbols: Tensor, bits: float) -> None:
        self.checksum = zlib.crc32(symbols.cpu().contiguous().numpy().astype("<i4").tobytes(), self.checksum)
        self.bits += bits
