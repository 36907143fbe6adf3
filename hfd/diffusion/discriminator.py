"""The local, conditional discriminator of the adversarial fine-tuning (beyond the paper of HFD).

It is trained from scratch and shares no network with a metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from hfd.diffusion.finish import luma

SLOPE = 0.2
"""Slope of the leaky ReLUs."""


class Discriminator(nn.Module):
    """Maps a picture and x_hat, (B, 3, H, W) in [-1, 1] each, to a map of logits per level, high where it looks real.

    Its input is x_hat and the luma of picture - x_hat, brought to unit variance by ``residual_std``: texture is a
    hundredth of a picture's variance, and a network of bounded slope would have to learn the subtraction. Colour is
    left out: the detail of photographs is in their luma, and a sampler would add colour noise first.

    After 2x2 space-to-depth and a convolution, each level halves the sides and ends in logits (B, 1, H/2^i, W/2^i),
    i = 2, 3, ...: texture is judged in small neighbourhoods, shape in large ones. Spectral normalisation of each layer
    (Miyato et al., arXiv 1802.05957) bounds its slope. H and W are multiples of ``stride``.
    """

    def __init__(self, channels: Sequence[int] = (64, 128, 256, 256), residual_std: float = 0.1) -> None:
        super().__init__()
        self.channels, self.residual_std = tuple(channels), residual_std
        self.stem = _conv(16, channels[0], 3)
        self.shrink = nn.ModuleList(
            spectral_norm(nn.Conv2d(channels[i], channels[i + 1], 2, stride=2)) for i in range(len(channels) - 1)
        )
        self.body = nn.ModuleList(_conv(width, width, 3) for width in channels[1:])
        self.heads = nn.ModuleList(_conv(width, 1, 1) for width in channels[1:])

    @property
    def stride(self) -> int:
        return int(2 ** len(self.channels))

    def forward(self, picture: Tensor, x_hat: Tensor) -> list[Tensor]:
        added = luma(picture - x_hat) / self.residual_std
        h = F.leaky_relu(self.stem(F.pixel_unshuffle(torch.cat([added, x_hat], dim=1), 2)), SLOPE)
        logits = []
        for shrink, body, head in zip(self.shrink, self.body, self.heads, strict=True):
            h = F.leaky_relu(shrink(h), SLOPE)
            h = F.leaky_relu(body(h), SLOPE)
            logits.append(head(h))
        return logits


def _conv(inputs: int, outputs: int, size: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, size, padding=size // 2))


def discriminator_loss(real: Sequence[Tensor], sampled: Sequence[Tensor]) -> Tensor:
    """Mean over the levels of softplus(sampled - real): a picture must look more real than the sample paired with it.

    The relativistic loss of Jolicoeur-Martineau (arXiv 1807.00734); both pictures share their x_hat. A common shift of
    all logits does not change it.
    """
    return torch.stack([F.softplus(s.float() - r.float()).mean() for r, s in zip(real, sampled, strict=True)]).mean()


def generator_loss(real: Sequence[Tensor], sampled: Sequence[Tensor]) -> Tensor:
    """The same with the roles exchanged; ``real`` is detached."""
    return discriminator_loss(sampled, [logits.detach() for logits in real])


def change(logits: Sequence[Tensor], moved: Sequence[Tensor]) -> Tensor:
    """Mean over the levels of the squared change of logits when a picture gets a little noise.

    Divided by the noise's variance it is, in expectation, the squared norm of the gradient: the gradient penalty of
    Mescheder et al. (arXiv 1801.04406) without second derivatives (Lin et al., arXiv 2501.08316).
    """
    return torch.stack([(m.float() - one.float()).square().mean() for one, m in zip(logits, moved, strict=True)]).mean()
