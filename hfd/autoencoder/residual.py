"""Transforms of residual blocks without normalisation, cheap on processors and GPUs alike.

Space-to-depth comes first, so that nothing is computed at full size. Most of the work is done at 1/8 of the sides,
where a block is wide enough for a matrix unit and its activations stay in the cache. A parallel linear layer starts as
the cosine transform of 16 x 16 px, so that training starts from a working codec, whereas plain stacks of convolutions
first have to learn mean colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST = 4
"""Space-to-depth factor at the picture; two halvings follow."""

SLOPE = 0.1
"""Slope of the leaky ReLUs: plain ReLUs became inactive in the first steps of training."""

CELL = 16
"""Side in px of the area of one position of the latent."""

FIRST_STEP = 0.5
"""The first quantiser step, of orthonormal coefficients of pictures in [0, 1]: at lmbda 0.0038 and half of it the loss
of the bare cosine transform is least near it."""

_SPREADS = (1.14, 0.27, 0.48)
_LEAST_FREQUENCY = 0.3
"""Standard deviation times frequency of orthonormal coefficients of luma and both colour differences, as measured on
photographs; and the frequency assigned to the mean."""

_CHROMA_SHARE = 8
"""One channel of this number begins as a coefficient of each colour difference."""


class ResidualBlock(nn.Module):
    """x + conv(leaky(conv(leaky(x)))), 3x3 convolutions of one width, x (B, C, h, w). It starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels, 3)
        self.second = _conv(channels, channels, 3, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x + change


class Scale(nn.Module):
    """A fixed factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Branches(nn.Module):
    """The sum of a deep and a linear branch."""

    def __init__(self, deep: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.deep, self.linear = deep, linear

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.deep(x) + self.linear(x)
        return total


def residual_analysis(channels: Sequence[int], blocks: Sequence[int], M: int) -> nn.Sequential:
    """g_a: a picture (B, 3, H, W) to y (B, M, H/16, W/16).

    ``channels``, ``blocks``: widths and numbers of residual blocks at 1/4, 1/8 and 1/16 of the sides.
    """
    quarter, eighth, sixteenth = channels
    first, linear = _conv(3 * FIRST**2, quarter, 3), nn.Conv2d(3 * CELL**2, M, 1)
    basis = cosine_basis(M)
    with torch.no_grad():
        for conv in (first, linear):
            assert conv.bias is not None
            if conv is linear:
                conv.weight.copy_((basis / FIRST_STEP).reshape(M, -1, 1, 1))
            conv.bias.copy_(-0.5 * conv.weight.sum(dim=(1, 2, 3)))  # as if grey were zero
    deep = nn.Sequential(
        nn.PixelUnshuffle(FIRST),
        first,
        *_blocks(quarter, blocks[0]),
        nn.LeakyReLU(SLOPE),
        nn.PixelUnshuffle(2),
        _conv(4 * quarter, eighth, 1),
        *_blocks(eighth, blocks[1]),
        nn.LeakyReLU(SLOPE),
        nn.PixelUnshuffle(2),
        _conv(4 * eighth, sixteenth, 1),
        *_blocks(sixteenth, blocks[2]),
        nn.LeakyReLU(SLOPE),
        _conv(sixteenth, M, 3, gain=0.0),
    )
    return nn.Sequential(Branches(deep, nn.Sequential(nn.PixelUnshuffle(CELL), linear)))


def residual_synthesis(channels: Sequence[int], blocks: Sequence[int], M: int) -> nn.Sequential:
    """g_s: a latent (B, M, h, w) to a picture (B, 3, 16 h, 16 w).

    ``channels``, ``blocks``: as in `residual_analysis`.
    """
    quarter, eighth, sixteenth = channels
    linear = nn.Conv2d(M, 3 * CELL**2, 1)
    assert linear.bias is not None
    with torch.no_grad():
        linear.weight.copy_(cosine_basis(M).t().reshape(-1, M, 1, 1))
        linear.bias.fill_(0.5)
    deep = nn.Sequential(
        _conv(M, sixteenth, 3),
        *_blocks(sixteenth, blocks[2]),
        nn.LeakyReLU(SLOPE),
        _conv(sixteenth, 4 * eighth, 1),
        nn.PixelShuffle(2),
        *_blocks(eighth, blocks[1]),
        nn.LeakyReLU(SLOPE),
        _conv(eighth, 4 * quarter, 1),
        nn.PixelShuffle(2),
        *_blocks(quarter, blocks[0]),
        nn.LeakyReLU(SLOPE),
        _conv(quarter, 3 * FIRST**2, 3, gain=0.0),
        nn.PixelShuffle(FIRST),
    )
    # The step is a separate factor: in weights that small, an optimiser's step would change the picture too much.
    return nn.Sequential(Scale(FIRST_STEP), Branches(deep, nn.Sequential(linear, nn.PixelShuffle(CELL))))


def cosine_basis(M: int) -> Tensor:
    """M orthonormal rows over a cell's samples (M, 3 * 16 * 16), colours first.

    The rows are cosines of rising frequency, of luma and of two colour differences.
    """
    along = torch.arange(CELL) + 0.5
    waves = torch.cos(torch.pi / CELL * along * torch.arange(CELL).unsqueeze(1)) * (2.0 / CELL) ** 0.5
    waves[0] *= 0.5**0.5
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, -2.0, 1.0], [1.0, 0.0, -1.0]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    rows = [colours[c][:, None, None] * torch.outer(waves[u], waves[v]) for c, u, v in _coefficients(M)]
    return torch.stack([row.flatten() for row in rows])


def first_spreads(M: int) -> Tensor:
    """Standard deviations (M,) of photographs in that basis, in units of ``FIRST_STEP``: inversely proportional to the
    frequency."""
    return torch.tensor(
        [_SPREADS[c] / FIRST_STEP / max((u * u + v * v) ** 0.5, _LEAST_FREQUENCY) for c, u, v in _coefficients(M)]
    )


def _coefficients(M: int) -> list[tuple[int, int, int]]:
    """(colour, vertical frequency, horizontal frequency) of each row."""
    places = sorted(((u, v) for u in range(CELL) for v in range(CELL)), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    found, taken = [], [0, 0, 0]
    for index in range(M):
        # Both differences of a frequency follow each other, after enough luma channels to keep the shares.
        colour = {_CHROMA_SHARE - 2: 1, _CHROMA_SHARE - 1: 2}.get(index % _CHROMA_SHARE, 0)
        u, v = places[taken[colour] % len(places)]
        taken[colour] += 1
        found.append((colour, u, v))
    return found


def _conv(inputs: int, outputs: int, size: int, *, gain: float = 1.0) -> nn.Conv2d:
    """A convolution of stride 1 with He initialisation (arXiv 1502.01852) times ``gain``: with torch's default, the
    first latents are so small that all are rounded to zero for many steps."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu").mul_(gain)
    return conv


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(count)]
