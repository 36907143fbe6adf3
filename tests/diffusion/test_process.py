"""Training pairs of every process; predictions and weightings of the diffusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.process import EARLIEST, LATEST, Process, as_images, stratified_uniform
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion, ResidualDiffusion
from hfd.kinds import Prediction, Weighting

S = 0.5
PROCESSES: dict[str, Process] = {
    **{predict: Diffusion(CosineSchedule(S), predict) for predict in get_args(Prediction)},
    **{
        f"residual {predict}": ResidualDiffusion(CosineSchedule(S), predict, residual_std=0.2)
        for predict in get_args(Prediction)
    },
    "flow": RectifiedFlow(),
    "logit-normal": RectifiedFlow("logit-normal", mean=-0.5, std=1.2),
    "posterior-mean": PosteriorMeanFlow(sigma_s=0.2),
}
T = torch.tensor([0.02, 0.25, 0.5, 0.75, 0.98], dtype=torch.float64)
each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """x0, x_hat, eps; float64, so that what is exact is seen to be."""
    return tuple(torch.randn(3, 5, 3, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def alpha_sigma() -> tuple[Tensor, Tensor]:
    """(B, 1, 1, 1) at ``T``, from the formula."""
    tan = S * np.tan(np.pi * T.numpy() / 2)
    return as_images(torch.from_numpy(1 / np.hypot(1, tan)), torch.from_numpy(tan / np.hypot(1, tan)))


@each
def test_pairs_lie_on_the_path_between_data_and_start(process: Process) -> None:
    x0, x_hat, eps = drawn(0)
    a, b = as_images(*process.path(T))
    pair = process.training_pair(x0, x_hat, eps, T)
    torch.testing.assert_close(pair.x_t, a * x0 + b * process.start(x_hat, eps), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(pair.noise_level, process.noise_level(T))
    assert pair.target.shape == x0.shape and pair.weight.shape == pair.noise_level.shape == (5,)
    assert bool((pair.weight > 0).all())


@each
def test_training_stays_in_float32(process: Process) -> None:
    x0, x_hat, eps = (value.float() for value in drawn(0))
    pair = process.training_pair(x0, x_hat, eps, T.float())
    assert {value.dtype for value in vars(pair).values()} == {torch.float32}
    assert process.x0_pred(pair.x_t, pair.target, T.float()).dtype == torch.float32


@each
def test_x0_of_the_target_is_x0(process: Process) -> None:
    """To float32's error in log_snr, which reading eps magnifies by sigma / alpha, 16 at the last time."""
    x0, x_hat, eps = drawn(1)
    pair = process.training_pair(x0, x_hat, eps, T)
    torch.testing.assert_close(process.x0_pred(pair.x_t, pair.target, T), x0, rtol=0, atol=1e-5)


@each
def test_every_image_has_its_own_time(process: Process) -> None:
    x0, x_hat, eps = drawn(2)
    whole = process.training_pair(x0, x_hat, eps, T)
    for i in range(5):
        single = process.training_pair(x0[i : i + 1], x_hat[i : i + 1], eps[i : i + 1], T[i : i + 1])
        for name in ("x_t", "target", "noise_level", "weight"):
            torch.testing.assert_close(getattr(single, name)[0], getattr(whole, name)[i])


@each
def test_ends_of_time_are_data_and_start(process: Process) -> None:
    x0, x_hat, eps = drawn(3)
    data = process.training_pair(x0, x_hat, eps, torch.full_like(T, EARLIEST))
    start = process.training_pair(x0, x_hat, eps, torch.full_like(T, LATEST))
    # At the clamp sigma^2 (or alpha^2) is sigmoid(-15) = 3e-7.
    torch.testing.assert_close(data.x_t, x0, rtol=0, atol=5e-3)
    torch.testing.assert_close(start.x_t, process.start(x_hat, eps), rtol=0, atol=5e-3)
    for pair in (data, start):
        assert bool(torch.isfinite(pair.target).all()) and bool(torch.isfinite(pair.weight).all())
        assert bool((pair.noise_level.abs() < 4).all())


@each
def test_noise_levels_distinguish_times(process: Process) -> None:
    levels = process.noise_level(torch.linspace(0.01, 0.99, 99))
    steps = levels.diff()
    assert bool((steps > 0.015).all()) or bool((steps < -0.015).all())


@each
def test_the_start_follows_its_inputs(process: Process) -> None:
    _, x_hat, eps = drawn(4)
    if isinstance(process, PosteriorMeanFlow):
        torch.testing.assert_close(process.start(x_hat, eps), x_hat + 0.2 * eps)
    elif isinstance(process, ResidualDiffusion):
        torch.testing.assert_close(process.start(x_hat, eps), 0.2 * eps)
    else:
        assert process.start(x_hat, eps) is eps


@each
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_times_are_inside_and_follow_the_generator(process: Process, batch: int) -> None:
    first, again, other = (process.times(batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (batch,) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float(first.min()) >= 0.99 * EARLIEST and float(first.max()) <= LATEST + 1e-7


@pytest.mark.parametrize("batch", [1, 2, 8, 33])
def test_stratified_holds_one_per_stratum(batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        u = stratified_uniform(batch, generator)
        assert u.shape == (batch,) and u.dtype == torch.float64
        assert (u * batch).floor().tolist() == list(range(batch))
        torch.testing.assert_close(u.diff(), torch.full((batch - 1,), 1 / batch, dtype=torch.float64))


def test_stratified_is_uniform() -> None:
    generator = torch.Generator().manual_seed(1)
    u = torch.stack([stratified_uniform(4, generator) for _ in range(4000)])
    # Standard error of a stratum's mean: (1/4) / sqrt(12 * 4000) = 0.0011.
    torch.testing.assert_close(u.mean(0), (torch.arange(4).double() + 0.5) / 4, rtol=0, atol=0.0055)
    assert float(u.var(dim=0).mean()) == pytest.approx(1 / 16 / 12, rel=0.05)


def test_stratified_stays_off_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for edge in (0.0, 1.0):
        monkeypatch.setattr(torch, "rand", lambda *_, edge=edge, **__: torch.tensor(edge, dtype=torch.float64))
        u = stratified_uniform(2, torch.Generator())
        assert float(u.min()) >= EARLIEST and float(u.max()) <= LATEST


TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "v": lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
    "eps": lambda _x0, eps, _alpha, _sigma: eps,
    "x0": lambda x0, _eps, _alpha, _sigma: x0,
}


@pytest.mark.parametrize("predict", get_args(Prediction))
def test_diffusion_by_the_formulas(predict: Prediction) -> None:
    process = Diffusion(CosineSchedule(S), predict)
    x0, x_hat, eps = drawn(5)
    alpha, sigma = alpha_sigma()
    pair = process.training_pair(x0, x_hat, eps, T)
    torch.testing.assert_close(pair.x_t, alpha * x0 + sigma * eps, rtol=0, atol=1e-6)
    torch.testing.assert_close(pair.target, TARGETS[predict](x0, eps, alpha, sigma), rtol=0, atol=1e-6)
    torch.testing.assert_close(pair.noise_level, process.schedule.log_snr(T) / 4)
    torch.testing.assert_close(process.training_pair(x0, x_hat + 1, eps, T).x_t, pair.x_t)


def test_v_is_a_rotation() -> None:
    """x0 = alpha x_t - sigma v, eps = sigma x_t + alpha v (paper.md), exactly, from any x_t and v."""
    x_t, v, _ = drawn(6)
    alpha, sigma = alpha_sigma()
    x0, eps = alpha * x_t - sigma * v, sigma * x_t + alpha * v
    torch.testing.assert_close(alpha * x0 + sigma * eps, x_t)
    torch.testing.assert_close(TARGETS["v"](x0, eps, alpha, sigma), v)
    for predict in get_args(Prediction):
        output = TARGETS[predict](x0, eps, alpha, sigma)
        got = Diffusion(CosineSchedule(S), predict).x0_pred(x_t, output, T)
        torch.testing.assert_close(got, x0, rtol=0, atol=3e-5)


@pytest.mark.parametrize("predict", get_args(Prediction))
@pytest.mark.parametrize("loss", get_args(Weighting))
def test_losses_equal_their_definition_for_every_prediction(predict: Prediction, loss: Weighting) -> None:
    """Of any output: weight |target - output|^2 is the squared error of v, eps or x0, read off that output.

    min-snr: of x0, times min(alpha^2 / sigma^2, 5).
    """
    process = Diffusion(CosineSchedule(S), predict, loss)
    x0, x_hat, eps = drawn(7)
    output = drawn(8)[0]
    alpha, sigma = alpha_sigma()
    pair = process.training_pair(x0, x_hat, eps, T)
    x_t = alpha * x0 + sigma * eps
    if predict == "v":
        x0_read, eps_read = alpha * x_t - sigma * output, sigma * x_t + alpha * output
    elif predict == "eps":
        x0_read, eps_read = (x_t - sigma * output) / alpha, output
    else:
        x0_read, eps_read = output, (x_t - alpha * output) / sigma
    errors = {
        "x0": (x0 - x0_read) ** 2,
        "eps": (eps - eps_read) ** 2,
        "v": (alpha * (eps - eps_read) - sigma * (x0 - x0_read)) ** 2,
        "min-snr": (alpha / sigma).square().clamp(max=5.0) * (x0 - x0_read) ** 2,
    }
    (weight,) = as_images(pair.weight)
    torch.testing.assert_close(weight * (pair.target - output) ** 2, errors[loss], rtol=2e-5, atol=1e-6)
    if predict == loss:
        assert pair.weight.tolist() == [1.0] * 5


def test_min_snr_takes_another_bound() -> None:
    weight = Diffusion(CosineSchedule(S), "x0", "min-snr", min_snr=2.0).training_pair(*drawn(9), T).weight
    alpha, sigma = (value.flatten() for value in alpha_sigma())
    torch.testing.assert_close(weight.double(), (alpha / sigma).square().clamp(max=2.0), rtol=1e-5, atol=0)
    assert weight.tolist().count(2.0) == 3
