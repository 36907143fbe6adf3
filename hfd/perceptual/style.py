"""Style distance: the difference of the Gram matrices of two pictures' features (Gatys et al., arXiv 1508.06576).

Gram matrices hold the correlations of channels and not where they occur, so that a texture may be replaced by another
of the same correlations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hfd.perceptual.networks import Features


def gram(h: Tensor) -> Tensor:
    """Gram matrices (B, C, C), float32, of maps (B, C, H, W): sums over positions of products of channels, divided by
    C H W (Johnson et al., arXiv 1603.08155, equation 3)."""
    flat = h.float().flatten(2)
    products: Tensor = flat @ flat.transpose(1, 2)
    return products / (h.shape[1] * flat.shape[2])


def style_distance(found: Features, wanted: Features) -> Tensor:
    """Mean over taps of the squared Frobenius norm of the difference of Gram matrices, (B,); ``wanted`` gets no
    gradient."""
    terms = [
        (gram(one) - gram(other.detach())).square().sum(dim=(1, 2)) for one, other in zip(found, wanted, strict=True)
    ]
    return torch.stack(terms).mean(dim=0)
