"""Features of frozen networks for metrics: on the CPU, in float32, without gradients, in bands of rows.

A band is a number of rows of the picture at its full width. Every layer holds the rows of its input that its next rows
depend on, so that each position of each map is computed once, from the same values as in the whole picture, and memory
depends on the band alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hfd.image.load import RgbArray
from hfd.perceptual.networks import Conv, FrozenFeatures

GRID_PX = 16
"""Rows of a band are multiples of it: one row of the coarsest maps."""

_LEAST_CHANNELS = 16
"""Of fewer input channels the transforms save nothing."""

Operation = Callable[[Tensor, int], Tensor]
"""(h (1, C, H, W), zero rows to add above and below) -> (1, C', H', W')."""


@dataclass(frozen=True)
class RowPool:
    """A pooling with the stride of the network's own.

    ``call``: (h, (kernel, stride) of the network's, zero rows to add above and below); ``kernel``: rows that an output
    depends on, None: the network's; ``padding``: zero rows that it adds.
    """

    call: Callable[[Tensor, tuple[int, int], int], Tensor]
    kernel: int | None
    padding: int


def _max_pool(h: Tensor, window: tuple[int, int], rows: int) -> Tensor:
    del rows
    return F.max_pool2d(h, *window)


MAX_POOL = RowPool(_max_pool, None, 0)
"""The pooling of both networks as they were trained."""


def bands_of(height: int, width: int, band_pixels: int) -> list[slice]:
    """Rows of each band: of about ``band_pixels`` or, in wide pictures, ``GRID_PX`` rows; one if the picture has no
    more."""
    if height * width <= band_pixels:
        return [slice(0, height)]
    most = max(1, band_pixels // (width * GRID_PX))
    units = -(-height // GRID_PX)
    rows = GRID_PX * -(-units // -(-units // most))
    return [slice(top, min(height, top + rows)) for top in range(0, height, rows)]


def normalised(network: FrozenFeatures, rows: RgbArray) -> Tensor:
    """Rows of a picture, uint8 (H, W, 3), as the network's first convolution takes them, (1, 3, H, W)."""
    x = torch.tensor(rows).permute(2, 0, 1).unsqueeze(0).float()
    # ((x / 127.5 - 1) - mean) / std in two passes.
    return x.mul_(1.0 / (127.5 * network.std)).sub_((1.0 + network.mean) / network.std)


class Layers:
    """Consecutive layers of a network, over one picture from its first band to its last."""

    def __init__(self, layers: Sequence[Conv], convs: Sequence[nn.Module], pool: RowPool = MAX_POOL) -> None:
        self._layers: list[tuple[_InBands | None, _InBands, bool]] = []
        for layer, conv in zip(layers, convs, strict=True):
            pooled = None
            if layer.pool is not None:
                kernel = layer.pool[0] if pool.kernel is None else pool.kernel
                pooled = _InBands(partial(_pooled, pool, layer.pool), kernel, layer.pool[1], pool.padding)
            convolved = _InBands(partial(_convolved, conv), layer.kernel, layer.stride, layer.padding)
            self._layers.append((pooled, convolved, layer.tap))

    def __call__(self, h: Tensor | None, *, last: bool) -> Iterator[Tensor | None]:
        """Yield the next rows of each tap, None if the band completes none; to be taken to the end.

        ``h``: the next rows of the input (1, C, H, W), None if there are none; ``last``: no others follow.
        """
        for pooled, convolved, tap in self._layers:
            if pooled is not None:
                h = pooled(h, last=last)
            h = convolved(h, last=last)
            if tap:
                yield h


class _InBands:
    """An operation over rows of windows, with the rows that its next windows begin with."""

    def __init__(self, operation: Operation, kernel: int, stride: int, padding: int) -> None:
        self._operation, self._kernel, self._stride, self._padding = operation, kernel, stride, padding
        self._held: Tensor | None = None

    def __call__(self, h: Tensor | None, *, last: bool) -> Tensor | None:
        if self._held is None and h is not None and last:
            return self._operation(h, self._padding)  # the whole picture: no copy
        if h is None and (self._held is None or not last):
            return None
        some = self._held if h is None else h
        assert some is not None
        zeros = some.new_zeros(1, some.shape[1], self._padding, some.shape[3])
        parts = [zeros if self._held is None else self._held, *([] if h is None else [h]), *([zeros] if last else [])]
        rows = torch.cat(parts, dim=2)
        count = (rows.shape[2] - self._kernel) // self._stride + 1
        if count <= 0:
            self._held = rows
            return None
        self._held = rows[:, :, count * self._stride :].clone()
        return self._operation(rows[:, :, : (count - 1) * self._stride + self._kernel], 0)


def _pooled(pool: RowPool, window: tuple[int, int], h: Tensor, rows: int) -> Tensor:
    # Convolutions by NNPACK have their channels first in memory; pooling is several times as fast with channels last.
    return pool.call(h.contiguous(memory_format=torch.channels_last), window, rows)


def _convolved(conv: nn.Module, h: Tensor, rows: int) -> Tensor:
    """A convolution and its ReLU. Where torch has NNPACK, it computes those of stride 1, by Winograd's and Fourier
    transforms: in half the time, up to rounding (1e-5 of a map's norm)."""
    assert isinstance(conv, nn.Conv2d) and isinstance(conv.padding, tuple)
    padding = (rows, conv.padding[1])
    if has_nnpack() and conv.stride == (1, 1) and conv.in_channels >= _LEAST_CHANNELS:
        found = torch._nnpack_spatial_convolution(h.contiguous(), conv.weight.contiguous(), conv.bias, padding)
    else:
        found = F.conv2d(h, conv.weight, conv.bias, conv.stride, padding)
    return found.relu_()


@cache
def has_nnpack() -> bool:
    """Ask once and before the first convolution: the question prepares NNPACK, which fails without it (torch 2.14)."""
    available: bool = torch.backends.nnpack.is_available()  # type: ignore[no-untyped-call]
    return available


def for_inference(network: FrozenFeatures) -> FrozenFeatures:
    """Lay the kernels out as each convolution takes them; returns the network itself."""
    for conv in network.convs:
        assert isinstance(conv, nn.Conv2d)
        if conv.stride == (1, 1) and conv.in_channels >= _LEAST_CHANNELS:
            conv.weight.data = conv.weight.data.contiguous()
    return network
