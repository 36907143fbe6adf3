"""The entropy networks' weights as integers, from their stored tensors. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hfd.autoencoder.fixed_point import LIMIT, Layer
from hfd.autoencoder.rates import UNIT_BITS, WEIGHT_BITS, Units
from hfd.errors import DataError

_EXACT = 2**53

Arrays: TypeAlias = Mapping[str, npt.NDArray[np.generic]]
"""Tensors by name."""


class Kind(Enum):
    """Kinds of the convolutions of a network.

    TRANSPOSED: of stride 2 with 5 x 5 kernels, of stride 1 with smaller ones. CHECKERBOARD: without the taps at even
    row + column, counted from the middle.
    """

    PLAIN = "plain"
    TRANSPOSED = "transposed"
    CHECKERBOARD = "checkerboard"


def layers_of(arrays: Arrays, name: str, kind: Kind, ends: tuple[int, int] | None = None) -> tuple[Layer, ...]:
    """Convert a network of convolutions, a ReLU behind each but the last, to integers.

    ``arrays``: ``name.weight`` and ``name.bias`` of one convolution, or ``name.i.weight`` and ``name.i.bias`` of
    several in rising order. ``ends``: channels of the input and the output. Raises :class:`DataError` if tensors are
    missing or do not fit each other, or if sums could be inexact.
    """
    places = [name] if f"{name}.weight" in arrays else [f"{name}.{i}" for i in _numbers(arrays, name)]
    if not places:
        raise DataError(f"weights: lack '{name}'. Make or fetch the model again")
    layers: list[Layer] = []
    channels = None if ends is None else ends[0]
    for place in places:
        weight, bias = (_array(arrays, f"{place}.{part}") for part in ("weight", "bias"))
        _check_shapes(place, weight, bias, kind, channels)
        layer = _layer(weight, bias, kind, rectified=place != places[-1])
        _check_exact(layer, f"{name}.{len(layers)}")
        layers.append(layer)
        channels = len(bias)
    if ends is not None and channels != ends[1]:
        raise DataError(f"{places[-1]}: got {channels} channels, expected {ends[1]}. Make or fetch the model again")
    return tuple(layers)


def _numbers(arrays: Arrays, name: str) -> list[int]:
    parts = (key[len(name) + 1 :].split(".") for key in arrays if key.startswith(f"{name}."))
    return sorted(int(part[0]) for part in parts if len(part) == 2 and part[1] == "weight" and part[0].isdecimal())


def _array(arrays: Arrays, name: str) -> Units:
    """In float64, by way of float32, the precision of the networks."""
    if name not in arrays:
        raise DataError(f"weights: lack '{name}'. Make or fetch the model again")
    return arrays[name].astype(np.float32).astype(np.float64)


def _check_shapes(place: str, weight: Units, bias: Units, kind: Kind, channels: int | None) -> None:
    shape = weight.shape
    if weight.ndim == 4 and kind is Kind.TRANSPOSED:
        shape = (shape[1], shape[0], *shape[2:])
    square = len(shape) == 4 and shape[2] == shape[3] and shape[2] % 2 == 1
    sized = kind is not Kind.CHECKERBOARD or (square and shape[2] == 5)
    if not square or not sized or bias.shape != shape[:1] or (channels is not None and shape[1] != channels):
        expected = "a kernel" if channels is None else f"a kernel for {channels} channels"
        raise DataError(
            f"{place}: got weights {weight.shape} and biases {bias.shape}, expected {expected}. "
            "Make or fetch the model again"
        )


def _layer(weight: Units, bias: Units, kind: Kind, *, rectified: bool) -> Layer:
    if kind is Kind.CHECKERBOARD:
        rows, columns = np.indices(weight.shape[2:])
        weight = weight * ((rows + columns) % 2)
    upsamples = kind is Kind.TRANSPOSED and weight.shape[2] == 5
    if kind is Kind.TRANSPOSED:
        weight = np.ascontiguousarray(weight.swapaxes(0, 1)[:, :, ::-1, ::-1])
    if upsamples:
        weight, bias = _by_pixels(weight), np.repeat(bias, 4)
    return Layer(
        np.rint(weight * 2.0**WEIGHT_BITS),
        np.rint(bias * 2.0 ** (WEIGHT_BITS + UNIT_BITS)) + 2.0 ** (WEIGHT_BITS - 1),
        lowest=0.0 if rectified else -float(LIMIT),
        upsamples=upsamples,
    )


def _by_pixels(weight: Units) -> Units:
    """Turn a kernel (O, I, 5, 5) on a zero-stuffed map into one (4 O, I, 3, 3) on the map itself.

    Pixel (a, b) of each 2 x 2 of the output uses every second tap.
    """
    pixels = np.zeros((weight.shape[0], 2, 2, weight.shape[1], 3, 3))
    pixels[:, 0, 0] = weight[:, :, 0::2, 0::2]
    pixels[:, 0, 1, :, :, 1:] = weight[:, :, 0::2, 1::2]
    pixels[:, 1, 0, :, 1:] = weight[:, :, 1::2, 0::2]
    pixels[:, 1, 1, :, 1:, 1:] = weight[:, :, 1::2, 1::2]
    return pixels.reshape(4 * weight.shape[0], weight.shape[1], 3, 3)


def _check_exact(layer: Layer, name: str) -> None:
    reach = np.abs(layer.matrix).sum(1) * LIMIT + np.abs(layer.bias)
    # Inexact sums of huge weights are still above the bound. NaN fails too.
    if not bool((reach < _EXACT).all()):
        raise DataError(
            f"{name}: got weights whose sums can reach {float(reach.max()):.3g}, expected less than 2^53 in units of "
            f"2^-{WEIGHT_BITS + UNIT_BITS}, so that they are exact. Train the model again"
        )
