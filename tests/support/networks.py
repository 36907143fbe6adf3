"""Small networks whose outputs are not the near-zeros of untrained ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hfd.autoencoder.model import Elic
from hfd.diffusion.unet import UNet


@torch.no_grad()
def lively_elic(N: int, M: int, groups: Sequence[int], *, spread: float = 4.0, seed: int = 0) -> Elic:
    """An untrained autoencoder, in eval mode, with its analysis scaled so that latents have this spread."""
    torch.manual_seed(seed)
    model = Elic(N, M, groups).eval()
    x = torch.rand(1, 3, 128, 128)
    conv = model.g_a[13]
    for _ in range(3):  # the attention behind it is not linear
        conv.weight.mul_(spread / model.g_a(x).std())
    model.h_a[-1].weight.mul_(2.0 / model.h_a(model.g_a(x)).std())
    return model


@torch.no_grad()
def lively_unet(
    patch: int = 4, channels: Sequence[int] = (16, 16), blocks: Sequence[int] = (1, 1), *, seed: int = 0
) -> UNet:
    """A U-Net, in eval mode, whose layers that start at zero are random."""
    torch.manual_seed(seed)
    net = UNet(patch, channels, blocks).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return net


class Fixed(nn.Module):
    """A module that returns the same tensor for any input."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _: Tensor) -> Tensor:
        return self.answer
