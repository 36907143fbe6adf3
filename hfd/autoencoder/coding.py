"""Entropy coding of the latents with integer tables that are stored with the weights.

The tables (cumulative frequencies, 16 bit) are made once, after training: a decoder never computes a probability from
floating-point weights. The entropy *parameters* are integers too (`fixed_point`), so that a stream decodes to the same
symbols on any machine; a checksum of the symbols is the final integrity check. Only the transforms use floating point:
g_a and h_a determine the symbols, g_s the picture, and none of them how a stream is read.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

import torch
from compressai.models.base import get_scale_table
from torch import Tensor

from hfd.autoencoder.model import STRIDE, Elic, gaussian_bits
from hfd.autoencoder.rates import DEFAULT_RATE, UNITS, check_rate, check_rate_of_file, step_units
from hfd.autoencoder.streams import StreamLayout, StreamReader, StreamWriter, bands_of
from hfd.autoencoder.transforms import PixelRows, analyse
from hfd.autoencoder.traversal import Z_STRIDE, LatentPart, LatentTraversal, take
from hfd.errors import DataError, DecodeMismatchError

Y_STRIDE = STRIDE // Z_STRIDE
_SCALE_BITS = 24
STRIP_POSITIONS = 2**13
"""Positions of y in a strip of the analysis: 2 megapixels."""
_LARGEST = 2**27
"""Largest magnitude of a symbol."""


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
        """Return lists for the coder, which copies them at every call: without padding, most of y's table."""
        lengths = self.lengths.tolist()
        rows = [row[:length] for row, length in zip(self.cdf.tolist(), lengths, strict=True)]
        return rows, lengths, self.offsets.tolist()


@dataclass(frozen=True)
class EntropyTables:
    """Tables of z (a row per channel, medians subtracted) and y (a row per scale); ``scales``: float32 (S,)."""

    z: FrequencyTables
    y: FrequencyTables
    scales: Tensor


@dataclass(frozen=True)
class CodedLatents:
    """``payload``: the rANS streams; ``checksum``: of all symbols; ``bits_est``: their likelihood estimate."""

    payload: bytes
    checksum: int
    bits_est: float


@dataclass(frozen=True)
class Latents:
    """Latents of a picture, before quantisation: ``y`` (1, M, H/16, W/16), ``z`` (1, N, H/64, W/64), float32."""

    y: Tensor
    z: Tensor


@torch.no_grad()
def build_tables(model: Elic) -> EntropyTables:
    """Make the integer tables of a trained model, on the CPU in float32, without changing the model.

    Raises :class:`DataError` for a model that :class:`LatentCoder` could not use.
    """
    LatentTraversal(model)
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
    """Encodes images to, and decodes latents from, an entropy-coded payload.

    Raises :class:`DataError` for a model whose entropy parameters cannot be computed exactly.
    """

    def __init__(self, model: Elic, tables: EntropyTables) -> None:
        self._model = model.eval()
        self._traversal = LatentTraversal(model)
        self._scales = [round(scale * 2**_SCALE_BITS) for scale in tables.scales.tolist()]
        self._lists_y = tables.y.as_lists()
        self._lists_z = tables.z.as_lists()
        self._medians = (model.medians().detach().double().cpu().flatten() * UNITS).round().reshape(-1, 1, 1)

    @torch.no_grad()
    def encode(self, x: Tensor, rate: int = DEFAULT_RATE) -> tuple[CodedLatents, Tensor]:
        """Encode one image (1, 3, H, W) float32 in [0, 1], sides multiples of 64, at a rate id.

        Returns the coded latents and y_hat (1, M, H/16, W/16) float32, as :meth:`decode` returns it.
        Raises :class:`ConfigError` for a rate outside 64 to 192.
        """
        return self.code(self.analyse(lambda first, last: x[:, :, first:last], x.shape[2], x.shape[3]), rate)

    def analyse(self, rows: PixelRows, height: int, width: int) -> Latents:
        """Compute the latents of a picture that ``rows`` returns from top to bottom, never whole in float32.

        Takes about as long as coding; the latents are the same for all rates.
        """
        strip = max(4, STRIP_POSITIONS * Y_STRIDE // width)
        y = analyse(self._model.g_a, rows, height, stride=Y_STRIDE, strip=strip)
        z = analyse(
            self._model.h_a, lambda first, last: y[:, :, first:last], y.shape[2], stride=Z_STRIDE, strip=strip // 4
        )
        return Latents(y, z)

    @torch.no_grad()
    def code(self, latents: Latents, rate: int = DEFAULT_RATE, *, consume: bool = False) -> tuple[CodedLatents, Tensor]:
        """Code latents at a rate, as :meth:`encode`. ``consume``: write y_hat over y, to save memory."""
        check_rate(rate)
        step, thresholds = step_units(rate), self.thresholds(rate)
        y, z = latents.y, latents.z
        layout = self._layout(*y.shape[2:])
        writer, sums = StreamWriter(layout), _Sums(rate)
        with torch.autocast("cpu", enabled=False):
            symbols_z = torch.round(z[0] - self._medians / UNITS).clamp_(-_LARGEST, _LARGEST)
            z_hat = symbols_z * UNITS + self._medians
            flat = sums.add(-1, symbols_z.flatten(1))
            writer.add(0, flat.tolist(), self._indexes_z(flat.numel()), self._lists_z)
            sums.bits += self._bits_z(z_hat)
            y_groups = torch.split(y[0], list(self._model.groups))

            def code(part: LatentPart, scales: Tensor, means: Tensor) -> Tensor:
                units = take(y_groups[part.k][:, part.first : part.last], part.phase).flatten(1).double().mul_(UNITS)
                symbols = units.sub_(means).div_(step).round_().clamp_(-_LARGEST, _LARGEST)
                flat = sums.add(2 * part.k + part.phase, symbols)
                indexes = scale_indexes(scales, thresholds)
                writer.add(layout.stream(part.k, part.phase, part.band), flat.tolist(), indexes, self._lists_y)
                sums.bits += float(gaussian_bits(symbols.unsqueeze(0), scales.div(step).unsqueeze(0)))
                return symbols.mul_(step).add_(means)

            y_hat = self._traversal.run(z_hat, code, layout.bands, out=y if consume else None)
        return CodedLatents(writer.finish(), sums.checksum, sums.bits), y_hat

    @torch.no_grad()
    def decode(self, payload: bytes, *, checksum: int, height: int, width: int, rate: int = DEFAULT_RATE) -> Tensor:
        """Decode y_hat (1, M, H/16, W/16) float32 from a payload; sides in pixels, multiples of 64.

        Raises :class:`DecodeMismatchError` if the symbols are not the encoded ones, and :class:`BitstreamError` if the
        payload or the rate is impossible for this size.
        """
        check_rate_of_file(rate)
        step, thresholds = step_units(rate), self.thresholds(rate)
        layout = self._layout(height // Y_STRIDE, width // Y_STRIDE)
        reader, sums = StreamReader(payload, layout), _Sums(rate)
        with torch.autocast("cpu", enabled=False):
            channels = self._model.N
            decoded = reader.take(0, self._indexes_z(layout.hyper_symbols), self._lists_z)
            symbols_z = sums.note(-1, torch.tensor(decoded, dtype=torch.int32), channels)
            shape_z = (channels, height // STRIDE, width // STRIDE)
            z_hat = symbols_z.reshape(shape_z).double().mul_(UNITS).add_(self._medians)

            def code(part: LatentPart, scales: Tensor, means: Tensor) -> Tensor:
                stream = layout.stream(part.k, part.phase, part.band)
                decoded = reader.take(stream, scale_indexes(scales, thresholds), self._lists_y)
                symbols = sums.note(2 * part.k + part.phase, torch.tensor(decoded, dtype=torch.int32), len(scales))
                return symbols.double().mul_(step).add_(means)

            y_hat = self._traversal.run(z_hat, code, layout.bands)
        if sums.checksum != checksum:
            raise DecodeMismatchError(
                f"checksum of symbols: got {sums.checksum:08x}, expected {checksum:08x}. "
                "The file is damaged; fetch it again"
            )
        return y_hat

    def _bits_z(self, z_hat: Tensor) -> float:
        bottleneck = self._model.entropy_bottleneck
        values = z_hat.unsqueeze(0).div(UNITS).to(bottleneck.quantiles)
        return float(-bottleneck(values, training=False)[1].double().log2().sum())

    def _layout(self, height: int, width: int) -> StreamLayout:
        hyper_symbols = self._model.N * height * width // Z_STRIDE**2
        return StreamLayout(self._model.groups, hyper_symbols, bands_of(height, width), width)

    def _indexes_z(self, count: int) -> list[int]:
        return list(range(self._model.N)) * (count // self._model.N)

    def thresholds(self, rate: int) -> Tensor:
        """Thresholds, in units of 1/1024: a scale above n of them uses row n of y's table, the nearest by ratio.

        Geometric means of neighbouring rows' scales times the rate's step, rounded down, which is exact for integers.
        Rounding scales up, as is usual, costs 2.5 times the excess rate.
        """
        means = [isqrt(low * high) for low, high in pairwise(self._scales)]
        return torch.tensor([mean * step_units(rate) >> _SCALE_BITS for mean in means], dtype=torch.float64)


def scale_indexes(scales: Tensor, thresholds: Tensor) -> list[int]:
    indexes: list[int] = torch.bucketize(scales.t().contiguous(), thresholds, out_int32=True).flatten().tolist()
    return indexes


class _Sums:
    """Checksum of the symbols, and their bits.

    The checksum is the CRC32 of the rate id (one byte) and of CRC32s (uint32, little-endian): of z, then for each
    channel group of the anchors and of the rest, over symbols as int32, little-endian, channels within positions in
    raster order.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._crcs: dict[int, int] = {}
        self.bits = 0.0

    def add(self, step: int, symbols: Tensor) -> Tensor:
        """Add symbols (C, n) and return them as int32 in the order of the stream, (n C,). Raises on NaN."""
        if bool(symbols.isnan().any()):  # the coder would not terminate
            raise DataError("latent: got NaN, expected numbers. The weights are damaged; make or fetch the model again")
        flat = symbols.t().to(torch.int32).contiguous().flatten()
        self._count(step, flat)
        return flat

    def note(self, step: int, flat: Tensor, channels: int) -> Tensor:
        """Add int32 symbols (n C,) in the order of the stream and return them as (C, n)."""
        self._count(step, flat)
        return flat.reshape(-1, channels).t()

    def _count(self, step: int, flat: Tensor) -> None:
        self._crcs[step] = zlib.crc32(flat.numpy().astype("<i4", copy=False).tobytes(), self._crcs.get(step, 0))

    @property
    def checksum(self) -> int:
        crcs = (self._crcs[step].to_bytes(4, "little") for step in sorted(self._crcs))
        return zlib.crc32(b"".join([bytes([self._rate]), *crcs]))
