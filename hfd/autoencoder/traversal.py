"""Integer context-model traversal of a latent by bands of rows, shared by encoder and decoder.

The order of :meth:`hfd.autoencoder.model.Elic.traverse_latent`, with the same networks: for each channel group
the anchors of a checkerboard, then the rest. Here the networks are those of `fixed_point`, and only the latent
itself is in memory as a whole. A band's rest needs the anchors of two rows below, so it waits for the next
band's. The integers are the same whatever the bands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.autoencoder.fixed_point import LIMIT, Aggregation, Anchors, Stack, layers_of, stacks_of
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import UNITS

Z_STRIDE = 4
"""Rows of y per row of z."""

_ROWS_ABOVE = 2


@dataclass(frozen=True)
class LatentPart:
    """A step of the traversal: group ``k``, ``phase`` 0 (anchors) or 1 (the rest), band ``band`` of rows ``first`` to
    ``last`` (exclusive) of the latent."""

    k: int
    phase: int
    band: int
    first: int
    last: int


CodeLatentPart = Callable[[LatentPart, Tensor, Tensor], Tensor]
"""(part, scales (G, n), means (G, n)) -> y_hat (G, n): float64 in units of 1/1024, positions in raster order."""


class LatentTraversal:
    """The integer networks of a model. Raises :class:`DataError` for weights that they cannot hold exactly."""

    def __init__(self, model: Elic) -> None:
        self.groups = model.groups
        self._h_s = Stack(layers_of(model.h_s, "h_s"))
        self._g_ch = stacks_of(model.g_ch, "g_ch")
        self._g_sp = tuple(Anchors.of(*layers_of(network, f"g_sp.{k}")) for k, network in enumerate(model.g_sp))
        self._aggregation = tuple(
            Aggregation(layers_of(network, f"param_aggregation.{k}"))
            for k, network in enumerate(model.param_aggregation)
        )

    @torch.no_grad()
    def run(
        self, z_hat: Tensor, code: CodeLatentPart, bands: tuple[tuple[int, int], ...], out: Tensor | None = None
    ) -> Tensor:
        """Visit the latent and return y_hat (1, M, 4h, 4w), float32.

        ``z_hat``: (N, h, w), float64 in units of 1/1024. ``bands``: rows of the latent, from even ones on. ``out``:
        where y_hat is written. It may be the latent y that ``code`` reads: a value is read before it is written, and
        the networks read only written values.
        """
        height, width = Z_STRIDE * z_hat.shape[1], Z_STRIDE * z_hat.shape[2]
        z_hat = z_hat.clamp(-LIMIT, LIMIT)
        y_hat = torch.zeros((1, sum(self.groups), height, width)) if out is None else out
        # One band: h_s is asked for the same rows by every group.
        hyper = self._hyper(z_hat, 0, height) if len(bands) == 1 else None
        start = 0
        for k, channels in enumerate(self.groups):
            done, y_k = y_hat[0, :start], y_hat[0, start : start + channels]
            waiting: tuple[LatentPart, Tensor] | None = None
            for band, (first, last) in enumerate(bands):
                side = self._hyper(z_hat, first, last) if hyper is None else hyper
                if k > 0:
                    side = torch.cat([self._channel_context(k, done, first, last), side])
                anchors, rest = (take(side, phase).flatten(1) for phase in (0, 1))
                part = LatentPart(k, 0, band, first, last)
                put(y_k[:, first:last], 0, code(part, *self._aggregation[k](None, anchors)))
                if waiting is not None:
                    self._code_rest(y_k, *waiting, code)
                waiting = LatentPart(k, 1, band, first, last), rest
            assert waiting is not None
            self._code_rest(y_k, *waiting, code)
            start += channels
        return y_hat

    def _code_rest(self, y_k: Tensor, part: LatentPart, side: Tensor, code: CodeLatentPart) -> None:
        low, high = part.first - _ROWS_ABOVE, part.last + _ROWS_ABOVE
        anchors = take(_units(y_k[:, max(low, 0) : high]), 0)
        anchors = F.pad(anchors, (0, 0, max(-low, 0), max(high - y_k.shape[1], 0)))
        context = self._g_sp[part.k].rows(anchors).flatten(1)
        put(y_k[:, part.first : part.last], 1, code(part, *self._aggregation[part.k](context, side)))

    def _hyper(self, z_hat: Tensor, first: int, last: int) -> Tensor:
        return self._h_s.rows(lambda low, high: z_hat[:, low:high], z_hat.shape[1], first, last)

    def _channel_context(self, k: int, done: Tensor, first: int, last: int) -> Tensor:
        return self._g_ch[k - 1].rows(lambda low, high: _units(done[:, low:high]), done.shape[1], first, last)


def _units(y_hat: Tensor) -> Tensor:
    # float32 holds whole units exactly up to LIMIT; larger values are saturated.
    return y_hat.double().mul_(UNITS).clamp_(-LIMIT, LIMIT)


def take(x: Tensor, phase: int) -> Tensor:
    """The anchors (phase 0) or the rest (1) of a map (C, H, W), from an even row on: (C, H, W/2)."""
    cells = _cells(x)
    return torch.stack([cells[:, :, 0, :, phase], cells[:, :, 1, :, 1 - phase]], dim=2).flatten(1, 2)


def _cells(x: Tensor) -> Tensor:
    _, height, width = x.shape
    cells: Tensor = x.unflatten(2, [width // 2, 2]).unflatten(1, [height // 2, 2])  # type: ignore[no-untyped-call]
    return cells


def put(x: Tensor, phase: int, units: Tensor) -> None:
    """Write values in units of 1/1024, (C, H W/2), to the positions of a map that :func:`take` reads."""
    cells = _cells(x)
    values = units.reshape(cells.shape[:4]).mul(1 / UNITS)
    cells[:, :, 0, :, phase] = values[:, :, 0]
    cells[:, :, 1, :, 1 - phase] = values[:, :, 1]
