"""Integer arithmetic for the entropy networks (h_s, g_ch, g_sp, param_aggregation): the same symbols on every machine.

Activations are multiples of 2^-10, weights of 2^-16, sums of products of 2^-26; each layer rounds its sums half up to
activations and saturates them. float64 holds the integers: sums stay below 2^53, checked when a model is loaded, and
are therefore exact in any order, for any matrix product, number of threads and library.

The integers are the stored weights scaled by a power of two and rounded, which is exact too. NumPy, on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hfd.autoencoder.rates import WEIGHT_BITS, Units

LIMIT = 2**24
"""Saturation of activations in units, 16384.0; float32 is exact up to it."""
WORKING_VALUES = 2**20
"""Values of a convolution's unfolded input at once: 8 MiB, for the cache and for large matrix products alike."""

Rows = Callable[[int, int], Units]
"""Rows ``first`` to ``last`` (exclusive) of a map (C, H, W)."""


@dataclass(frozen=True)
class Layer:
    """A convolution, rounding, and saturation from ``lowest`` (0: a ReLU) to LIMIT.

    ``weight`` (O, I, k, l) in units of 2^-16; ``bias`` (O,) in units of 2^-26, plus half an activation's unit, so that
    rounding half up is a floor; float64. ``upsamples``: each four channels of the output are the pixels of a map of
    twice the height and width.
    """

    weight: Units
    bias: Units
    lowest: float
    upsamples: bool = False

    @property
    def radius(self) -> int:
        return self.weight.shape[-1] // 2

    @cached_property
    def matrix(self) -> Units:
        """The weights as a matrix (O, I k l)."""
        return self.weight.reshape(len(self.weight), -1)

    @cached_property
    def _by_rows(self) -> Units:
        """A matrix per row of the kernel, (k, O, l I)."""
        return np.ascontiguousarray(self.weight.transpose(2, 0, 3, 1)).reshape(self.weight.shape[2], len(self.bias), -1)

    def rows(self, x: Units, at: int, first: int, last: int) -> Units:
        """Rows ``first`` to ``last`` of the output (O, H, W), from rows of the input (I, h, W) that begin at ``at``."""
        if self.upsamples:
            low, high = first // 2, -(-last // 2)
            doubled = _shuffled(self._rows(x, at, low, high))
            return doubled[:, first - 2 * low : last - 2 * low]
        return self._rows(x, at, first, last)

    def _rows(self, x: Units, at: int, first: int, last: int) -> Units:
        radius, (channels, height, width) = self.radius, x.shape
        top, low, high = first - radius, max(at, first - radius), min(at + height, last + radius)
        padded = np.zeros((channels, last - first + 2 * radius, width + 2 * radius))
        padded[:, low - top : high - top, radius : radius + width] = x[:, low - at : high - at]
        out = np.empty((len(self.bias), last - first, width))
        step = max(1, WORKING_VALUES // (channels * self.weight.shape[3] * width))
        for row in range(0, last - first, step):
            count = min(step, last - first - row)
            band = padded[:, row : row + count + 2 * radius]
            out[:, row : row + count] = self._finished_sums(band, count).reshape(-1, count, width)
        return out

    def _finished_sums(self, band: Units, count: int) -> Units:
        """Activations (O, count W) of a padded band (I, count + 2 r, W + 2 r).

        The columns under the kernel are unfolded; its rows are slices of these, so that a fifth of a full unfolding is
        copied.
        """
        width, columns = band.shape[2] - 2 * self.radius, self.weight.shape[3]
        unfolded = np.empty((columns, *band.shape[:2], width))
        for j in range(columns):
            unfolded[j] = band[:, :, j : j + width]
        flat = unfolded.reshape(columns * band.shape[0], -1)
        sums = self._by_rows[0] @ flat[:, : count * width]
        for i in range(1, len(self._by_rows)):
            sums += self._by_rows[i] @ flat[:, i * width : (i + count) * width]
        return self.finish(sums)

    def finish(self, sums: Units) -> Units:
        """Activations of sums of products (O, n), in place."""
        sums += self.bias[:, None]
        sums *= 2.0**-WEIGHT_BITS
        np.floor(sums, out=sums)
        return np.clip(sums, self.lowest, LIMIT, out=sums)


def _shuffled(x: Units) -> Units:
    """(4 O, h, w) to (O, 2 h, 2 w): each four channels become the pixels of a 2 x 2 cell."""
    channels, height, width = x.shape
    cells = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return cells.reshape(channels // 4, 2 * height, 2 * width)


@dataclass(frozen=True)
class Stack:
    """A sequence of layers, evaluated by rows: a band needs memory for its rows and their context only."""

    layers: tuple[Layer, ...]

    def rows(self, source: Rows, height: int, first: int, last: int) -> Units:
        """Rows ``first`` to ``last`` of the output for a map of ``height`` rows."""
        heights = [height]
        for layer in self.layers:
            heights.append(heights[-1] * (2 if layer.upsamples else 1))
        spans = [(first, last)]
        for layer, below in zip(reversed(self.layers), reversed(heights[:-1]), strict=True):
            first, last = spans[0]
            low, high = (first // 2, -(-last // 2)) if layer.upsamples else (first, last)
            spans.insert(0, (max(0, low - layer.radius), min(below, high + layer.radius)))
        x = source(*spans[0])
        for layer, (at, _), span in zip(self.layers, spans, spans[1:], strict=False):
            x = layer.rows(x, at, *span)
        return x


@dataclass(frozen=True)
class Anchors:
    """g_sp at the non-anchor positions, from the anchors alone: a quarter of the work of the whole map.

    Anchors and the rest are maps of half the width, in which the 5 x 5 kernel becomes one of 5 x 3, different in even
    and odd rows.
    """

    even: Layer
    odd: Layer

    @classmethod
    def of(cls, layer: Layer) -> Anchors:
        return cls(*(Layer(_between(layer.weight, parity), layer.bias, layer.lowest) for parity in (0, 1)))

    def rows(self, anchors: Units) -> Units:
        """(O, n, W/2) from the anchors (C, n + 4, W/2) of rows two above to two below; the first row is even."""
        channels, height, width = anchors.shape
        padded = np.pad(anchors, ((0, 0), (0, 0), (1, 1)))
        out = np.empty((len(self.even.bias), height - 4, width))
        step = max(1, WORKING_VALUES // (15 * channels * width))
        for parity, layer in ((0, self.even), (1, self.odd)):
            for row in range(0, (height - 4) // 2, step):
                count, top = min(step, (height - 4) // 2 - row), 2 * row + parity
                unfolded = np.empty((channels, 5, 3, count, width))
                for i in range(5):
                    for j in range(3):
                        unfolded[:, i, j] = padded[:, top + i : top + i + 2 * count - 1 : 2, j : j + width]
                sums = layer.finish(layer.matrix @ unfolded.reshape(15 * channels, count * width))
                out[:, top : top + 2 * count - 1 : 2] = sums.reshape(-1, count, width)
        return out


def _between(weight: Units, parity: int) -> Units:
    """The taps (O, C, 5, 3) at anchors, around a non-anchor position in a row of this parity."""
    taps = np.zeros((*weight.shape[:3], 3))
    for i, down in enumerate(range(-2, 3)):
        for j, along in enumerate((-1, 0, 1)):
            # Anchors are at even row + column: their columns alternate with the rows.
            right = 2 * along + ((0, -1), (0, 1))[parity][down % 2 == 0]
            if -2 <= right <= 2:
                taps[:, :, i, j] = weight[:, :, i, right + 2]
    return taps


@dataclass(frozen=True)
class Aggregation:
    """param_aggregation, a network of 1x1 convolutions, as matrices."""

    layers: tuple[Layer, ...]

    def __call__(self, context: Units | None, side: Units) -> tuple[Units, Units]:
        """Scales and means (G, n) in units of 2^-10 from context (2 G, n) (None: zeros) and side (S, n)."""
        first = self.layers[0]
        split = first.matrix.shape[1] - len(side)
        sums = first.matrix[:, split:] @ side
        if context is not None:
            sums += first.matrix[:, :split] @ context
        x = first.finish(sums)
        for layer in self.layers[1:]:
            x = layer.finish(layer.matrix @ x)
        scales, means = np.split(x, 2)
        return scales, means
