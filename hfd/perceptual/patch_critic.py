"""A critic of patches that is trained from scratch on pictures, as in HiFiC. Beyond the paper of HFD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from hfd.perceptual.critic import SLOPE


class PatchCritic(nn.Module):
    """Maps a picture and x_hat, (B, 3, H, W) in about [-1, 1] each, to a map of logits, high where it looks real.

    After HiFiC's discriminator (Mentzer et al., arXiv 2006.09965): a PatchGAN with spectral normalisation of each layer
    and without any other, conditioned on what is decoded. HiFiC gives it the latent, upsampled; here it is x_hat, all
    that stage 2 knows. Each of ``channels`` but the last halves the sides by a 4x4 convolution; two more convolutions
    make the logits (B, 1, H', W'). One map in a list, so that the losses of :mod:`hfd.perceptual.critic` apply.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        widths = [6, *channels]
        layers: list[nn.Module] = []
        for i, width in enumerate(channels):
            last = i == len(channels) - 1
            size, stride = (3, 1) if last else (4, 2)
            layers.append(spectral_norm(nn.Conv2d(widths[i], width, size, stride, padding=1)))
            layers.append(nn.LeakyReLU(SLOPE))
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 1)))

    def forward(self, picture: Tensor, x_hat: Tensor) -> list[Tensor]:
        return [self.layers(torch.cat([picture, x_hat], dim=1))]
