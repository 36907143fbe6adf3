"""Targets of distillation, against the samplers and exact denoisers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hfd.diffusion.distillation import grid_times, same_path, step, steps_of, truncated_snr, two_step_target
from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.process import Process
from hfd.diffusion.samplers import ddim, euler
from hfd.diffusion.schedule import CosineSchedule, time_grid
from hfd.diffusion.vp import Diffusion, ResidualDiffusion
from tests.support.oracles import MEAN, SIZE, Gaussian, Mixture, cosine_path, straight_path

SCHEDULE = CosineSchedule(0.5)
NOWHERE = torch.zeros(SIZE, dtype=torch.float64)
TEACHERS: dict[str, tuple[Process, Gaussian | Mixture]] = {
    "diffusion": (Diffusion(SCHEDULE), Gaussian(cosine_path(0.5), NOWHERE)),
    "residual": (ResidualDiffusion(SCHEDULE, residual_std=0.7), Gaussian(cosine_path(0.5), NOWHERE, 0.7)),
    "flow": (RectifiedFlow(), Gaussian(straight_path, NOWHERE)),
    "posterior-mean": (PosteriorMeanFlow(sigma_s=0.3), Gaussian(straight_path, MEAN + 0.1, 0.3)),
    "diffusion of a mixture": (Diffusion(SCHEDULE), Mixture(cosine_path(0.5))),
    "flow of a mixture": (RectifiedFlow(), Mixture(straight_path)),
}
Denoise = Callable[[Tensor, Tensor], Tensor]


def sampled(process: Process, denoise: Denoise, x_t: Tensor, times: Tensor) -> Tensor:
    """The deterministic sampler of a process, along these times."""
    if isinstance(process, Diffusion):
        return ddim(denoise, x_t, process.schedule, times)
    return euler(denoise, x_t, times)


def start(process: Process, batch: int = 2) -> Tensor:
    eps = torch.randn(batch, 3, 2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return process.start(torch.full_like(eps, 0.2), eps)


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("index", range(4))
def test_one_step_to_the_target_ends_where_two_of_the_teacher_do(name: str, index: int) -> None:
    process, oracle = TEACHERS[name]
    times = torch.from_numpy(time_grid(8))[2 * index : 2 * index + 3]
    x_t = start(process)
    target = two_step_target(process, oracle.denoise, x_t, *(at.expand(2) for at in times))
    once = sampled(process, lambda _x, _t: target, x_t, times[[0, 2]])
    twice = sampled(process, oracle.denoise, x_t, times)
    torch.testing.assert_close(once, twice, rtol=1e-5, atol=1e-5)
    assert float((target - oracle.denoise(x_t, times[:1].expand(2))).abs().max()) > 0.01


@pytest.mark.parametrize("name", TEACHERS)
def test_a_perfect_student_of_every_round_has_the_teachers_sample_in_one_step(name: str) -> None:
    """Eight steps are halved three times, each student being exactly what its teacher asks for."""
    process, oracle = TEACHERS[name]

    def student(steps: int) -> Denoise:
        if steps == 8:
            return oracle.denoise
        teacher = student(2 * steps)
        return lambda x, t: two_step_target(process, teacher, x, *steps_of(t, steps))

    x1 = start(process)
    many = sampled(process, oracle.denoise, x1, torch.from_numpy(time_grid(8)))
    for steps in (4, 2, 1):
        few = sampled(process, student(steps), x1, torch.from_numpy(time_grid(steps)))
        torch.testing.assert_close(few, many, rtol=1e-4, atol=1e-4)
    assert float((sampled(process, oracle.denoise, x1, torch.tensor([1.0, 0.0])) - many).abs().max()) > 0.05


def test_a_step_is_that_of_the_samplers() -> None:
    for name in ("diffusion", "flow", "posterior-mean"):
        process, oracle = TEACHERS[name]
        x_t, times = start(process), torch.tensor([0.8, 0.3])
        expected = sampled(process, oracle.denoise, x_t, times)
        found = step(process, x_t, oracle.denoise(x_t, times[:1].expand(2)), *(at.expand(2) for at in times))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_clamped_schedule_moves_nothing() -> None:
    """With almost no noise the first half of the times has the largest SNR, and two of them are alike."""
    process = Diffusion(CosineSchedule(1e-4))
    x_t = torch.full((1, 3, 2, 6), 0.5)
    found = two_step_target(process, lambda x, _t: 0.9 * x, x_t, *torch.tensor([[0.5], [0.4], [0.3]]))
    torch.testing.assert_close(found, 0.9 * x_t)


@pytest.mark.parametrize("steps", [1, 2, 8, 512])
def test_times_lie_on_the_grid_and_are_spread_evenly(steps: int) -> None:
    uniform = (torch.arange(4 * steps, dtype=torch.float64) + 0.3) / (4 * steps)
    t = grid_times(uniform, steps)
    grid = torch.from_numpy(time_grid(steps))
    assert torch.equal(t, grid[:-1].repeat_interleave(4))
    begin, middle, end = steps_of(t, steps)
    torch.testing.assert_close(begin, t, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(middle, t - 0.5 / steps, rtol=0.0, atol=1e-6)
    assert torch.equal(end[:-4], begin[4:]) and end[-4:].tolist() == [0.0] * 4
    assert float(grid_times(torch.ones(1), steps)) == float(grid[-2])


def test_errors_of_x0_are_weighed_by_the_snr_from_one_up() -> None:
    t = torch.tensor([1.0, 0.5, 0.25])
    assert truncated_snr(RectifiedFlow(), t).tolist() == pytest.approx([1.0, 1.0, 9.0])
    assert truncated_snr(PosteriorMeanFlow(), t).tolist() == pytest.approx([1.0, 1.0, 9.0])
    expected = [1.0, 4.0, (2.0 / torch.tan(torch.tensor(torch.pi / 8)).item()) ** 2]
    assert truncated_snr(Diffusion(SCHEDULE), t).tolist() == pytest.approx(expected, rel=1e-4)


def test_paths_are_the_same_or_not() -> None:
    flow = RectifiedFlow(draw="logit-normal", residual_std=0.1)
    assert same_path(RectifiedFlow(), flow) and not same_path(RectifiedFlow(), PosteriorMeanFlow())
    assert same_path(Diffusion(SCHEDULE, "v"), Diffusion(SCHEDULE, "x0", residual_std=0.2))
    assert not same_path(Diffusion(SCHEDULE), Diffusion(CosineSchedule(0.6))) and not same_path(
        Diffusion(SCHEDULE), flow
    )
    residual, larger = (ResidualDiffusion(SCHEDULE, residual_std=std) for std in (0.1, 0.2))
    assert not same_path(residual, larger) and not same_path(Diffusion(SCHEDULE), residual)
    assert same_path(residual, ResidualDiffusion(SCHEDULE, "x0", residual_std=0.1))
    assert not same_path(PosteriorMeanFlow(sigma_s=0.1), PosteriorMeanFlow(sigma_s=0.2))
