"""Preconditioning: the best linear estimate, and unit input and target at every time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.process import Process, predict
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion, ResidualDiffusion

RHO = 0.2
PROCESSES: list[Process] = [
    *(Diffusion(CosineSchedule(0.5), predict, residual_std=RHO) for predict in ("v", "eps", "x0")),
    *(ResidualDiffusion(CosineSchedule(1.0), predict, residual_std=RHO) for predict in ("v", "eps", "x0")),
    RectifiedFlow(residual_std=RHO),
    PosteriorMeanFlow(residual_std=RHO, sigma_s=0.3),
]
TIMES = [0.02, 0.3, 0.5, 0.8, 0.98, 1.0]


def drawn(t: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0, x_hat, eps and t of many pixels, x0 - x_hat with standard deviation RHO."""
    generator = torch.Generator().manual_seed(0)
    x_hat, residual, eps = torch.randn(3, 4, 3, 64, 64, generator=generator)
    return x_hat + RHO * residual, x_hat, eps, torch.full((4,), t)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", TIMES)
def test_input_and_target_of_the_network_have_unit_variance(process: Process, t: float) -> None:
    x0, x_hat, eps, at = drawn(t)
    pair = process.training_pair(x0, x_hat, eps, at)
    around = process.precondition(pair.x_t, x_hat, at)
    assert float(around.x_in.std()) == pytest.approx(1.0, rel=0.02)
    wanted = (pair.target - around.skip) / around.scale
    assert float(wanted.std()) == pytest.approx(1.0, rel=0.02)
    # Nothing linear in the input is left to learn.
    assert abs(float((wanted * around.x_in).mean())) < 0.02
    assert abs(float((wanted * x_hat).mean())) < 0.02


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", TIMES)
def test_the_wanted_output_gives_x0_back(process: Process, t: float) -> None:
    x0, x_hat, eps, at = drawn(t)
    pair = process.training_pair(x0, x_hat, eps, at)
    around = process.precondition(pair.x_t, x_hat, at)
    wanted = (pair.target - around.skip) / around.scale
    found = predict(process, lambda *_: wanted, pair.x_t, x_hat, at)
    torch.testing.assert_close(process.x0_pred(pair.x_t, found, at), x0, rtol=0, atol=2e-3)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", TIMES)
def test_a_silent_network_is_the_best_linear_estimate(process: Process, t: float) -> None:
    """Of Gaussian residuals that is the posterior mean: x_hat + Cov(r, y) / Var(y) y, with y = x_t - E[x_t | x_hat]."""
    x0, x_hat, eps, at = drawn(t)
    pair = process.training_pair(x0, x_hat, eps, at)
    found = predict(process, lambda *_: torch.zeros_like(x0), pair.x_t, x_hat, at)
    x0_pred = process.x0_pred(pair.x_t, found, at)
    y = pair.x_t - process.training_pair(x_hat, x_hat, torch.zeros_like(eps), at).x_t
    gain = float((y * (x0 - x_hat)).mean() / y.square().mean())
    torch.testing.assert_close(x0_pred, x_hat + gain * y, rtol=0, atol=0.05 * RHO)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_silent_network_gives_x_hat_back_at_the_start(process: Process) -> None:
    _, x_hat, eps, at = drawn(1.0)
    x1 = process.start(x_hat, eps)
    found = predict(process, lambda *_: torch.zeros_like(x1), x1, x_hat, at)
    torch.testing.assert_close(process.x0_pred(x1, found, at), x_hat, rtol=0, atol=1e-2)


@pytest.mark.parametrize("process", [Diffusion(CosineSchedule(0.5)), RectifiedFlow(), PosteriorMeanFlow()])
def test_without_a_residual_the_network_answers_itself(process: Process) -> None:
    x0, x_hat, eps, at = drawn(0.4)
    x_t = process.training_pair(x0, x_hat, eps, at).x_t
    given: list[Tensor] = []
    output = torch.randn_like(x0)
    found = predict(process, lambda x_in, *_: given.append(x_in) or output, x_t, x_hat, at)  # type: ignore[func-returns-value]
    assert given[0] is x_t and torch.equal(found, output)
