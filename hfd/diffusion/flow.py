"""Rectified flow from noise or from a noisy reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfd.arrays import Array, namespace, rsqrt
from hfd.diffusion.process import EARLIEST, LATEST, Preconditioning, TrainingPair, as_images, stratified_uniform
from hfd.kinds import FlowTimes

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = (1 - t) x0 + t x1, x1 = eps; the network predicts u = x1 - x0 (Liu et al., arXiv 2209.03003).

    ``draw``: the distribution of training times, uniform, or logit-normal with location ``mean`` and
    scale ``std`` of logit(t) (Esser et al., arXiv 2403.03206). ``residual_std``: of x0 - x_hat, for preconditioning.
    """

    draw: FlowTimes = "uniform"
    mean: float = 0.0
    std: float = 1.0
    residual_std: float | None = None

    def times(self, batch: int, generator: torch.Generator) -> Tensor:
        import torch

        t = stratified_uniform(batch, generator)
        if self.draw == "logit-normal":
            t = torch.sigmoid(self.mean + self.std * torch.special.ndtri(t)).clamp(EARLIEST, LATEST)
        return t.to(torch.float32)

    def start(self, x_hat: Array, eps: Array) -> Array:
        del x_hat
        return eps

    def training_pair(self, x0: Array, x_hat: Array, eps: Array, t: Array) -> TrainingPair:
        x1 = self.start(x_hat, eps)
        (at,) = as_images(t)
        return TrainingPair(
            x_t=(1.0 - at) * x0 + at * x1,
            target=x1 - x0,
            noise_level=self.noise_level(t),
            weight=namespace(t).ones_like(t),
        )

    def path(self, t: Array) -> tuple[Array, Array]:
        return 1.0 - t, t

    def noise_level(self, t: Array) -> Array:
        return 4.0 * t - 2.0

    def precondition(self, x_t: Array, x_hat: Array, t: Array) -> Preconditioning:
        if self.residual_std is None:
            return Preconditioning(x_t, 0.0, 1.0)
        (at,) = as_images(t)
        share, noise = self._start_mix  # x1 = share x_hat + noise eps
        rho2, noise2 = self.residual_std**2, noise**2
        y = x_t - (1.0 + at * (share - 1.0)) * x_hat
        variance = (1.0 - at) ** 2 * rho2 + at**2 * noise2
        skip = (share - 1.0) * x_hat + (at * noise2 - (1.0 - at) * rho2) / variance * y
        return Preconditioning(y * rsqrt(variance), skip, -self.residual_std * noise * rsqrt(variance))

    @property
    def _start_mix(self) -> tuple[float, float]:
        return 0.0, 1.0

    def x0_pred(self, x_t: Array, output: Array, t: Array) -> Array:
        (at,) = as_images(t)
        return x_t - at * output


@dataclass(frozen=True)
class PosteriorMeanFlow(RectifiedFlow):
    """A rectified flow from the reconstruction, x1 = x_hat + sigma_s eps (PMRF, Ohayon et al., arXiv 2410.00418).

    Beyond the paper of HFD. ``sigma_s``: for images in [-1, 1].
    """

    sigma_s: float = 0.1

    def start(self, x_hat: Array, eps: Array) -> Array:
        return x_hat + self.sigma_s * eps

    @property
    def _start_mix(self) -> tuple[float, float]:
        return 1.0, self.sigma_s
