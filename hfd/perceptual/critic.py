"""A critic made of small trained heads on frozen features.

The heads get the features of the picture and of its x_hat, which makes them useful from their first steps, and are too
small to memorise pictures. Beyond the paper of HFD.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from hfd.perceptual.networks import Features

SLOPE = 0.2
"""Slope of the leaky ReLUs."""

_FLOOR = 1e-3


class FeatureCritic(nn.Module):
    """Maps features of a picture and of x_hat to one map of logits per tap, (B, 1, H_i, W_i), high where it looks real.

    ``inputs``: channels of the taps; ``widths``: of the heads. Features are scaled to a root mean square of one, by a
    factor per tap that is measured on those of x_hat and used for both. Every convolution is spectrally normalised
    (Miyato et al., arXiv 1802.05957), which bounds its slope.
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(2 * count, width) for count, width in zip(inputs, widths, strict=True))

    def forward(self, picture: Features, x_hat: Features) -> list[Tensor]:
        logits = []
        for head, one, other in zip(self.heads, picture, x_hat, strict=True):
            factor = (other.float().square().mean(dim=(1, 2, 3), keepdim=True) + _FLOOR).rsqrt().to(one.dtype)
            logits.append(head(torch.cat([one * factor, other * factor], dim=1)))
        return logits


def _head(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(inputs, width, 1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    )


def critic_loss(real: Sequence[Tensor], sampled: Sequence[Tensor], label: float) -> Tensor:
    """Mean over the taps of the sum of the cross-entropies of real pictures, labelled ``label`` in (1/2, 1], and of
    samples, labelled 0: 2 log 2 = 1.386 for an untrained critic, at least the entropy of the label for a perfect one.
    """
    return torch.stack(
        [
            label * F.softplus(-r.float()).mean() + (1.0 - label) * F.softplus(r.float()).mean()
            + F.softplus(s.float()).mean()
            for r, s in zip(real, sampled, strict=True)
        ]
    ).mean()  # fmt: skip


def adversarial_loss(sampled: Sequence[Tensor]) -> Tensor:
    """Mean over the taps of the cross-entropy of samples labelled 1, the sampler's adversarial loss."""
    return torch.stack([F.softplus(-s.float()).mean() for s in sampled]).mean()


def hinge_loss(real: Sequence[Tensor], sampled: Sequence[Tensor]) -> Tensor:
    """Mean over the taps of max(0, 1 - real) + max(0, 1 + sampled): 2 for a critic that answers 0, 0 for one that
    separates all by the margin (Lim and Ye, arXiv 1705.02894).
    """
    return torch.stack(
        [F.relu(1.0 - r.float()).mean() + F.relu(1.0 + s.float()).mean() for r, s in zip(real, sampled, strict=True)]
    ).mean()


def hinge_adversarial_loss(sampled: Sequence[Tensor]) -> Tensor:
    """Minus the mean of the samples' logits over the taps, the sampler's loss beside :func:`hinge_loss`."""
    return -torch.stack([s.float().mean() for s in sampled]).mean()
