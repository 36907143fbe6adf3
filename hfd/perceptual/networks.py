"""Frozen convolutions of AlexNet and of VGG16's first two stages, with the feature maps of distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Features = list[Tensor]
"""One map (B, C_i, H_i, W_i) per tap, from the finest to the coarsest, at least 0."""


@dataclass(frozen=True)
class Conv:
    """A convolution with a ReLU after it; ``pool``: (kernel, stride) of a max pooling before it; ``tap``: its map is a
    feature."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 1
    pool: tuple[int, int] | None = None
    tap: bool = False


ALEXNET = (
    Conv(3, 64, 11, stride=4, padding=2, tap=True),
    Conv(64, 192, 5, padding=2, pool=(3, 2), tap=True),
    Conv(192, 384, 3, pool=(3, 2), tap=True),
    Conv(384, 256, 3, tap=True),
    Conv(256, 256, 3, tap=True),
)
"""Krizhevsky's one-column network (arXiv 1404.5997), as torchvision trained it; taps: relu1 to relu5."""

VGG16 = (
    Conv(3, 64, 3),
    Conv(64, 64, 3, tap=True),
    Conv(64, 128, 3, pool=(2, 2)),
    Conv(128, 128, 3, tap=True),
)
"""The start of VGG16 (Simonyan and Zisserman, arXiv 1409.1556): taps relu1_2 and relu2_2, at 1 and 1/2 of the sides."""

VGG16_WHOLE = (
    *VGG16,
    Conv(128, 256, 3, pool=(2, 2)),
    Conv(256, 256, 3),
    Conv(256, 256, 3, tap=True),
    Conv(256, 512, 3, pool=(2, 2)),
    Conv(512, 512, 3),
    Conv(512, 512, 3, tap=True),
    Conv(512, 512, 3, pool=(2, 2)),
    Conv(512, 512, 3),
    Conv(512, 512, 3, tap=True),
)
"""All convolutions of VGG16; taps: relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, at 1 to 1/16 of the sides."""

Pool = Callable[[Tensor, tuple[int, int]], Tensor]
"""(h (B, C, H, W), (kernel, stride)) -> the pooled map."""

Convolve = Callable[[nn.Module, Tensor], Tensor]
"""(convolution, its input) -> its output."""

NetworkName = Literal["alexnet", "vgg16"]
"""The networks that ship."""
NETWORKS: dict[NetworkName, tuple[Conv, ...]] = {"alexnet": ALEXNET, "vgg16": VGG16}

# ImageNet's means and standard deviations, of pictures in [-1, 1], with the digits of LPIPS's scaling layer.
_MEAN = (-0.030, -0.088, -0.188)
_STD = (0.458, 0.448, 0.450)


def max_pool(h: Tensor, window: tuple[int, int]) -> Tensor:
    """The pooling of both networks as they were trained."""
    return F.max_pool2d(h, *window)


def convolve(conv: nn.Module, h: Tensor) -> Tensor:
    """The convolution by the module itself."""
    found: Tensor = conv(h)
    return found


class FrozenFeatures(nn.Module):
    """Maps pictures (B, 3, H, W) in [-1, 1] to their `Features`. Weights are fixed; gradients reach the picture.

    H and W are at least 31 px for AlexNet, 2 px for the start of VGG16, 16 px for all of it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: tuple[Conv, ...]) -> None:
        super().__init__()
        self.layers = layers
        self.convs = nn.ModuleList(
            nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding) for layer in layers
        )
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the taps."""
        return tuple(layer.outputs for layer in self.layers if layer.tap)

    def forward(self, picture: Tensor, pool: Pool = max_pool, convolution: Convolve = convolve) -> Features:
        """``pool``: in place of each max pooling; ``convolution``: in place of each convolution's own call."""
        h, features = (picture - self.mean) / self.std, []
        for layer, conv in zip(self.layers, self.convs, strict=True):
            if layer.pool is not None:
                h = pool(h, layer.pool)
            h = F.relu(convolution(conv, h))
            if layer.tap:
                features.append(h)
        return features
