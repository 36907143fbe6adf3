"""Trained transforms g_a, g_s and h_a in torch, without gradients and faster; equal to the modules up to rounding."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from hfd.autoencoder.normalisation import FusedGdn
from hfd.engine.base import Stage1Reach
from hfd.engine.torch import TorchStage1


@torch.no_grad()
def transform(network: nn.Module, x: Tensor) -> Tensor:
    """Evaluate ``network(x)`` for x (B, C, H, W), on its device, in its dtype, with channels last."""
    modules = list(network) if isinstance(network, nn.Sequential) else [network]
    like = next(network.parameters(), x)
    x = x.to(like.device, like.dtype).contiguous(memory_format=torch.channels_last)
    for i, module in enumerate(modules):
        # The output of an earlier module can be changed in place.
        x = module.in_place(x) if isinstance(module, FusedGdn) and i > 0 else module(x)
    return x


def reach_of(network: nn.Module) -> int:
    """Largest distance, in rows of the input, between a row of the output and the input it depends on."""
    reach, stride = 0, 1
    for module in network.modules():
        if isinstance(module, nn.PixelUnshuffle):
            stride *= module.downscale_factor
        elif isinstance(module, nn.Conv2d):
            reach += module.kernel_size[0] // 2 * stride
            stride *= module.stride[0]
    return reach


def reach_cells(g_s: nn.Module) -> int:
    """Return an upper bound of the distance along an axis between a pixel and a latent cell it depends on, in cells.

    Counted through all convolutions, last to first, as if parallel branches followed each other. A k x k convolution
    reaches (k - 1) / 2 cells. A transposed one of stride s and padding p computes output o from inputs i with o = s i
    - p + tap, tap from 0 to k - 1, and reaches max(p, k - 1 - p) / s cells. Depth-to-space by r computes output o from
    input o // r.
    """
    reach = 0
    for layer in reversed(list(g_s.modules())):
        if isinstance(layer, nn.PixelShuffle):
            reach = -(-reach // layer.upscale_factor)
        elif isinstance(layer, nn.ConvTranspose2d):
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
            reach = -(-(reach + max(padding, kernel - 1 - padding)) // stride)
        elif isinstance(layer, nn.Conv2d):
            if layer.stride != (1, 1):
                raise ValueError(f"g_s: got a convolution of stride {layer.stride}, expected none that shrinks")
            reach += layer.kernel_size[0] // 2
    return reach


def stage1_networks(g_a: nn.Module, h_a: nn.Module, g_s: nn.Module) -> TorchStage1:
    """The transforms of an autoencoder for a coder, by torch."""
    reach = Stage1Reach(reach_of(g_a), reach_of(h_a), reach_cells(g_s))
    return TorchStage1(partial(transform, g_a), partial(transform, h_a), partial(transform, g_s), reach)
