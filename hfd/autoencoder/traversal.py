"""Integer context-model traversal of a latent by bands of rows, shared by encoder and decoder.

The order of :meth:`hfd.autoencoder.model.Elic.traverse_latent`, with the same networks, in NumPy: for each channel
group the anchors of a checkerboard, then the rest. Here the networks are those of `fixed_point`, and only the latent
itself is in memory as a whole. A band's rest needs the anchors of two rows below, so it waits for the next
band's. The integers are the same whatever the bands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hfd.autoencoder.entropy_weights import Arrays, Kind, layers_of
from hfd.autoencoder.fixed_point import LIMIT, Aggregation, Anchors, Stack
from hfd.autoencoder.rates import UNITS, Units
from hfd.engine.base import Values

Z_STRIDE = 4
"""Rows of y per row of z."""

_ROWS_ABOVE = 2

Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True)
class LatentPart:
    """A step of the traversal: group ``k``, ``phase`` 0 (anchors) or 1 (the rest), band ``band`` of rows ``first`` to
    ``last`` (exclusive) of the latent."""

    k: int
    phase: int
    band: int
    first: int
    last: int


CodeLatentPart = Callable[[LatentPart, Units, Units], Units]
"""(part, scales (G, n), means (G, n)) -> y_hat (G, n): float64 in units of 1/1024, positions in raster order."""


class LatentTraversal:
    """The integer networks of a model with N channels of z and these channel ``groups`` of y, from its ``arrays``.

    Raises :class:`DataError` for weights that do not fit, or that the networks cannot hold exactly.
    """

    def __init__(self, arrays: Arrays, N: int, groups: tuple[int, ...]) -> None:
        self.groups = groups
        self._h_s = Stack(layers_of(arrays, "h_s", Kind.TRANSPOSED, (N, 2 * N)))
        self._g_ch = tuple(
            Stack(layers_of(arrays, f"g_ch.{k - 1}", Kind.PLAIN, (sum(groups[:k]), 2 * groups[k])))
            for k in range(1, len(groups))
        )
        self._g_sp = tuple(
            Anchors.of(*layers_of(arrays, f"g_sp.{k}", Kind.CHECKERBOARD, (group, 2 * group)))
            for k, group in enumerate(groups)
        )
        self._aggregation = tuple(
            Aggregation(
                layers_of(
                    arrays, f"param_aggregation.{k}", Kind.PLAIN, (2 * group * (2 if k else 1) + 2 * N, 2 * group)
                )
            )
            for k, group in enumerate(groups)
        )

    def run(
        self, z_hat: Units, code: CodeLatentPart, bands: tuple[tuple[int, int], ...], out: Values | None = None
    ) -> Values:
        """Visit the latent and return y_hat (1, M, 4h, 4w), float32.

        ``z_hat``: (N, h, w), float64 in units of 1/1024. ``bands``: rows of the latent, from even ones on. ``out``:
        where y_hat is written. It may be the latent y that ``code`` reads: a value is read before it is written, and
        the networks read only written values.
        """
        height, width = Z_STRIDE * z_hat.shape[1], Z_STRIDE * z_hat.shape[2]
        z_hat = np.clip(z_hat, -LIMIT, LIMIT)
        y_hat = np.zeros((1, sum(self.groups), height, width), np.float32) if out is None else out
        # One band: h_s is asked for the same rows by every group.
        hyper = self._hyper(z_hat, 0, height) if len(bands) == 1 else None
        start = 0
        for k, channels in enumerate(self.groups):
            done, y_k = y_hat[0, :start], y_hat[0, start : start + channels]
            waiting: tuple[LatentPart, Units] | None = None
            for band, (first, last) in enumerate(bands):
                side = self._hyper(z_hat, first, last) if hyper is None else hyper
                if k > 0:
                    side = np.concatenate([self._channel_context(k, done, first, last), side])
                anchors, rest = (_positions(take(side, phase)) for phase in (0, 1))
                part = LatentPart(k, 0, band, first, last)
                put(y_k[:, first:last], 0, code(part, *self._aggregation[k](None, anchors)))
                if waiting is not None:
                    self._code_rest(y_k, *waiting, code)
                waiting = LatentPart(k, 1, band, first, last), rest
            assert waiting is not None
            self._code_rest(y_k, *waiting, code)
            start += channels
        return y_hat

    def _code_rest(self, y_k: Values, part: LatentPart, side: Units, code: CodeLatentPart) -> None:
        low, high = part.first - _ROWS_ABOVE, part.last + _ROWS_ABOVE
        anchors = take(_units(y_k[:, max(low, 0) : high]), 0)
        anchors = np.pad(anchors, ((0, 0), (max(-low, 0), max(high - y_k.shape[1], 0)), (0, 0)))
        context = _positions(self._g_sp[part.k].rows(anchors))
        put(y_k[:, part.first : part.last], 1, code(part, *self._aggregation[part.k](context, side)))

    def _hyper(self, z_hat: Units, first: int, last: int) -> Units:
        return self._h_s.rows(lambda low, high: z_hat[:, low:high], z_hat.shape[1], first, last)

    def _channel_context(self, k: int, done: Values, first: int, last: int) -> Units:
        return self._g_ch[k - 1].rows(lambda low, high: _units(done[:, low:high]), done.shape[1], first, last)


def _units(y_hat: Values) -> Units:
    # float32 holds whole units exactly up to LIMIT; larger values are saturated.
    units = y_hat.astype(np.float64)
    units *= UNITS
    return np.clip(units, -LIMIT, LIMIT, out=units)


def _positions(x: Units) -> Units:
    """(C, H, W) as (C, H W)."""
    return x.reshape(len(x), -1)


def take(x: npt.NDArray[Number], phase: int) -> npt.NDArray[Number]:
    """The anchors (phase 0) or the rest (1) of a map (C, H, W), from an even row on: (C, H, W/2)."""
    channels, height, width = x.shape
    cells = _cells(x)
    taken: npt.NDArray[Number] = np.stack([cells[:, :, 0, :, phase], cells[:, :, 1, :, 1 - phase]], axis=2)
    return taken.reshape(channels, height, width // 2)


def _cells(x: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """A view (C, H/2, 2, W/2, 2) of a map, however its rows lie."""
    channels, height, width = x.shape
    plane, row, column = x.strides
    shape = (channels, height // 2, 2, width // 2, 2)
    cells: npt.NDArray[Number] = np.lib.stride_tricks.as_strided(x, shape, (plane, 2 * row, row, 2 * column, column))
    return cells


def put(x: npt.NDArray[Number], phase: int, units: Units) -> None:
    """Write values in units of 1/1024, (C, H W/2), to the positions of a map that :func:`take` reads."""
    cells = _cells(x)
    values = units.reshape(cells.shape[:4]) * (1 / UNITS)
    cells[:, :, 0, :, phase] = values[:, :, 0]
    cells[:, :, 1, :, 1 - phase] = values[:, :, 1]
