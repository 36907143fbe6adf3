"""Distillation: what a student of enough capacity learns, rounds, and mistakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.neighbours import known_pixels
from hfd.diffusion.process import Process, predict
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion
from hfd.errors import TrainingError
from hfd.training.distillation import DistillSettings, DistillTask
from hfd.training.metric_window import MetricWindow
from hfd.training.tasks import OptimiserSettings, sample_masks
from hfd.training.workers import Workers
from tests.support.tiny_training import distill_task, one_update, randomness_at

RHO = 0.1
PROCESSES: dict[str, Process] = {
    "diffusion": Diffusion(CosineSchedule(0.5), residual_std=RHO),
    "x0": Diffusion(CosineSchedule(0.5), predict="x0", residual_std=RHO),
    "flow": RectifiedFlow(residual_std=RHO),
    "posterior-mean": PosteriorMeanFlow(sigma_s=0.2, residual_std=RHO),
}


class Gain(nn.Module):
    """Multiplies its input by a line in the noise level. At zero, with preconditioning, it is the exact posterior mean
    of pictures that are x_hat plus white noise of deviation RHO."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.zeros(2))

    def forward(self, x_in: Tensor, x_hat: Tensor, noise_level: Tensor, known: Tensor | None = None) -> Tensor:
        del x_hat, known
        return (self.line[0] + self.line[1] * noise_level).reshape(-1, 1, 1, 1) * x_in


def white(count: int = 8) -> Iterator[Tensor]:
    """Batches (b, 2, 3, 8, 8) in [0, 1]: grey x_hat of several levels, and x with white noise on it."""
    generator = torch.Generator().manual_seed(0)
    while True:
        x_hat = 0.3 * torch.rand(count, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8) - 0.15
        x0 = x_hat + RHO * torch.randn(count, 3, 8, 8, generator=generator)
        yield (torch.stack([x0, x_hat], dim=1) + 1.0) / 2.0


def sample_of(process: Process, net: nn.Module, x_hat: Tensor, steps: int) -> Tensor:
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return process.x0_pred(x_t, predict(process, net, x_t, x_hat, t), t)

    eps = torch.randn(x_hat.shape, generator=torch.Generator().manual_seed(9))
    kind = "ddim" if isinstance(process, Diffusion) else "euler"
    with torch.no_grad():
        return run_sampler(Sampling(steps, kind), process, denoise, x_hat, lambda _step: eps)


@pytest.mark.parametrize("name", list(PROCESSES))
def test_one_step_of_a_student_becomes_the_four_of_its_teacher(name: str) -> None:
    """All is linear here, and one step of the exact teacher is x_hat itself, without any of the noise."""
    process, steps = PROCESSES[name], 240
    teacher = ScoreDecoder(Gain(), process, {}, "")
    optimiser = OptimiserSettings(lr=0.04, weight_decay=0.0, grad_clip=100.0, precision="float32")
    task = DistillTask(Gain(), process, optimiser, DistillSettings(4, 1), teacher, sigma_rels=(0.05,))
    for step, batch in zip(range(steps), white(), strict=False):
        losses = task.losses(batch, progress=step / steps, randomness=randomness_at(step, batch_size=8))
        one_update(task, losses, step, lr_factor=1.0 if step % 120 < 60 else 0.1)
    x_hat = next(white())[:, 1] * 2.0 - 1.0
    expected, found = sample_of(process, teacher.net, x_hat, 4), sample_of(process, task.net, x_hat, 1)
    torch.testing.assert_close(sample_of(process, teacher.net, x_hat, 1), x_hat, rtol=0.0, atol=2e-3)
    wanted = float((expected - x_hat).norm())
    assert wanted > 0.2 * RHO * x_hat.numel() ** 0.5
    assert float((found - expected).norm()) < 0.03 * wanted


def test_rounds_are_of_equal_length() -> None:
    settings = DistillSettings(32, 4)
    assert (settings.rounds, [settings.steps_in(number) for number in range(3)]) == (3, [16, 8, 4])
    for planned in (3, 9, 10, 3000):
        numbers = [settings.round_at(step / planned) for step in range(planned)]
        assert numbers == [step * 3 // planned for step in range(planned)]
    assert settings.round_at(1.0) == 2
    assert DistillSettings(2, 1).rounds == 1


def test_the_students_average_is_the_next_teacher() -> None:
    task = distill_task()
    for step in range(4):
        losses = losses_of(task, step, progress=0.1)
        assert float(losses["sampler_steps"]) == 4.0
        one_update(task, losses, step)
    assert task.state()["round"] == 0 and task.state()["teacher"] == {}
    averages = {name: value.clone() for name, value in task.averages()[0.05].items()}
    losses = losses_of(task, 4, progress=0.4)
    state = task.state()
    assert float(losses["sampler_steps"]) == 2.0 and state["round"] == 1
    assert state["teacher"].keys() == averages.keys()
    for name, value in averages.items():
        assert torch.equal(state["teacher"][name], value)
    one_update(task, losses, 4)
    assert all(torch.equal(task.state()["teacher"][name], value) for name, value in averages.items())


def losses_of(task: DistillTask, step: int, progress: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    batch = torch.rand(4, 2, 3, 32, 32, generator=generator)
    return task.losses(batch, progress=progress, randomness=randomness_at(step))


def test_known_pixels_reach_teacher_and_student() -> None:
    task = distill_task(neighbours_share=1.0)
    seen: list[Tensor] = []
    task.net.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[3]))
    task.teacher.net.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[3]))
    losses_of(task, 0, progress=0.0)
    batch = torch.rand(4, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = known_pixels(batch[:, 0] * 2.0 - 1.0, sample_masks(randomness_at(0), 32, 1.0))
    assert len(seen) == 3 and all(torch.equal(one, expected) for one in seen)


def test_too_few_steps_for_the_rounds_are_one_line() -> None:
    task = distill_task()
    expected = (
        "decoder.train.budget: got too few steps for 3 rounds of distillation. Give a longer budget, or a smaller "
        "decoder.distill.teacher_steps"
    )
    with pytest.raises(TrainingError) as caught:
        losses_of(task, 20, progress=0.7)  # the plan came late, and a round was left out
    assert str(caught.value) == expected
    with pytest.raises(TrainingError) as caught:
        task.require_last_round()
    assert str(caught.value) == expected
    for progress in (0.4, 0.7):
        losses_of(task, 20, progress=progress)
    task.require_last_round()


def test_held_out_losses_are_those_of_the_round() -> None:
    task = distill_task()
    x0, x_hat = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2.0 - 1.0
    first = task.held_out_loss(x0, x_hat, 4)
    assert torch.equal(task.held_out_loss(x0, x_hat, 4), first)
    one_update(task, losses_of(task, 0, progress=0.4))
    assert not torch.equal(task.held_out_loss(x0, x_hat, 4), first)


def test_a_loss_of_almost_nothing_is_no_measure_of_an_explosion() -> None:
    window = MetricWindow(Workers(), 0.0, 0)
    for loss in (1e-7, 0.09):
        window.add({"loss": torch.tensor(loss)}, torch.tensor(1.0))
        window.check(1, lambda: None)
        window.close(1, 1.0, 1)
    window.add({"loss": torch.tensor(0.11)}, torch.tensor(1.0))
    with pytest.raises(TrainingError, match="over 100 times the least"):
        window.check(1, lambda: None)
