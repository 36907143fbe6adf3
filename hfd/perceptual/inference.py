"""Features of frozen networks for metrics: on the CPU, in float32, without gradients."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from hfd.perceptual.networks import Features, FrozenFeatures, Pool, convolve, max_pool

_LEAST_CHANNELS = 16
"""Of fewer input channels the transforms save nothing."""


@torch.no_grad()
def features_of(network: FrozenFeatures, picture: Tensor, pool: Pool = max_pool) -> Features:
    """Return ``network(picture, pool)``, float32 on the CPU, up to rounding (1e-5 of a map's norm).

    Where torch has NNPACK, it computes the convolutions of stride 1, by Winograd's and Fourier transforms: in half the
    time. Its maps have their channels first in memory; pooling is several times as fast with channels last.
    """

    def pool_last(h: Tensor, window: tuple[int, int]) -> Tensor:
        return pool(h.contiguous(memory_format=torch.channels_last), window)

    found: Features = network(picture, pool_last, _by_transforms if has_nnpack() else convolve)
    return found


def _by_transforms(conv: nn.Module, h: Tensor) -> Tensor:
    assert isinstance(conv, nn.Conv2d) and isinstance(conv.padding, tuple)
    if conv.stride != (1, 1) or conv.in_channels < _LEAST_CHANNELS:
        return convolve(conv, h)
    return torch._nnpack_spatial_convolution(h.contiguous(), conv.weight.contiguous(), conv.bias, list(conv.padding))


@cache
def has_nnpack() -> bool:
    """Ask once and before the first convolution: the question prepares NNPACK, which fails without it (torch 2.14)."""
    available: bool = torch.backends.nnpack.is_available()  # type: ignore[no-untyped-call]
    return available
