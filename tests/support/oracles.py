"""Data whose denoiser and probability flow are known exactly: Gaussian with correlated pixels, and a mixture.

Gaussian: two neighbouring columns of three colours are one block of six numbers, independent of other blocks and
distributed as N(MEAN, Q diag(VARIANCES) Q^T). Q turns colours by the DCT of length 3 and columns by that of
length 2, so its axes are (luma, two tints) x (sum, difference). With x1 ~ N(start, spread^2) and
x_t = a_t x0 + b_t x1 everything stays Gaussian with the same axes: posterior means, probability flows and samplers
are known in closed form. All of them are affine, and :class:`Mixture` is there for what only shows where they bend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hfd.diffusion.noise import NoiseSource

SIZE = 6
MEAN = torch.tensor([-0.3, 0.1, 0.7, 0.5, -0.2, 0.4], dtype=torch.float64)
VARIANCES = torch.tensor([1.0, 0.1, 0.3, 0.03, 0.2, 0.02], dtype=torch.float64)


def _dct(size: int) -> Tensor:
    k, n = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    rows = torch.cos(math.pi / size * (n + 0.5) * k) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


Q = torch.kron(_dct(3), _dct(2)).T.contiguous()
"""Its columns are the axes."""

COVARIANCE = Q @ torch.diag(VARIANCES) @ Q.T


def to_blocks(x: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, H, W / 2, 6), float64."""
    batch, _, height, width = x.shape
    return x.double().reshape(batch, 3, height, width // 2, 2).permute(0, 2, 3, 1, 4).reshape(batch, height, -1, SIZE)


def to_images(blocks: Tensor) -> Tensor:
    batch, height, half, _ = blocks.shape
    return blocks.reshape(batch, height, half, 3, 2).permute(0, 3, 1, 2, 4).reshape(batch, 3, height, 2 * half)


Path = Callable[[Tensor], tuple[Tensor, Tensor]]
"""t float64, any shape -> a_t, b_t."""


def cosine_path(s: float) -> Path:
    """alpha = 1 / sqrt(1 + tan^2) and sigma = tan / sqrt(1 + tan^2), tan = s tan(pi t / 2) within e^(-+7.5)."""

    def path(t: Tensor) -> tuple[Tensor, Tensor]:
        tan = (s * torch.tan(math.pi / 2 * t)).clamp(math.exp(-7.5), math.exp(7.5))
        alpha = (1.0 + tan**2) ** -0.5
        return alpha, tan * alpha

    return path


def straight_path(t: Tensor) -> tuple[Tensor, Tensor]:
    return 1.0 - t, t


@dataclass(frozen=True)
class Gaussian:
    """``start`` (6,): the mean of x1, of which x_hat is an example; ``spread``: its standard deviation."""

    path: Path
    start: Tensor
    spread: float = 1.0

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of x_t (..., 6), and its variances along the axes (..., 6)."""
        a, b = (value.unsqueeze(-1) for value in self.path(t.double()))
        return a * MEAN + b * self.start, a**2 * VARIANCES + (b * self.spread) ** 2

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x0 | x_t], in the type of ``x_t``."""
        mean, variances = (value.reshape(-1, 1, 1, SIZE) for value in self.moments(t))
        a, _ = self.path(t.double())
        along = (to_blocks(x_t) - mean) @ Q * (a.reshape(-1, 1, 1, 1) * VARIANCES / variances)
        return to_images(MEAN + along @ Q.T).to(x_t.dtype)

    def covariance(self, t: Tensor) -> Tensor:
        return Q @ torch.diag(self.moments(t)[1]) @ Q.T

    def flow(self, t: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Offset (6,) and matrix (6, 6) of the map from x_t to x_r along the probability flow."""
        (mean_t, variances_t), (mean_r, variances_r) = self.moments(t), self.moments(r)
        matrix = Q @ torch.diag((variances_r / variances_t).sqrt()) @ Q.T
        return mean_r - matrix @ mean_t, matrix


@dataclass(frozen=True)
class Mixture:
    """Every value for itself: 3 parts in 10 N(-0.6, 0.2^2), the others N(0.5, 0.4^2); x1 as in :class:`Gaussian`."""

    path: Path
    start: float = 0.0
    spread: float = 1.0

    def parts(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shares (2,), means and standard deviations (..., 2) of x_t's parts."""
        a, b = (value.unsqueeze(-1) for value in self.path(t.double()))
        shares, means, stds = torch.tensor([[0.3, 0.7], [-0.6, 0.5], [0.2, 0.4]], dtype=torch.float64)
        return shares, a * means + b * self.start, ((a * stds) ** 2 + (b * self.spread) ** 2).sqrt()

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x0 | x_t]: the parts' own posterior means, by how likely each part is."""
        zero = torch.zeros((), dtype=torch.float64)
        _, data_means, data_stds = self.parts(zero)
        shares, means, stds = (value.reshape(-1, 1, 1, 1, 2) for value in self.parts(t))
        off = x_t.unsqueeze(-1) - means
        likely = torch.softmax(shares.log() - stds.log() - (off / stds) ** 2 / 2, dim=-1)
        a, _ = (value.reshape(-1, 1, 1, 1, 1) for value in self.path(t.double()))
        return (likely * (data_means + a * data_stds**2 / stds**2 * off)).sum(dim=-1)

    def below(self, x: Tensor, t: Tensor) -> Tensor:
        """The distribution function of x_t."""
        shares, means, stds = self.parts(t)
        return (shares * torch.special.ndtr((x.unsqueeze(-1) - means) / stds)).sum(dim=-1)

    def quantile(self, share: Tensor, t: Tensor) -> Tensor:
        """Its inverse, by bisection. In one dimension a probability flow keeps every point's quantile."""
        low, high = torch.full_like(share, -20.0), torch.full_like(share, 20.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.below(middle, t) > share
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2


def affine(run: Callable[[NoiseSource], Tensor], draws: int) -> tuple[Tensor, Tensor]:
    """Offset (6,) and matrix (6, 6 draws) by which a sampler makes a block of its noise(0), noise(1), ...

    On these data every sampler is affine in its noise, so a run on zero and one on each basis vector, all in one
    batch, tell the mean and the covariance of its samples without any statistical error.
    """
    rows = 1 + SIZE * draws

    def noise(k: int) -> Tensor:
        basis = torch.zeros(rows, 1, 1, SIZE, dtype=torch.float64)
        for i in range(SIZE):
            basis[1 + SIZE * k + i, 0, 0, i] = 1.0
        return to_images(basis)

    ends = to_blocks(run(noise)).reshape(rows, SIZE)
    return ends[0], (ends[1:] - ends[0]).T


def orders(errors: list[float]) -> list[float]:
    """The powers of the step width that errors fall with, where each count of steps is twice the last."""
    return [math.log2(a / b) for a, b in pairwise(errors)]
