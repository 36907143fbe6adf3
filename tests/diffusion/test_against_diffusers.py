"""Equality with the schedulers of diffusers, wherever they can be given our schedule.

Theirs count training timesteps by whole numbers and read alpha-bar off a table: the table here holds our grid, last
time first, from the formula in float64. DPM-Solver++ and the flows keep their sigmas in float32. All steps are run,
and each is compared. They have no midpoint rule for flows. Tests import diffusers where they use it:
the import takes seconds.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hfd.diffusion.flow import RectifiedFlow
from hfd.diffusion.process import Process
from hfd.diffusion.samplers import Denoise, ancestral, ddim, dpmpp_2m, euler, heun
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion
from hfd.kinds import Prediction

S = 0.5
SCHEDULE = CosineSchedule(S)
SHAPE = (2, 3, 4, 4)
PREDICTIONS: dict[Prediction, str] = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}
each_prediction = pytest.mark.parametrize("predict", PREDICTIONS)


def start() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def noise(step: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def network(x_t: Tensor, t: Tensor) -> Tensor:
    """Stands for one: any bounded function of x_t, t and a pixel's neighbours."""
    return torch.tanh(1.3 * x_t + 0.4 * x_t.roll(1, -1) - t.reshape(-1, 1, 1, 1)) + 0.2


def denoiser(process: Process) -> Denoise:
    return lambda x_t, t: process.x0_pred(x_t, network(x_t, t), t)


def grid(steps: int) -> Tensor:
    """From 0.97 down to 0: eps tells little of x0 where alpha is next to nothing."""
    return torch.linspace(0.97, 0.0, steps + 1, dtype=torch.float64)


def bars(times: Tensor) -> Tensor:
    """alpha-bar = alpha^2 at the times of a grid but its last, by timestep."""
    return 1.0 / (1.0 + (S * torch.tan(math.pi / 2 * times[:-1])) ** 2).flip(0)


def walk_theirs(scheduler, times: Tensor, generators: list[torch.Generator] | None = None) -> Tensor:
    """Their loop: the network's output and x_t into ``step``, timesteps downwards."""
    steps = len(times) - 1
    x_t = start()
    for k in range(steps):
        output = network(x_t, times[k].expand(len(x_t)))
        more = {} if generators is None else {"generator": generators[k]}
        x_t = scheduler.step(output, steps - 1 - k, x_t, **more).prev_sample
    return x_t


def seeds(steps: int) -> list[torch.Generator]:
    """Theirs draws with them what :func:`noise` answers."""
    return [torch.Generator().manual_seed(k + 1) for k in range(steps)]


@each_prediction
@pytest.mark.parametrize(("gamma", "variance"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_ancestral_is_ddpm(predict: Prediction, gamma: float, variance: str, steps: int) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(steps, variance_type=variance, clip_sample=False, prediction_type=PREDICTIONS[predict])
    times = grid(steps)
    scheduler.alphas_cumprod = bars(times)
    theirs = walk_theirs(scheduler, times, generators=seeds(steps))
    ours = ancestral(denoiser(Diffusion(SCHEDULE, predict)), start(), noise, SCHEDULE, times, gamma=gamma)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_gamma_is_their_range_of_learned_variances(gamma: float) -> None:
    """There a network may choose the variance, between the two on a log scale: half the output's channels, -1 to 1."""
    from diffusers import DDPMScheduler

    steps, times = 9, grid(9)
    scheduler = DDPMScheduler(steps, variance_type="learned_range", clip_sample=False, prediction_type="v_prediction")
    scheduler.alphas_cumprod = bars(times)
    x_t = start()
    for k, generator in enumerate(seeds(steps)):
        output = network(x_t, times[k].expand(len(x_t)))
        output = torch.cat([output, torch.full_like(output, 2 * gamma - 1)], dim=1)
        x_t = scheduler.step(output, steps - 1 - k, x_t, generator=generator).prev_sample
    ours = ancestral(denoiser(Diffusion(SCHEDULE, "v")), start(), noise, SCHEDULE, times, gamma=gamma)
    torch.testing.assert_close(ours, x_t, rtol=1e-5, atol=1e-5)


@each_prediction
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_ddim_is_theirs(predict: Prediction, steps: int) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(steps, clip_sample=False, prediction_type=PREDICTIONS[predict])
    times = grid(steps)
    scheduler.alphas_cumprod = bars(times)
    scheduler.set_timesteps(steps)
    theirs = walk_theirs(scheduler, times)
    ours = ddim(denoiser(Diffusion(SCHEDULE, predict)), start(), SCHEDULE, times)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def dpm_solver(predict: Prediction, table: Tensor, final: str, timesteps: list[int]) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        len(table),
        solver_order=2,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        prediction_type=PREDICTIONS[predict],
        lower_order_final=False,
        final_sigmas_type=final,
    )
    scheduler.alphas_cumprod = table
    scheduler.set_timesteps(timesteps=timesteps)
    return scheduler


@each_prediction
@pytest.mark.parametrize("steps", [1, 2, 9, 20])
def test_dpmpp_is_theirs(predict: Prediction, steps: int) -> None:
    """To t = 0, where the last step is of order 1 in both."""
    times = grid(steps)
    scheduler = dpm_solver(predict, bars(times), "zero", list(range(steps))[::-1])
    theirs = walk_theirs(scheduler, times)
    ours = dpmpp_2m(denoiser(Diffusion(SCHEDULE, predict)), start(), SCHEDULE, times)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@each_prediction
def test_dpmpp_short_of_the_end_is_theirs(predict: Prediction) -> None:
    """Up to t = 0.08, the last step of order 2 as well; by "sigma_min", the table's first entry, as the end."""
    times = torch.linspace(0.97, 0.08, 10, dtype=torch.float64)
    table = bars(torch.cat([times, times.new_zeros(1)]))
    scheduler = dpm_solver(predict, table, "sigma_min", list(range(1, 10))[::-1])
    x_t = start()
    for k in range(9):
        x_t = scheduler.step(network(x_t, times[k].expand(len(x_t))), 9 - k, x_t).prev_sample
    ours = dpmpp_2m(denoiser(Diffusion(SCHEDULE, predict)), start(), SCHEDULE, times)
    torch.testing.assert_close(ours, x_t, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_euler_is_theirs(steps: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    times = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=times[:-1].tolist())
    x_t = start()
    for k in range(steps):
        output = network(x_t, times[k].expand(len(x_t)))
        x_t = scheduler.step(output, scheduler.timesteps[k], x_t).prev_sample
    ours = euler(denoiser(RectifiedFlow()), start(), times)
    torch.testing.assert_close(ours, x_t, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 9])
def test_heun_is_theirs(steps: int) -> None:
    """Their grid ends at t = 1 / 1000 before 0, so ours is theirs; a step to 0 is Euler's in both."""
    from diffusers import FlowMatchHeunDiscreteScheduler

    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(steps)
    x_t, asked = start(), []
    for timestep in scheduler.timesteps:
        t = timestep.double() / 1000
        asked.append(float(t))
        x_t = scheduler.step(network(x_t, t.expand(len(x_t))), timestep, x_t).prev_sample
    assert len(asked) == 2 * steps - 1
    times = torch.tensor([*asked[::2], 0.0], dtype=torch.float64)
    ours = heun(denoiser(RectifiedFlow()), start(), times)
    torch.testing.assert_close(ours, x_t, rtol=1e-5, atol=1e-5)


T = torch.tensor([0.03, 0.3, 0.6, 0.95], dtype=torch.float64)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(3, 4, 3, 4, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64))


def table_of_t() -> Any:
    """Timestep i stands for ``T[i]``."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(len(T))
    scheduler.alphas_cumprod = bars(torch.cat([T.flip(0), T.new_zeros(1)]))
    return scheduler


def test_noising_and_velocity_are_theirs() -> None:
    scheduler, (x0, x_hat, eps), timesteps = table_of_t(), drawn(), torch.arange(len(T))
    pair = Diffusion(SCHEDULE, "v").training_pair(x0, x_hat, eps, T)
    torch.testing.assert_close(pair.x_t, scheduler.add_noise(x0, eps, timesteps), rtol=0, atol=1e-6)
    torch.testing.assert_close(pair.target, scheduler.get_velocity(x0, eps, timesteps), rtol=0, atol=1e-6)


@each_prediction
def test_min_snr_weights_are_those_of_their_training_scripts(predict: Prediction) -> None:
    """min(SNR, 5) / SNR on eps, and min(SNR, 5) / (SNR + 1) on v: the lines around ``compute_snr`` there."""
    from diffusers.training_utils import compute_snr

    snr = compute_snr(table_of_t(), torch.arange(len(T))).double()
    expected = snr.clamp(max=5.0) / {"v": snr + 1, "eps": snr, "x0": 1.0}[predict]
    weight = Diffusion(SCHEDULE, predict, "min-snr").training_pair(*drawn(), T).weight
    torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=0)


def test_flow_noising_is_theirs() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler, (x0, x_hat, eps) = FlowMatchEulerDiscreteScheduler(), drawn()
    pair = RectifiedFlow().training_pair(x0, x_hat, eps, T)
    scheduler.set_timesteps(sigmas=T.flip(0).tolist())
    theirs = scheduler.scale_noise(x0, scheduler.timesteps.flip(0), eps)
    torch.testing.assert_close(pair.x_t, theirs, rtol=0, atol=1e-6)


def test_logit_normal_times_have_their_distribution() -> None:
    """Theirs are drawn apart from each other, ours evenly: 20,000 of each, at most 1.95 sqrt(2 / n) apart."""
    from diffusers.training_utils import compute_density_for_timestep_sampling

    count = 20_000
    theirs = compute_density_for_timestep_sampling(
        "logit_normal", count, logit_mean=-0.4, logit_std=1.3, generator=torch.Generator().manual_seed(1)
    )
    ours = RectifiedFlow("logit-normal", -0.4, 1.3).times(count, torch.Generator().manual_seed(2))
    below = torch.searchsorted(ours.sort().values, theirs.sort().values).double() / count
    assert float((below - torch.arange(count) / count).abs().max()) < 1.95 * math.sqrt(2 / count)
