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

import numpy as np
import numpy.typing as npt

from hfd.autoencoder.entropy_model import EntropyModel
from hfd.autoencoder.likelihoods import gaussian_bits, hyper_bits
from hfd.autoencoder.rates import DEFAULT_RATE, UNITS, Units, check_rate, check_rate_of_file, step_units
from hfd.autoencoder.streams import StreamLayout, StreamReader, StreamWriter, bands_of
from hfd.autoencoder.strips import PixelRows, by_strips
from hfd.autoencoder.tables import Ints
from hfd.autoencoder.traversal import LatentPart, LatentTraversal, take
from hfd.engine.base import CELL_PX, HYPER_CELLS, Stage1Networks, Values
from hfd.errors import DataError, DecodeMismatchError

_SCALE_BITS = 24
STRIP_POSITIONS = 2**13
"""Positions of y in a strip of the analysis: 2 megapixels."""
_LARGEST = 2**27
"""Largest magnitude of a symbol."""


@dataclass(frozen=True)
class CodedLatents:
    """``payload``: the rANS streams; ``checksum``: of all symbols; ``bits_est``: their likelihood estimate, if asked
    for."""

    payload: bytes
    checksum: int
    bits_est: float | None = None


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents of a picture, before quantisation: ``y`` (1, M, H/16, W/16), ``z`` (1, N, H/64, W/64), float32."""

    y: Values
    z: Values


class LatentCoder:
    """Encodes images to, and decodes latents from, an entropy-coded payload. NumPy, with any engine's ``networks``.

    Raises :class:`DataError` for a model whose entropy parameters cannot be computed exactly.
    """

    def __init__(self, networks: Stage1Networks, model: EntropyModel) -> None:
        self._networks, self._model = networks, model
        self._traversal = LatentTraversal(model.arrays, model.N, model.groups)
        self._scales = [round(scale * 2**_SCALE_BITS) for scale in model.tables.scales.tolist()]
        self._lists_y = model.tables.y.as_lists()
        self._lists_z = model.tables.z.as_lists()
        self._medians = model.medians()

    def encode(self, x: Values, rate: int = DEFAULT_RATE, *, estimate: bool = False) -> tuple[CodedLatents, Values]:
        """Encode one image (1, 3, H, W) float32 in [0, 1], sides multiples of 64, at a rate id.

        Returns the coded latents and y_hat (1, M, H/16, W/16) float32, as :meth:`decode` returns it.
        Raises :class:`ConfigError` for a rate outside 64 to 192.
        """
        latents = self.analyse(lambda first, last: x[:, :, first:last], x.shape[2], x.shape[3])
        return self.code(latents, rate, estimate=estimate)

    def analyse(self, rows: PixelRows, height: int, width: int) -> Latents:
        """Compute the latents of a picture that ``rows`` returns from top to bottom, never whole in float32.

        Takes about as long as coding; the latents are the same for all rates.
        """
        networks, reach = self._networks, self._networks.reach
        strip = max(4, STRIP_POSITIONS * CELL_PX // width)
        y = by_strips(networks.analysis, rows, height, reach=reach.analysis_px, stride=CELL_PX, strip=strip)
        z = by_strips(
            networks.hyper_analysis,
            lambda first, last: y[:, :, first:last],
            y.shape[2],
            reach=reach.hyper_analysis_cells,
            stride=HYPER_CELLS,
            strip=strip // HYPER_CELLS,
        )
        return Latents(y, z)

    def code(
        self, latents: Latents, rate: int = DEFAULT_RATE, *, consume: bool = False, estimate: bool = False
    ) -> tuple[CodedLatents, Values]:
        """Code latents at a rate, as :meth:`encode`.

        ``consume``: write y_hat over y, to save memory. ``estimate``: compute ``bits_est`` too, which takes longer than
        the rest.
        """
        check_rate(rate)
        step, thresholds = step_units(rate), self.thresholds(rate)
        y, z = latents.y, latents.z
        layout = self._layout(*y.shape[2:])
        writer, sums = StreamWriter(layout), _Sums(rate)
        symbols_z = np.clip(np.rint(z[0] - self._medians / UNITS), -_LARGEST, _LARGEST)
        z_hat = symbols_z * UNITS + self._medians
        flat = sums.add(-1, symbols_z.reshape(len(symbols_z), -1))
        writer.add(0, flat.tolist(), self._indexes_z(flat.size), self._lists_z)
        bits = [hyper_bits(z_hat / UNITS, self._model.arrays)] if estimate else []
        y_groups = np.split(y[0], np.cumsum(self._model.groups)[:-1])

        def code(part: LatentPart, scales: Units, means: Units) -> Units:
            taken = take(y_groups[part.k][:, part.first : part.last], part.phase)
            symbols = taken.reshape(scales.shape).astype(np.float64)
            symbols *= UNITS
            symbols -= means
            symbols /= step
            np.clip(np.rint(symbols, out=symbols), -_LARGEST, _LARGEST, out=symbols)
            flat = sums.add(2 * part.k + part.phase, symbols)
            indexes = scale_indexes(scales, thresholds)
            writer.add(layout.stream(part.k, part.phase, part.band), flat.tolist(), indexes, self._lists_y)
            if estimate:
                bits.append(gaussian_bits(symbols, scales / step))
            symbols *= step
            symbols += means
            return symbols

        y_hat = self._traversal.run(z_hat, code, layout.bands, out=y if consume else None)
        return CodedLatents(writer.finish(), sums.checksum, sum(bits) if estimate else None), y_hat

    def decode(self, payload: bytes, *, checksum: int, height: int, width: int, rate: int = DEFAULT_RATE) -> Values:
        """Decode y_hat (1, M, H/16, W/16) float32 from a payload; sides in pixels, multiples of 64.

        Raises :class:`DecodeMismatchError` if the symbols are not the encoded ones, and :class:`BitstreamError` if the
        payload or the rate is impossible for this size.
        """
        check_rate_of_file(rate)
        step, thresholds = step_units(rate), self.thresholds(rate)
        layout = self._layout(height // CELL_PX, width // CELL_PX)
        reader, sums = StreamReader(payload, layout), _Sums(rate)
        side, channels = CELL_PX * HYPER_CELLS, self._model.N
        decoded = reader.take(0, self._indexes_z(layout.hyper_symbols), self._lists_z)
        symbols_z = sums.note(-1, np.array(decoded, np.int32), channels)
        z_hat = symbols_z.reshape(channels, height // side, width // side) * float(UNITS) + self._medians

        def code(part: LatentPart, scales: Units, means: Units) -> Units:
            stream = layout.stream(part.k, part.phase, part.band)
            decoded = reader.take(stream, scale_indexes(scales, thresholds), self._lists_y)
            symbols = sums.note(2 * part.k + part.phase, np.array(decoded, np.int32), len(scales))
            units: Units = symbols * float(step)
            units += means
            return units

        y_hat = self._traversal.run(z_hat, code, layout.bands)
        if sums.checksum != checksum:
            raise DecodeMismatchError(
                f"checksum of symbols: got {sums.checksum:08x}, expected {checksum:08x}. "
                "The file is damaged; fetch it again"
            )
        return y_hat

    def _layout(self, height: int, width: int) -> StreamLayout:
        hyper_symbols = self._model.N * height * width // HYPER_CELLS**2
        return StreamLayout(self._model.groups, hyper_symbols, bands_of(height, width), width)

    def _indexes_z(self, count: int) -> list[int]:
        return list(range(self._model.N)) * (count // self._model.N)

    def thresholds(self, rate: int) -> Units:
        """Thresholds, in units of 1/1024: a scale above n of them uses row n of y's table, the nearest by ratio.

        Geometric means of neighbouring rows' scales times the rate's step, rounded down, which is exact for integers.
        Rounding scales up, as is usual, costs 2.5 times the excess rate.
        """
        means = [isqrt(low * high) for low, high in pairwise(self._scales)]
        return np.array([mean * step_units(rate) >> _SCALE_BITS for mean in means], np.float64)


def scale_indexes(scales: Units, thresholds: Units) -> list[int]:
    """The row of y's table for each scale (G, n), in the order of a stream."""
    indexes: list[int] = np.searchsorted(thresholds, np.ascontiguousarray(scales.T).ravel()).tolist()
    return indexes


class _Sums:
    """Checksum of the symbols.

    It is the CRC32 of the rate id (one byte) and of CRC32s (uint32, little-endian): of z, then for each
    channel group of the anchors and of the rest, over symbols as int32, little-endian, channels within positions in
    raster order.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._crcs: dict[int, int] = {}

    def add(self, step: int, symbols: Units) -> Ints:
        """Add symbols (C, n) and return them as int32 in the order of the stream, (n C,). Raises on NaN."""
        if bool(np.isnan(symbols).any()):  # the coder would not terminate
            raise DataError("latent: got NaN, expected numbers. The weights are damaged; make or fetch the model again")
        flat = np.ascontiguousarray(symbols.T, np.int32).ravel()
        self._count(step, flat)
        return flat

    def note(self, step: int, flat: Ints, channels: int) -> Ints:
        """Add int32 symbols (n C,) in the order of the stream and return them as (C, n)."""
        self._count(step, flat)
        return flat.reshape(-1, channels).T

    def _count(self, step: int, flat: npt.NDArray[np.int32]) -> None:
        self._crcs[step] = zlib.crc32(flat.astype("<i4", copy=False).tobytes(), self._crcs.get(step, 0))

    @property
    def checksum(self) -> int:
        crcs = (self._crcs[step].to_bytes(4, "little") for step in sorted(self._crcs))
        return zlib.crc32(b"".join([bytes([self._rate]), *crcs]))
