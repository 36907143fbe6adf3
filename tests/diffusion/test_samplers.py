"""The samplers step by step: updates against formulas, evaluations of the denoiser, and noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hfd.diffusion.noise import NoiseSource, noise_in
from hfd.diffusion.samplers import (
    Denoise,
    OnStep,
    ancestral,
    ddim,
    dpmpp_2m,
    euler,
    heun,
    midpoint,
)
from hfd.diffusion.schedule import CosineSchedule, time_grid
from tests.support.oracles import affine

SCHEDULE = CosineSchedule(0.5)
CPU = torch.device("cpu")


def run(name: str, denoise: Denoise, x1: Tensor, times: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Any sampler by its name; the ancestral one without noise."""
    match name:
        case "ancestral":
            return ancestral(denoise, x1, lambda _: torch.zeros_like(x1), SCHEDULE, times, on_step=on_step)
        case "ddim":
            return ddim(denoise, x1, SCHEDULE, times, on_step=on_step)
        case "dpmpp-2m":
            return dpmpp_2m(denoise, x1, SCHEDULE, times, on_step=on_step)
        case _:
            return {"euler": euler, "heun": heun, "midpoint": midpoint}[name](denoise, x1, times, on_step=on_step)


SAMPLERS = ("ancestral", "ddim", "dpmpp-2m", "euler", "heun", "midpoint")


def alpha_sigma(t: float) -> tuple[float, float]:
    tan = SCHEDULE.s * math.tan(math.pi * t / 2)
    return 1 / math.hypot(1, tan), tan / math.hypot(1, tan)


def single(value: float) -> Tensor:
    return torch.full((1, 3, 2, 2), value, dtype=torch.float64)


def end_of(name: str, times: list[float], x_t: float, denoise: Denoise) -> float:
    """Return the result of a sampler that starts at x_t, at times[-1]; all numbers float64."""
    return float(run(name, denoise, single(x_t), torch.tensor(times, dtype=torch.float64))[0, 0, 0, 0])


@pytest.mark.parametrize(("t", "r"), [(0.9, 0.8), (0.6, 0.2), (0.3, 0.29)])
def test_one_step_is_ddpms(t: float, r: float) -> None:
    """Ho et al., arXiv 2006.11239, equations 6 and 7, with alpha-bar = alpha^2."""
    bar_t, bar_r = alpha_sigma(t)[0] ** 2, alpha_sigma(r)[0] ** 2
    beta = 1 - bar_t / bar_r
    beta_tilde = (1 - bar_r) / (1 - bar_t) * beta
    x_t, x0 = 0.8, -0.35
    mean = math.sqrt(bar_r) * beta / (1 - bar_t) * x0 + math.sqrt(1 - beta) * (1 - bar_r) / (1 - bar_t) * x_t
    times = torch.tensor([t, r], dtype=torch.float64)

    def end(gamma: float, noise: float) -> float:
        x_r = ancestral(lambda x, _: x * 0 + x0, single(x_t), lambda _: single(noise), SCHEDULE, times, gamma=gamma)
        return float(x_r[0, 0, 0, 0])

    for gamma in (0.0, 0.25, 1.0):
        assert end(gamma, 0.0) == pytest.approx(mean, rel=1e-5)
        # gamma = 1 is DDPM's beta, gamma = 0 its beta-tilde, between them a line on the log scale.
        expected = math.exp(gamma * math.log(beta) + (1 - gamma) * math.log(beta_tilde))
        assert (end(gamma, 1.0) - end(gamma, 0.0)) ** 2 == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("t", "r"), [(0.9, 0.8), (0.6, 0.2), (0.3, 0.29)])
def test_one_step_of_the_deterministic_samplers(t: float, r: float) -> None:
    """With one x0 for all times their steps are exact: x_t keeps its eps on a diffusion, its x1 on a flow."""
    x0 = -0.35
    alpha_t, sigma_t = alpha_sigma(t)
    alpha_r, sigma_r = alpha_sigma(r)
    for name in ("ddim", "dpmpp-2m"):
        got = end_of(name, [t, r], alpha_t * x0 + sigma_t * 1.3, lambda x, _: x * 0 + x0)
        assert got == pytest.approx(alpha_r * x0 + sigma_r * 1.3, rel=1e-5)
    for name in ("euler", "heun", "midpoint"):
        got = end_of(name, [t, r], (1 - t) * x0 + t * 1.3, lambda x, _: x * 0 + x0)
        assert got == pytest.approx((1 - r) * x0 + r * 1.3, rel=1e-9)


def bent(x_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser without any symmetry that could hide a mistake."""
    return torch.tanh(1.5 * x_t + 0.3) * (1 - t.reshape(-1, 1, 1, 1)) ** 2 + 0.1


def bent_number(x_t: float, t: float) -> float:
    return math.tanh(1.5 * x_t + 0.3) * (1 - t) ** 2 + 0.1


def test_the_second_step_of_dpmpp_uses_the_first() -> None:
    """Algorithm 2 of Lu et al., arXiv 2211.01095: D = (1 + 1 / 2r) x_theta(t) - 1 / 2r x_theta(s), r = h_last / h."""
    times = [0.8, 0.5, 0.35]
    x = 0.8
    levels = [alpha_sigma(t) for t in times]
    lambdas = [math.log(alpha / sigma) for alpha, sigma in levels]
    h_first, h = lambdas[1] - lambdas[0], lambdas[2] - lambdas[1]
    first = bent_number(x, times[0])
    x = levels[1][1] / levels[0][1] * x - levels[1][0] * math.expm1(-h_first) * first
    assert end_of("dpmpp-2m", times[:2], 0.8, bent) == pytest.approx(x, rel=1e-5)
    r = h_first / h
    estimate = (1 + 1 / (2 * r)) * bent_number(x, times[1]) - first / (2 * r)
    x = levels[2][1] / levels[1][1] * x - levels[2][0] * math.expm1(-h) * estimate
    assert end_of("dpmpp-2m", times, 0.8, bent) == pytest.approx(x, rel=1e-5)


def test_steps_of_the_flows_solvers() -> None:
    """The three rules on dx/dt = u(x, t) = (x - x0_pred) / t."""

    def u(x: float, t: float) -> float:
        return (x - bent_number(x, t)) / t

    x, t, r = 0.8, 0.7, 0.45
    h, m = r - t, (r + t) / 2
    expected = {
        "euler": x + h * u(x, t),
        "heun": x + h * (u(x, t) + u(x + h * u(x, t), r)) / 2,
        "midpoint": x + h * u(x + (m - t) * u(x, t), m),
    }
    for name, value in expected.items():
        assert end_of(name, [t, r], x, bent) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("steps", [2, 7])
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_gamma_is_exact_for_the_data_of_ddpm(gamma: float, steps: int) -> None:
    """gamma = 0 is exact for data at one point, gamma = 1 for data of unit variance, at any number of steps."""
    first, last = 0.95, 0.05
    mean, deviation = {0.0: (0.4, 0.0), 1.0: (0.0, 1.0)}[gamma]

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return mean + deviation**2 * alpha_sigma(float(t[0]))[0] * x_t

    def samples(noise: NoiseSource) -> Tensor:
        alpha, sigma = alpha_sigma(first)
        x1 = alpha * mean + math.hypot(alpha * deviation, sigma) * noise(0)
        times = torch.linspace(first, last, steps + 1, dtype=torch.float64)
        return ancestral(denoise, x1, noise, SCHEDULE, times, gamma=gamma)

    offset, matrix = affine(samples, steps + 1)
    alpha, sigma = alpha_sigma(last)
    variance = (alpha * deviation) ** 2 + sigma**2
    torch.testing.assert_close(offset, torch.full_like(offset, alpha * mean), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix @ matrix.T, variance * torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_times_of_the_denoisers_evaluations(name: str) -> None:
    """Its times in order, each for the whole batch; a step to t = 0 is x0_pred itself, but midpoint's."""
    told: list[list[float]] = []
    steps: list[int] = []
    answers: list[Tensor] = []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        told.append(t.tolist())
        answers.append(bent(x_t, t))
        return answers[-1]

    x1 = noise_in([0, 1], 3, (2, 2), CPU)(0)
    x0 = run(name, denoise, x1, time_grid(4), steps.append)
    asked = {
        "heun": [1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25],
        "midpoint": [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125],
    }.get(name, [1.0, 0.75, 0.5, 0.25])
    assert told == [[t, t] for t in asked]
    assert steps == [0, 1, 2, 3]
    assert (x0 is answers[-1]) == (name != "midpoint")
    assert torch.isfinite(x0).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_in_all(name: str) -> None:
    """From t = 1 to 0: the prediction at pure noise, and for midpoint a straight line by the velocity half-way."""
    x1 = noise_in([3], 3, (4, 4), CPU)(0)
    at_start = bent(x1, torch.ones(1))
    expected = at_start
    if name == "midpoint":
        half = (x1 + at_start) / 2
        expected = x1 - 2 * (half - bent(half, torch.tensor([0.5])))
    torch.testing.assert_close(run(name, bent, x1, time_grid(1)), expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling_may_be_split_in_two(name: str) -> None:
    """A grid that ends at t > 0 gives x there; a second run continues from it, but dpmpp loses its history."""
    x1 = noise_in([4], 3, (4, 4), CPU)(0)
    times = time_grid(6)
    whole = run(name, bent, x1, times)
    halves = run(name, bent, run(name, bent, x1, times[:4]), times[3:])
    if name == "dpmpp-2m":
        assert 1e-4 < float((whole - halves).abs().max()) < 0.2
    else:
        torch.testing.assert_close(halves, whole)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_image_of_a_batch_is_sampled_for_itself(name: str) -> None:
    """Elementwise arithmetic only, so the last bit may differ with vectorisation and no more."""
    noise = noise_in([5, 6, 7], 3, (8, 8), CPU)
    together = run(name, bent, noise(0), time_grid(6))
    for i in range(3):
        torch.testing.assert_close(
            run(name, bent, noise(0)[i : i + 1], time_grid(6))[0], together[i], rtol=1e-5, atol=1e-6
        )


def test_ancestral_steps_have_noise_of_their_own() -> None:
    """Step k adds noise(k + 1), the last one, to t = 0, none: noise(0) is the start."""
    drawn: list[int] = []
    source = noise_in([5], 3, (4, 4), CPU)

    def noise(k: int) -> Tensor:
        drawn.append(k)
        return source(k)

    ancestral(bent, source(0), noise, SCHEDULE, time_grid(5), gamma=0.5)
    assert drawn == [1, 2, 3, 4]


def test_noise_of_a_sample_is_its_own() -> None:
    seeds = [0, 1, 12345, 2**32 - 1]
    together = noise_in(seeds, 3, (5, 7), CPU)
    for step in (0, 1, 50):
        batch = together(step)
        assert batch.shape == (4, 3, 5, 7)
        for row, seed in zip(batch, seeds, strict=True):
            assert torch.equal(row, noise_in([seed], 3, (5, 7), CPU)(step)[0])
    rows = torch.cat([together(step) for step in range(20)])
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 80


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    noise = noise_in(range(8), 3, (32, 32), CPU)
    rows = torch.cat([noise(step) for step in range(4)]).flatten(1).double()
    assert float(rows.mean()) == pytest.approx(0.0, abs=5 / math.sqrt(rows.numel()))
    assert float(rows.var()) == pytest.approx(1.0, rel=5 * math.sqrt(2 / rows.numel()))
    # Neighbouring seeds and steps: 496 pairs, each correlation about 1 / sqrt(3072) = 0.018.
    correlations = np.corrcoef(rows.numpy()) - np.eye(32)
    assert float(np.abs(correlations).max()) < 0.1
