"""Integer arithmetic for the entropy networks (h_s, g_ch, g_sp, param_aggregation): the same symbols on every machine.

Activations are multiples of 2^-10, weights of 2^-16, sums of products of 2^-26; each layer rounds its sums half up to
activations and saturates them. float64 holds the integers: sums stay below 2^53, checked when a model is loaded, and
are therefore exact in any order, for any convolution kernel, number of threads and library.

The integers are the stored weights scaled by a power of two and rounded, which is exact too. Runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from compressai.layers import CheckerboardMaskedConv2d
from torch import Tensor, nn

from hfd.autoencoder.rates import UNIT_BITS
from hfd.errors import DataError

WEIGHT_BITS = 16
LIMIT = 2**24
"""Saturation of activations in units, 16384.0; float32 is exact up to it."""
_EXACT = 2**53
_WORKING_VALUES = 2**19
"""Values of a band of a convolution's unfolded input: 4 MiB, which fits the cache."""

Rows = Callable[[int, int], Tensor]
"""Rows ``first`` to ``last`` (exclusive) of a map (C, H, W)."""


@dataclass(frozen=True)
class Layer:
    """A convolution, rounding, and saturation from ``lowest`` (0: a ReLU) to LIMIT.

    ``weight`` (O, I, k, k) in units of 2^-16; ``bias`` (O,) in units of 2^-26, plus half an activation's unit, so that
    rounding half up is a floor; float64. ``upsamples``: each four channels of the output are the pixels of a map of
    twice the height and width.
    """

    weight: Tensor
    bias: Tensor
    lowest: float
    upsamples: bool = False

    @property
    def radius(self) -> int:
        return self.weight.shape[-1] // 2

    def rows(self, x: Tensor, at: int, first: int, last: int) -> Tensor:
        """Rows ``first`` to ``last`` of the output (O, H, W), from rows of the input (I, h, W) that begin at ``at``."""
        if self.upsamples:
            low, high = first // 2, -(-last // 2)
            doubled = F.pixel_shuffle(self._rows(x, at, low, high), 2)
            return doubled[:, first - 2 * low : last - 2 * low]
        return self._rows(x, at, first, last)

    def _rows(self, x: Tensor, at: int, first: int, last: int) -> Tensor:
        radius = self.radius
        x = F.pad(x, (radius, radius, at - first + radius, last + radius - at - x.shape[1]))
        out = x.new_empty((self.weight.shape[0], last - first, x.shape[2] - 2 * radius))
        step = max(1, _WORKING_VALUES // (self.weight[0].numel() * out.shape[2]))
        for row in range(0, last - first, step):
            band = x[:, row : row + step + 2 * radius]
            out[:, row : row + step] = self.finish(F.conv2d(band, self.weight, self.bias))
        return out

    def finish(self, sums: Tensor) -> Tensor:
        """Activations of sums, in place."""
        return sums.mul_(2.0**-WEIGHT_BITS).floor_().clamp_(self.lowest, LIMIT)


@dataclass(frozen=True)
class Stack:
    """A sequence of layers, evaluated by rows: a band needs memory for its rows and their context only."""

    layers: tuple[Layer, ...]

    def rows(self, source: Rows, height: int, first: int, last: int) -> Tensor:
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

    def rows(self, anchors: Tensor) -> Tensor:
        """(O, n, W/2) from the anchors (C, n + 4, W/2) of rows two above to two below; the first row is even."""
        padded = F.pad(anchors, (1, 1, 0, 0))
        halves = [
            layer.finish(F.conv2d(padded[:, parity : padded.shape[1] - 1 + parity], layer.weight, layer.bias, (2, 1)))
            for parity, layer in ((0, self.even), (1, self.odd))
        ]
        return torch.stack(halves, dim=2).flatten(1, 2)


def _between(weight: Tensor, parity: int) -> Tensor:
    """The taps (O, C, 5, 3) at anchors, around a non-anchor position in a row of this parity."""
    taps = weight.new_zeros((*weight.shape[:3], 3))
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

    def __call__(self, context: Tensor | None, side: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means (G, n) in units of 2^-10 from context (2 G, n) (None: zeros) and side (S, n)."""
        first = self.layers[0]
        matrix, bias = first.weight.flatten(1), first.bias.unsqueeze(1)
        split = matrix.shape[1] - side.shape[0]
        sums = torch.addmm(bias, matrix[:, split:], side)
        x = first.finish(sums if context is None else sums.addmm_(matrix[:, :split], context))
        for layer in self.layers[1:]:
            x = layer.finish(torch.addmm(layer.bias.unsqueeze(1), layer.weight.flatten(1), x))
        scales, means = x.chunk(2)
        return scales, means


def layers_of(network: nn.Module, name: str) -> tuple[Layer, ...]:
    """Convert a network of convolutions and ReLUs to integers. Raises :class:`DataError` if sums could be inexact."""
    modules: Sequence[nn.Module] = list(network) if isinstance(network, nn.Sequential) else [network]
    layers: list[Layer] = []
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if not isinstance(module, nn.ReLU):
            layer = _layer(module, isinstance(following, nn.ReLU))
            _check_exact(layer, f"{name}.{len(layers)}")
            layers.append(layer)
    return tuple(layers)


@torch.no_grad()
def _layer(module: nn.Module, rectified: bool) -> Layer:
    assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d), module
    weight = module.weight.detach().double().cpu()
    if isinstance(module, CheckerboardMaskedConv2d):
        weight = weight * module.mask.double().cpu()
    radius, strides = (
        weight.shape[-1] // 2,
        2 if isinstance(module, nn.ConvTranspose2d) and module.stride[0] == 2 else 1,
    )
    assert weight.shape[2] == weight.shape[3] == 2 * radius + 1 and module.padding == (radius, radius), module
    assert module.stride == (strides, strides) and module.dilation == (1, 1) and module.groups == 1, module
    if isinstance(module, nn.ConvTranspose2d):
        assert module.output_padding == (strides - 1, strides - 1), module
        weight = weight.transpose(0, 1).flip(2, 3).contiguous()
    assert module.bias is not None
    bias = module.bias.detach().double().cpu()
    if strides == 2:
        weight, bias = _by_pixels(weight), bias.repeat_interleave(4)
    return Layer(
        (weight * 2.0**WEIGHT_BITS).round(),
        (bias * 2.0 ** (WEIGHT_BITS + UNIT_BITS)).round() + 2.0 ** (WEIGHT_BITS - 1),
        lowest=0.0 if rectified else -float(LIMIT),
        upsamples=strides == 2,
    )


def _by_pixels(weight: Tensor) -> Tensor:
    """Turn a kernel (O, I, 5, 5) on a zero-stuffed map into one (4 O, I, 3, 3) on the map itself.

    Pixel (a, b) of each 2 x 2 of the output uses every second tap.
    """
    assert weight.shape[2:] == (5, 5)
    pixels = weight.new_zeros((weight.shape[0], 2, 2, weight.shape[1], 3, 3))
    pixels[:, 0, 0] = weight[:, :, 0::2, 0::2]
    pixels[:, 0, 1, :, :, 1:] = weight[:, :, 0::2, 1::2]
    pixels[:, 1, 0, :, 1:] = weight[:, :, 1::2, 0::2]
    pixels[:, 1, 1, :, 1:, 1:] = weight[:, :, 1::2, 1::2]
    return pixels.flatten(0, 2)


def _check_exact(layer: Layer, name: str) -> None:
    reach = layer.weight.abs().flatten(1).sum(1) * LIMIT + layer.bias.abs()
    # Inexact sums of huge weights are still above the bound. NaN fails too.
    if not bool((reach < _EXACT).all()):
        raise DataError(
            f"{name}: got weights whose sums can reach {float(reach.max()):.3g}, expected less than 2^53 in units of "
            f"2^-{WEIGHT_BITS + UNIT_BITS}, so that they are exact. Train the model again"
        )


def stacks_of(networks: Iterable[nn.Module], name: str) -> tuple[Stack, ...]:
    return tuple(Stack(layers_of(network, f"{name}.{i}")) for i, network in enumerate(networks))
