"""The ancestral sampler on data whose denoiser is known exactly: one Gaussian per channel.

For x0 ~ N(mu, v) the denoiser is affine, so every x_t of the chain is Gaussian and its mean and variance
obey a recursion that :func:`chain` runs in float64, apart from the sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hfd.diffusion.samplers import ancestral, seeded_noise
from hfd.diffusion.schedule import CosineSchedule, alpha_sigma, time_grid

SCHEDULE = CosineSchedule(0.5)
MEANS = (-0.3, 0.1, 0.7)
VARIANCES = (0.02, 0.25, 1.0)
GAMMAS = (0.0, 0.5, 1.0)


def exact_denoiser(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x0 | x_t] = mu + alpha v / (alpha^2 v + sigma^2) (x_t - alpha mu)."""
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in alpha_sigma(SCHEDULE.log_snr(t)))
    mu, v = (torch.tensor(row).reshape(1, 3, 1, 1) for row in (MEANS, VARIANCES))
    return mu + alpha * v / (alpha**2 * v + sigma**2) * (x_t - alpha * mu)


def levels(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """alpha and sigma at the grid's times, float64, from the formula."""
    t = np.linspace(1.0, 0.0, steps + 1)
    with np.errstate(divide="ignore"):
        log_snr = np.clip(-2 * (np.log(np.tan(np.pi * t / 2)) + math.log(SCHEDULE.s)), -15, 15)
    return (1 + np.exp(-log_snr)) ** -0.5, (1 + np.exp(log_snr)) ** -0.5


def chain(mu: float, v: float, steps: int, gamma: float) -> tuple[float, float]:
    """Mean and variance of what the sampler ends with, by recursion over its Gaussians."""
    alphas, sigmas = levels(steps)
    mean, variance = 0.0, 1.0
    for i in range(steps):
        alpha_t, sigma_t = alphas[i], sigmas[i]
        gain = alpha_t * v / (alpha_t**2 * v + sigma_t**2)
        offset = mu - gain * alpha_t * mu
        if i == steps - 1:
            return gain * mean + offset, gain**2 * variance
        alpha_r, sigma_r = alphas[i + 1], sigmas[i + 1]
        beta = 1 - (alpha_t / alpha_r) ** 2  # of DDPM, for the step r -> t
        step_variance = beta**gamma * (beta * sigma_r**2 / sigma_t**2) ** (1 - gamma)
        from_x = (alpha_t / alpha_r) * sigma_r**2 / sigma_t**2
        from_x0 = alpha_r * beta / sigma_t**2
        mean = (from_x + from_x0 * gain) * mean + from_x0 * offset
        variance = (from_x + from_x0 * gain) ** 2 * variance + step_variance
    raise AssertionError


def sampled(steps: int, gamma: float, seeds: int = 4, side: int = 100) -> Tensor:
    noise = seeded_noise(range(seeds), (3, side, side), torch.device("cpu"))
    x0 = ancestral(exact_denoiser, noise, SCHEDULE, time_grid(steps), gamma=gamma)
    return x0.double().transpose(0, 1).flatten(1)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("steps", [1, 2, 5, 30])
def test_chain_has_the_predicted_mean_and_variance(steps: int, gamma: float) -> None:
    values = sampled(steps, gamma)
    count = values.shape[1]
    for row, mu, v in zip(values, MEANS, VARIANCES, strict=True):
        mean, variance = chain(mu, v, steps, gamma)
        assert float(row.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / count) + 1e-5)
        assert float(row.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / count) + 1e-4)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_many_steps_reach_the_data(gamma: float) -> None:
    """All gammas do: the step's two variances, c sigma_t^2 and c sigma_r^2, meet as steps get small."""
    values = sampled(300, gamma, seeds=1)
    count = values.shape[1]
    for row, mu, v in zip(values, MEANS, VARIANCES, strict=True):
        # 300 steps leave a bias of up to 4 % on the variance of the narrowest Gaussian.
        assert float(row.mean()) == pytest.approx(mu, abs=5 * math.sqrt(v / count) + 2e-3)
        assert float(row.var()) == pytest.approx(v, rel=5 * math.sqrt(2 / count) + 0.041)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(("mu", "v"), list(zip(MEANS, VARIANCES, strict=True)))
def test_error_shrinks_with_steps(mu: float, v: float, gamma: float) -> None:
    errors = [abs(chain(mu, v, steps, gamma)[1] / v - 1) for steps in (50, 200, 800, 3200)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01
    # Of first order: four times the steps, a quarter of the error, down to what the clamped ends leave.
    assert errors[-1] < max(errors[-2] / 3.5, 1e-6)


def test_gamma_is_exact_where_ddpm_says_so() -> None:
    """gamma = 1 is exact for data of unit variance, gamma = 0 for data at one point, at any number of steps."""
    for steps in (2, 7):
        alphas, _ = levels(steps)
        # The last step returns x0_pred, which has alpha^2 of unit-variance data's variance.
        assert chain(0.7, 1.0, steps, gamma=1.0)[1] == pytest.approx(alphas[-2] ** 2, rel=1e-9)
        seen = path_variances(steps, gamma=0.0, target=0.4)
        _, sigmas = levels(steps)
        np.testing.assert_allclose(seen, sigmas[:-1] ** 2, rtol=0.05)


def path_variances(steps: int, gamma: float, target: float) -> list[float]:
    """Variance of x_t at every step when the data are one point."""
    seen = []

    def denoise(x_t: Tensor, _t: Tensor) -> Tensor:
        seen.append(float(x_t.var()))
        return torch.full_like(x_t, target)

    noise = seeded_noise([1], (3, 80, 80), torch.device("cpu"))
    x0 = ancestral(denoise, noise, SCHEDULE, time_grid(steps), gamma=gamma)
    assert bool((x0 == target).all())
    return seen


def one_step(gamma: float, times: Tensor, x_t: float, x0: float, noise: float) -> float:
    """Where the sampler goes from x_t in one step when it is given this x0_pred and this noise."""
    seen: list[Tensor] = []

    def denoise(x: Tensor, _t: Tensor) -> Tensor:
        seen.append(x)
        return torch.full_like(x, x0)

    source: Callable[[int], Tensor] = lambda step: torch.full((1, 3, 2, 2), x_t if step == 0 else noise)  # noqa: E731
    ancestral(denoise, source, SCHEDULE, torch.cat([times, torch.zeros(1)]), gamma=gamma)
    assert len(seen) == 2
    return float(seen[1].flatten()[0])


@pytest.mark.parametrize(("t", "r"), [(0.9, 0.8), (0.6, 0.2), (0.3, 0.29)])
def test_one_step_is_ddpms(t: float, r: float) -> None:
    """Ho et al., arXiv 2006.11239, equations 6 and 7, with alpha-bar = alpha^2."""
    bar_t, bar_r = (1 / (1 + (SCHEDULE.s * math.tan(math.pi * u / 2)) ** 2) for u in (t, r))
    beta = 1 - bar_t / bar_r
    beta_tilde = (1 - bar_r) / (1 - bar_t) * beta
    x_t, x0 = 0.8, -0.35
    mean = math.sqrt(bar_r) * beta / (1 - bar_t) * x0 + math.sqrt(1 - beta) * (1 - bar_r) / (1 - bar_t) * x_t
    times = torch.tensor([t, r])
    for gamma in (0.0, 0.25, 1.0):
        assert one_step(gamma, times, x_t, x0, noise=0.0) == pytest.approx(mean, rel=1e-4, abs=1e-5)
        std = one_step(gamma, times, x_t, x0, noise=1.0) - one_step(gamma, times, x_t, x0, noise=0.0)
        # gamma = 1 is DDPM's beta, gamma = 0 its beta-tilde, between them a line on the log scale.
        expected = math.exp(gamma * math.log(beta) + (1 - gamma) * math.log(beta_tilde))
        assert std**2 == pytest.approx(expected, rel=2e-4)


def test_one_step_in_all_returns_the_prediction() -> None:
    calls = []
    answer = torch.randn(2, 3, 4, 4)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append((x_t, t))
        return answer

    noise = seeded_noise([3, 4], (3, 4, 4), torch.device("cpu"))
    steps = []
    assert ancestral(denoise, noise, SCHEDULE, time_grid(1), on_step=steps.append) is answer
    ((x_t, t),) = calls
    assert torch.equal(x_t, noise(0)) and t.tolist() == [1.0, 1.0] and steps == [0]


def test_times_and_steps_are_told_in_order() -> None:
    told, steps = [], []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        told.append(t.tolist())
        return x_t

    noise = seeded_noise([0, 1], (3, 2, 2), torch.device("cpu"))
    ancestral(denoise, noise, SCHEDULE, time_grid(4), on_step=steps.append)
    assert told == [[1.0, 1.0], [0.75, 0.75], [0.5, 0.5], [0.25, 0.25]] and steps == [0, 1, 2, 3]


def test_noise_of_a_sample_is_its_own() -> None:
    shape, cpu = (3, 5, 7), torch.device("cpu")
    seeds = [0, 1, 12345, 2**32 - 1]
    together = seeded_noise(seeds, shape, cpu)
    for step in (0, 1, 50):
        batch = together(step)
        assert batch.shape == (4, *shape)
        for row, seed in zip(batch, seeds, strict=True):
            assert torch.equal(row, seeded_noise([seed], shape, cpu)(step)[0])
    rows = torch.cat([together(step) for step in range(20)])
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 80


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    noise = seeded_noise(range(8), (3, 32, 32), torch.device("cpu"))
    rows = torch.cat([noise(step) for step in range(4)]).flatten(1).double()
    assert float(rows.mean()) == pytest.approx(0.0, abs=5 / math.sqrt(rows.numel()))
    assert float(rows.var()) == pytest.approx(1.0, rel=5 * math.sqrt(2 / rows.numel()))
    # Neighbouring seeds and steps: 496 pairs, each correlation about 1 / sqrt(3072) = 0.018.
    correlations = torch.corrcoef(rows) - torch.eye(32)
    assert float(correlations.abs().max()) < 0.1


@pytest.mark.parametrize("gamma", GAMMAS)
def test_sampling_with_a_denoiser_of_each_image_is_batch_independent(gamma: float) -> None:
    shape, cpu = (3, 8, 8), torch.device("cpu")
    together = ancestral(exact_denoiser, seeded_noise([5, 6, 7], shape, cpu), SCHEDULE, time_grid(6), gamma=gamma)
    for i, seed in enumerate((5, 6, 7)):
        alone = ancestral(exact_denoiser, seeded_noise([seed], shape, cpu), SCHEDULE, time_grid(6), gamma=gamma)
        # Elementwise arithmetic only, so the last bit may differ with vectorisation and no more.
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-6)
