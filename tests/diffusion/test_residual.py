"""Diffusion of the residual: it is a diffusion of the picture with another shift, and stopping it early."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hfd.diffusion.noise import noise_in
from hfd.diffusion.process import as_images
from hfd.diffusion.samplers import Denoise, ancestral, ddim, dpmpp_2m
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion, ResidualDiffusion
from hfd.kinds import DiffusionSampler

RHO = 0.15
RESIDUAL = ResidualDiffusion(CosineSchedule(1.0), residual_std=RHO)
PICTURE = Diffusion(CosineSchedule(RHO))
"""The same noise beside the picture's detail: residual_std (sigma / alpha) of shift 1 is sigma / alpha of RHO."""

X_HAT = torch.linspace(-0.6, 0.6, 96, dtype=torch.float64).reshape(2, 3, 4, 4)
T = torch.tensor([0.9, 0.2], dtype=torch.float64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or X_HAT.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pairs_are_those_of_the_scaled_residual() -> None:
    """By the definition, in the residual's own coordinates: alpha r + sigma eps, and v = alpha eps - sigma r."""
    x0, eps = X_HAT + RHO * drawn(1), drawn(2)
    r = (x0 - X_HAT) / RHO
    alpha, sigma = as_images(torch.cos(math.pi / 2 * T), torch.sin(math.pi / 2 * T))
    pair = RESIDUAL.training_pair(x0, X_HAT, eps, T)
    around = RESIDUAL.precondition(pair.x_t, X_HAT, T)
    torch.testing.assert_close(around.x_in, alpha * r + sigma * eps, rtol=0, atol=1e-6)
    wanted = (pair.target - around.skip) / around.scale  # what the network is to answer
    torch.testing.assert_close(-wanted, alpha * eps - sigma * r, rtol=0, atol=1e-6)
    loss = pair.weight.reshape(-1, 1, 1, 1) * (pair.target - around.skip).square()  # of a network that answers 0
    torch.testing.assert_close(loss, (alpha * eps - sigma * r).square(), rtol=1e-5, atol=1e-6)


def bent(noisy: Tensor, spread: Tensor) -> Tensor:
    """An x0_pred of x0 + noise of standard deviation ``spread``, not linear."""
    return X_HAT + 0.2 * torch.tanh(4.0 * (noisy - X_HAT) / (1.0 + spread)) + 0.01


@pytest.mark.parametrize("kind", ["ancestral", "ddim", "dpmpp-2m"])
@pytest.mark.parametrize("stop", [0.0, 0.4])
def test_samplers_find_what_they_find_on_the_picture(kind: DiffusionSampler, stop: float) -> None:
    """A denoiser that sees x0 + noise gives both processes the same sample from the same start, step by step."""
    first = 0.9  # where neither schedule is clamped

    def denoise(process: Diffusion) -> Denoise:
        def x0_pred(x_t: Tensor, t: Tensor) -> Tensor:
            a, b = as_images(*process.path(t.double()))
            return bent(x_t / a, process.noise_std * b / a)

        return x0_pred

    times = torch.linspace(first, stop, 6, dtype=torch.float64)
    noisy, found = X_HAT + 2.0 * drawn(3), []
    for process in (RESIDUAL, PICTURE):
        alpha, _ = process.path(times[:1])
        step, x1 = denoise(process), alpha.reshape(-1, 1, 1, 1) * noisy
        last = float(process.path(times[-1:])[0]) if stop else 1.0
        if kind == "ancestral":
            end = ancestral(step, x1, lambda k, p=process: p.noise_std * drawn(k), process.schedule, times)
        else:
            end = (ddim if kind == "ddim" else dpmpp_2m)(step, x1, process.schedule, times)
        found.append(end / last)
    torch.testing.assert_close(*found, rtol=0, atol=2e-5)


@pytest.mark.parametrize("stop", [1.0, 0.75, 0.5, 0.3])
@pytest.mark.parametrize("process", [RESIDUAL, PICTURE])
def test_an_early_stop_has_the_error_and_the_variance_of_the_posterior(process: Diffusion, stop: float) -> None:
    """Residuals N(0, RHO^2), independent pixels. With the exact posterior mean at every step, x_t has the right
    distribution; its x0_pred then has the variance g RHO^2 about x_hat, g = SNR / (1 + SNR) of the residual, and an
    error of (1 - g) RHO^2 against a picture that made that x_t. Against another picture of the same x_hat, as in
    decoding, the errors add: (1 + g) RHO^2, from the least, RHO^2, at the start to twice that at the end.
    """

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        a, b = as_images(*process.path(t.double()))
        gain = a * RHO**2 / (a**2 * RHO**2 + b**2 * process.noise_std**2)
        return x_hat + gain * (x_t - a * x_hat)

    x_hat = torch.zeros(4, 3, 64, 64, dtype=torch.float64) + 0.2
    noise = noise_in([1, 2, 3, 4], 3, (64, 64), torch.device("cpu"))
    settings = Sampling(200, kind="ddim", stop=stop)
    sample = run_sampler(settings, process, denoise, x_hat, lambda step: noise(step).double())
    tan = math.tan(math.pi / 2 * stop) * process.schedule.s * process.noise_std if stop < 1.0 else math.inf
    gain = RHO**2 / (RHO**2 + tan**2)
    x0 = x_hat + RHO * drawn(5, *x_hat.shape)
    error = float((sample - x0).square().mean())
    slack = 5 * math.sqrt(2 / x0.numel())
    assert error == pytest.approx((1.0 + gain) * RHO**2, rel=slack + 0.02)
    assert float((sample - x_hat).var()) == pytest.approx(gain * RHO**2, rel=slack + 0.04, abs=1e-5)
