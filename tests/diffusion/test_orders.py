"""Samplers with a perfect denoiser: that their samples become the data's, and how fast, as steps grow.

The schedule's clamp, |log_snr| <= 15, leaves the data a share of 5.5e-4 in the start at t = 1, which sampling from
pure noise forgets; and an even grid's last steps to t = 0 are wide in log_snr however many there are. Orders on the
diffusion are measured on 0.99 to 0.01 or inside of it, from the exact distribution at the start. The flows have no
clamp: theirs are measured from 1 to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.noise import NoiseSource, noise_in
from hfd.diffusion.process import Process
from hfd.diffusion.samplers import ancestral, ddim, dpmpp_2m, euler, heun, midpoint
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion, ResidualDiffusion
from tests.support.oracles import (
    COVARIANCE,
    MEAN,
    SIZE,
    Gaussian,
    Mixture,
    Q,
    affine,
    cosine_path,
    orders,
    straight_path,
    to_blocks,
    to_images,
)

pytestmark = pytest.mark.integration

SCHEDULE = CosineSchedule(0.5)
NOWHERE = torch.zeros(SIZE, dtype=torch.float64)
BESIDE = MEAN + torch.tensor([0.1, -0.05, 0.0, 0.2, -0.1, 0.05])
"""An x_hat that is not quite the data's mean."""

PROCESSES: dict[str, tuple[Process, Gaussian]] = {
    "diffusion": (Diffusion(SCHEDULE), Gaussian(cosine_path(0.5), NOWHERE)),
    "residual": (ResidualDiffusion(SCHEDULE, residual_std=0.7), Gaussian(cosine_path(0.5), NOWHERE, 0.7)),
    "flow": (RectifiedFlow(), Gaussian(straight_path, NOWHERE)),
    "posterior-mean": (PosteriorMeanFlow(sigma_s=0.3), Gaussian(straight_path, BESIDE, 0.3)),
}
MIXTURES = {
    "diffusion": Mixture(cosine_path(0.5)),
    "flow": Mixture(straight_path),
    "posterior-mean": Mixture(straight_path, 0.2, 0.3),
}
Solver = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor], Tensor]
SOLVERS: dict[str, Solver] = {
    "ddim": lambda denoise, x1, times: ddim(denoise, x1, SCHEDULE, times),
    "dpmpp-2m": lambda denoise, x1, times: dpmpp_2m(denoise, x1, SCHEDULE, times),
    "euler": euler,
    "heun": heun,
    "midpoint": midpoint,
}
ORDERS = {"ddim": 1, "dpmpp-2m": 2, "euler": 1, "heun": 2, "midpoint": 2}
PAIRS = [
    (name, solver)
    for name in MIXTURES
    for solver in (("ddim", "dpmpp-2m") if name == "diffusion" else ("euler", "heun", "midpoint"))
]


def ends(name: str) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor((0.99, 0.01) if name == "diffusion" else (1.0, 0.0), dtype=torch.float64))


def grid(first: Tensor, last: Tensor, steps: int) -> Tensor:
    return torch.linspace(float(first), float(last), steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("name", MIXTURES)
def test_oracles_are_posterior_means(name: str) -> None:
    """The Gaussian one against the textbook's formula with whole matrices, the other against an integral."""
    process, oracle = PROCESSES[name]
    assert float(COVARIANCE[0, 1].abs()) > 0.1 and float(COVARIANCE[0, 2].abs()) > 0.1
    torch.testing.assert_close(Q.T @ Q, torch.eye(SIZE, dtype=torch.float64))
    for at in (0.07, 0.6, 0.93):
        t = torch.tensor([at], dtype=torch.float64)
        a, b = (float(value) for value in process.path(t))
        assert a == pytest.approx(float(oracle.path(t)[0]), rel=1e-6)
        x_t = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
        gain = a * COVARIANCE @ torch.linalg.inv(a**2 * COVARIANCE + (b * oracle.spread) ** 2 * torch.eye(SIZE))
        expected = MEAN + gain @ (x_t - a * MEAN - b * oracle.start)
        got = to_blocks(oracle.denoise(to_images(x_t.reshape(1, 1, 1, SIZE)), t)).flatten()
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)

        mixture = MIXTURES[name]
        x0 = torch.linspace(-4, 4, 20001, dtype=torch.float64)
        prior = mixture.below(x0, torch.zeros(1)).diff()
        x0 = (x0[1:] + x0[:-1]) / 2
        posterior = prior * torch.exp(-(((0.4 - a * x0 - b * mixture.start) / (b * mixture.spread)) ** 2) / 2)
        got = mixture.denoise(torch.full((1, 3, 1, 1), 0.4, dtype=torch.float64), t)[0, 0, 0, 0]
        assert float(got) == pytest.approx(float((posterior * x0).sum() / posterior.sum()), abs=1e-4)


@pytest.mark.parametrize(("name", "solver"), PAIRS)
def test_solvers_follow_the_flow_of_gaussians_at_their_order(name: str, solver: str) -> None:
    """The whole map from a start to its end, exactly: so mean and covariance too, and they are checked once more.

    Midpoint does better than its order here: 3, whenever the data are Gaussian and the path is straight.
    """
    _, oracle = PROCESSES[name]
    first, last = ends(name)
    offset, matrix = oracle.flow(first, last)
    errors = []
    for steps in (64, 128, 256):

        def run(noise: NoiseSource, steps: int = steps) -> Tensor:
            return SOLVERS[solver](oracle.denoise, noise(0), grid(first, last, steps))

        got_offset, got_matrix = affine(run, 1)
        errors.append(float(torch.cat([got_offset - offset, (got_matrix - matrix).flatten()]).abs().max()))
    wanted = 3 if solver == "midpoint" else ORDERS[solver]
    assert orders(errors) == pytest.approx([wanted, wanted], abs=0.1)
    assert errors[-1] < {1: 0.02, 2: 5e-4, 3: 1e-6}[wanted]

    mean, _ = oracle.moments(first)
    got_covariance = got_matrix @ oracle.covariance(first) @ got_matrix.T
    slack = 10 * errors[-1]
    torch.testing.assert_close(got_offset + got_matrix @ mean, oracle.moments(last)[0], rtol=0, atol=slack)
    torch.testing.assert_close(got_covariance, oracle.covariance(last), rtol=0, atol=slack)


@pytest.mark.parametrize(("name", "solver"), PAIRS)
def test_solvers_follow_the_flow_of_mixtures_at_their_order(name: str, solver: str) -> None:
    """On a curved flow: 48 starts, from the 2 % to the 98 % quantile, end at the same quantiles."""
    mixture = MIXTURES[name]
    first, last = torch.tensor([[0.9, 0.1], [1.0, 0.0]], dtype=torch.float64)[int(name != "diffusion")]
    shares = torch.linspace(0.02, 0.98, 48, dtype=torch.float64).reshape(8, 3, 1, 2)
    x1, expected = mixture.quantile(shares, first), mixture.quantile(shares, last)
    errors = []
    for steps in (32, 64, 128):
        got = SOLVERS[solver](mixture.denoise, x1, grid(first, last, steps))
        errors.append(float((got - expected).abs().max()))
    wanted = ORDERS[solver]
    assert orders(errors) == pytest.approx([wanted, wanted], abs=0.12)
    assert errors[-1] < {1: 0.02, 2: 5e-4}[wanted]


def ancestral_moments(steps: int, gamma: float, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance at ``last`` of ancestral samples whose start is distributed as it should be."""
    oracle = PROCESSES["diffusion"][1]
    mean, root = oracle.moments(first)[0], torch.linalg.cholesky(oracle.covariance(first))

    def run(noise: NoiseSource) -> Tensor:
        x1 = to_images(mean + to_blocks(noise(0)) @ root.T)
        return ancestral(oracle.denoise, x1, noise, SCHEDULE, grid(first, last, steps), gamma=gamma)

    offset, matrix = affine(run, steps + 1)
    return offset, matrix @ matrix.T


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_ancestral_sampling_is_of_order_one(gamma: float) -> None:
    """The mean is exact at any number of steps; all gammas reach the covariance, since the step's two variances,
    c sigma_t^2 and c sigma_r^2, meet as steps get small."""
    first, last = torch.tensor([0.9, 0.1], dtype=torch.float64)
    oracle = PROCESSES["diffusion"][1]
    errors = []
    for steps in (32, 64, 128):
        mean, covariance = ancestral_moments(steps, gamma, first, last)
        torch.testing.assert_close(mean, oracle.moments(last)[0], rtol=0, atol=1e-6)
        errors.append(float((covariance - oracle.covariance(last)).abs().max()))
    assert orders(errors) == pytest.approx([1, 1], abs=0.06)
    assert errors[-1] < 0.01


@pytest.mark.parametrize("steps", [3, 12, 50])
def test_variance_rises_with_gamma(steps: int) -> None:
    """More with every gamma in every direction, and the data's own lies within what gamma reaches."""
    first, last = ends("diffusion")
    covariances = [ancestral_moments(steps, gamma, first, last)[1] for gamma in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for less, more in pairwise(covariances):
        assert float(torch.linalg.eigvalsh(more - less).min()) > 0
    data = PROCESSES["diffusion"][1].covariance(last)
    assert float(torch.linalg.eigvalsh(covariances[-1] - data).min()) > -1e-6
    assert float(torch.linalg.eigvalsh(data - covariances[0]).min()) > -1e-6


KINDS = [("diffusion", "ancestral"), ("residual", "ancestral"), ("residual", "ddim"), ("residual", "dpmpp-2m"), *PAIRS]
"""The residual's order of convergence is that of the diffusion, by tests/diffusion/test_residual.py."""


def sampled_by(name: str, settings: Sampling, x_hat: Tensor, noise: NoiseSource) -> Tensor:
    """The whole of sampling, from x_hat and pure noise to x0."""
    process, oracle = PROCESSES[name]
    return run_sampler(settings, process, oracle.denoise, x_hat, noise)


def settings_of(kind: str, steps: int) -> Sampling:
    return Sampling(steps, kind=kind, gamma=0.4 if kind == "ancestral" else 0.0)  # type: ignore[arg-type]


def walk_moments(name: str, kind: str, steps: int) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of a sampler's results, x_hat being ``BESIDE``."""
    x_hat = to_images(BESIDE.reshape(1, 1, 1, SIZE))
    draws = steps + 1 if kind == "ancestral" else 1
    offset, matrix = affine(lambda noise: sampled_by(name, settings_of(kind, steps), x_hat, noise), draws)
    return offset, matrix @ matrix.T


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_samplers_end_at_the_data(name: str, kind: str) -> None:
    """From pure noise, over the clamped ends: what each leaves after 200 steps, to a factor of two; midpoint
    leaves what float32 times leave."""
    mean, covariance = walk_moments(name, kind, 200)
    slack = {"ancestral": 7e-3, "ddim": 8e-3, "dpmpp-2m": 4e-4, "euler": 0.01, "heun": 4e-5, "midpoint": 1e-6}[kind]
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=slack)
    torch.testing.assert_close(covariance, COVARIANCE, rtol=0, atol=slack)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_samples_have_the_exact_statistics(name: str, kind: str) -> None:
    """20,000 blocks of seeded float32 noise, within five standard errors of the exact moments."""
    noise = noise_in([1, 2], 3, (100, 200), torch.device("cpu"))
    x_hat = to_images(BESIDE.expand(2, 100, 100, SIZE)).float()
    samples = sampled_by(name, settings_of(kind, 8), x_hat, noise)
    assert samples.dtype == torch.float32
    blocks = to_blocks(samples).reshape(-1, SIZE)
    mean, covariance = walk_moments(name, kind, 8)
    variances = covariance.diagonal()
    assert bool(((blocks.mean(0) - mean).abs() < 5 * (variances / len(blocks)).sqrt() + 1e-5).all())
    errors = ((variances * variances.unsqueeze(1) + covariance**2) / len(blocks)).sqrt()
    assert bool(((torch.cov(blocks.T) - covariance).abs() < 5 * errors + 1e-5).all())


def test_ancestral_samples_of_a_mixture_are_distributed_like_it() -> None:
    """The largest distance between distribution functions: at most the 0.1 % bound of Kolmogorov, 1.95 / sqrt(n),
    and 0.005 for 200 steps; a Gaussian of the samples' moments is 0.08 away."""
    mixture = MIXTURES["diffusion"]
    noise = noise_in([3], 3, (100, 100), torch.device("cpu"))
    x0 = run_sampler(Sampling(200, gamma=0.5), Diffusion(SCHEDULE), mixture.denoise, torch.zeros(1, 3, 100, 100), noise)
    x0 = x0.double().flatten().sort().values
    below = mixture.below(x0, torch.zeros((), dtype=torch.float64))
    ranks = (torch.arange(len(x0)) + 0.5) / len(x0)
    assert float((below - ranks).abs().max()) < 1.95 / math.sqrt(len(x0)) + 0.005
    gaussian = torch.special.ndtr((x0 - x0.mean()) / x0.std())
    assert float((gaussian - ranks).abs().max()) > 0.06
