"""Variance-preserving diffusions of a picture or of its residual: v, eps or x0 prediction, weightings of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfd.arrays import Array, namespace, rsqrt
from hfd.diffusion.process import Preconditioning, TrainingPair, as_images, stratified_uniform
from hfd.diffusion.schedule import CosineSchedule, alpha_sigma
from hfd.kinds import Prediction, Weighting

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Diffusion:
    """x_t = alpha_t x0 + sigma_t eps;  v = alpha_t eps - sigma_t x0 (Salimans and Ho, arXiv 2202.00512).

    ``predict``: output of the network. ``loss``: quantity of the mean squared error, for any output; ``min-snr``: x0,
    times min(SNR, ``min_snr``) (Hang et al., arXiv 2303.09556). ``residual_std``: of x0 - x_hat, for preconditioning.
    """

    schedule: CosineSchedule
    predict: Prediction = "v"
    loss: Weighting = "v"
    min_snr: float = 5.0
    residual_std: float | None = None

    @property
    def noise_std(self) -> float:
        """Standard deviation of x1, the noise that the path joins to x0."""
        return 1.0

    def times(self, batch: int, generator: torch.Generator) -> Tensor:
        import torch

        return stratified_uniform(batch, generator).to(torch.float32)

    def training_pair(self, x0: Array, x_hat: Array, eps: Array, t: Array) -> TrainingPair:
        log_snr = self.schedule.log_snr(t)
        alpha_t, sigma_t = as_images(*alpha_sigma(log_snr))
        x1 = self.start(x_hat, eps)
        x_t = alpha_t * x0 + sigma_t * x1
        target = {"v": alpha_t * x1 - sigma_t * x0, "eps": x1, "x0": x0}[self.predict]
        weight = _on_x0(self.loss, log_snr, self.min_snr) / _on_x0(self.predict, log_snr, self.min_snr)
        return TrainingPair(x_t, target, self.noise_level(t), weight / self.noise_std**2)

    def start(self, x_hat: Array, eps: Array) -> Array:
        del x_hat
        return eps if self.noise_std == 1.0 else self.noise_std * eps

    def path(self, t: Array) -> tuple[Array, Array]:
        return alpha_sigma(self.schedule.log_snr(t))

    def noise_level(self, t: Array) -> Array:
        return self.schedule.log_snr(t) / 4.0

    def precondition(self, x_t: Array, x_hat: Array, t: Array) -> Preconditioning:
        if self.residual_std is None:
            return Preconditioning(x_t, 0.0, 1.0)
        alpha_t, sigma_t = as_images(*alpha_sigma(self.schedule.log_snr(t)))
        noise, noise2 = self.noise_std, self.noise_std**2
        rho, rho2 = self.residual_std * noise, self.residual_std**2
        y = x_t - alpha_t * x_hat
        variance = alpha_t**2 * rho2 + sigma_t**2 * noise2
        match self.predict:
            case "v":
                skip = alpha_t * sigma_t * (noise2 - rho2) / variance * y - sigma_t * x_hat
                scale = -rho * rsqrt(variance)
            case "eps":
                skip, scale = sigma_t * noise2 / variance * y, -rho * alpha_t * rsqrt(variance)
            case "x0":
                skip, scale = x_hat + alpha_t * rho2 / variance * y, rho * sigma_t * rsqrt(variance)
        return Preconditioning(y * rsqrt(variance), skip, scale)

    def x0_pred(self, x_t: Array, output: Array, t: Array) -> Array:
        alpha_t, sigma_t = as_images(*alpha_sigma(self.schedule.log_snr(t)))
        if self.predict == "v":
            return alpha_t * x_t - sigma_t * output
        return (x_t - sigma_t * output) / alpha_t if self.predict == "eps" else output


@dataclass(frozen=True)
class ResidualDiffusion(Diffusion):
    """Diffusion of the residual r = (x0 - x_hat) / residual_std, of unit variance (DIRAC, arXiv 2301.05489).

    Beyond the paper of HFD. In the coordinates of pictures x1 = residual_std eps, so that x_t - alpha_t x_hat is
    residual_std times alpha_t r + sigma_t eps. The network sees that sum and x_hat, and predicts v, eps or x0 of the
    residual. The residual's noise at shift s is the picture's at shift s residual_std. Losses and their SNR are those
    of the residual.
    """

    residual_std: float = 0.1

    @property
    def noise_std(self) -> float:
        return self.residual_std


def _on_x0(loss: Weighting, log_snr: Array, min_snr: float) -> Array:
    """Factor from a squared error of x0 to one of ``loss``: errors of eps are alpha/sigma, of v 1/sigma as large."""
    xp = namespace(log_snr)
    snr = xp.exp(log_snr)
    match loss:
        case "x0":
            return xp.ones_like(snr)
        case "eps":
            return snr
        case "v":
            return 1.0 + snr
        case "min-snr":
            return xp.clip(snr, None, min_snr)
