"""The adversarial fine-tuning: gradients of both networks, samples, and restored texture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hfd.diffusion import decoder as decoder_module
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.flow import PosteriorMeanFlow
from hfd.diffusion.neighbours import known_pixels
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion
from hfd.metrics.spectrum import top_octave_energy
from hfd.training.adversarial import AdversarialTask
from hfd.training.loop import to_images
from hfd.training.tasks import sample_masks
from tests.support.networks import lively_unet
from tests.support.tiny_training import BATCH, CPU, MemoryLoader, adversarial_task, one_update, randomness_at

PROCESSES = {"flow": PosteriorMeanFlow(sigma_s=0.2), "diffusion": Diffusion(CosineSchedule(0.5), predict="x0")}


def lively(task: AdversarialTask) -> AdversarialTask:
    """With a sampler whose output is not zero, as that of untrained ones is."""
    task.net.load_state_dict(lively_unet(2, (24, 24), (1, 1)).state_dict())
    return task


def a_batch() -> Tensor:
    return to_images(next(MemoryLoader(32).batches()), CPU)


def losses_of(task: AdversarialTask, step: int = 0, batch: Tensor | None = None) -> dict[str, Tensor]:
    return task.losses(a_batch() if batch is None else batch, progress=0.0, randomness=randomness_at(step))


def taught(task: AdversarialTask) -> dict[str, list[Tensor]]:
    """The gradients with which each optimiser steps in one update."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(optimiser: torch.optim.Optimizer, *_: Any) -> None:
            seen[name] = [value.grad.clone() for value in optimiser.param_groups[0]["params"]]

        return hook

    task.optimiser.register_step_pre_hook(keep("sampler"))
    task.critic_optimiser.register_step_pre_hook(keep("discriminator"))
    one_update(task, losses_of(task))
    return seen


def clipped(gradients: Sequence[Tensor]) -> list[Tensor]:
    norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    return [gradient / max(1.0, norm) for gradient in gradients]


def test_each_network_learns_from_its_own_loss_alone() -> None:
    task = lively(adversarial_task())
    losses = losses_of(task)
    alone = {
        "sampler": torch.autograd.grad(losses["loss"], list(task.net.parameters()), retain_graph=True),
        "discriminator": torch.autograd.grad(losses["discriminator"], list(task.discriminator.parameters())),
    }
    for name, gradients in taught(lively(adversarial_task())).items():
        for got, expected in zip(gradients, clipped(alone[name]), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)
        assert sum(float(gradient.norm()) for gradient in gradients) > 0.1


def test_the_adversarial_loss_reaches_the_sampler() -> None:
    """Through the discriminator to the samples: with the squared error taken away something is left."""
    task = lively(adversarial_task())
    gradients = torch.autograd.grad(losses_of(task)["adversarial"], list(task.net.parameters()))
    assert all(bool(gradient.any()) for gradient in gradients)


def test_an_update_moves_both_and_leaves_no_gradient() -> None:
    task = lively(adversarial_task())
    before = {name: value.clone() for name, value in weights_of(task).items()}
    norm = one_update(task, losses_of(task))
    assert float(norm) > 0.0
    assert [name for name, value in weights_of(task).items() if torch.equal(value, before[name])] == []
    assert all(value.grad is None for value in weights_of(task).values())


def weights_of(task: AdversarialTask) -> dict[str, nn.Parameter]:
    """Without the biases of the discriminator's heads: the loss is of differences, which they leave as they are."""
    critic = {f"critic.{name}": value for name, value in task.discriminator.named_parameters()}
    own = {name: value for name, value in critic.items() if not ("heads" in name and name.endswith("bias"))}
    return {**dict(task.net.named_parameters()), **own}


def test_the_loss_is_squared_error_and_weighted_adversarial_loss() -> None:
    task = lively(adversarial_task(weight=0.25))
    x0, x_hat = (a_batch() * 2 - 1).unbind(1)
    with torch.no_grad():
        sample = task.sample(x0, x_hat, randomness_at())
    losses = {name: float(value.detach()) for name, value in losses_of(task).items()}
    assert losses["mse"] == pytest.approx(float((sample - x0).square().mean()), rel=1e-6)
    assert losses["loss"] == pytest.approx(losses["mse"] + 0.25 * losses["adversarial"], rel=1e-6)


def test_the_discriminators_loss_includes_the_noise_penalty() -> None:
    """The penalty enters its loss with its weight, and the sampler's not at all."""
    losses = {
        weight: {name: float(value.detach()) for name, value in losses_of(lively(task)).items()}
        for weight, task in ((weight, adversarial_task(penalty=weight)) for weight in (0.0, 3.0))
    }
    free, paid = losses[0.0], losses[3.0]
    assert paid["penalty"] == free["penalty"] > 0.0
    assert paid["discriminator"] == pytest.approx(free["discriminator"] + 3.0 * free["penalty"], rel=1e-6)
    assert paid["loss"] == free["loss"]


@pytest.mark.parametrize("kind", list(PROCESSES))
@pytest.mark.parametrize("steps", [1, 3])
def test_training_samples_equal_those_of_the_decoder(kind: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder, given the same noise, samples the same. It also clamps each answer, so these are kept small."""
    process = PROCESSES[kind]
    task = lively(adversarial_task(steps=steps, process=process, neighbours_share=0.0))
    x0, x_hat = (0.5 * a_batch()).unbind(1)
    with torch.no_grad():
        task.net.head.weight.mul_(0.1)
        trained = task.sample(x0, x_hat, randomness_at())
    assert 0.05 < float(trained.abs().max()) < 1.0
    drawn = [randomness_at().normal(x0.shape[1:], f"eps {step}", CPU) for step in range(steps)]
    monkeypatch.setattr(decoder_module, "noise_in", lambda *_: drawn.__getitem__)
    decoder = ScoreDecoder(task.net.eval(), process, {}, "")
    sampled = decoder.sample((x_hat + 1) / 2, Sampling(steps=steps), seeds=range(BATCH), precision="float32")
    torch.testing.assert_close(sampled, (trained + 1) / 2, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_every_step_of_the_sampler_is_differentiated(steps: int) -> None:
    task = lively(adversarial_task(steps=steps))
    answers: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, answer: Tensor) -> None:
        answer.retain_grad()
        answers.append(answer)

    task.net.register_forward_hook(keep)
    losses_of(task)["loss"].backward()
    assert len(answers) == steps
    assert all(float(answer.grad.norm()) > 0.0 for answer in answers)


@pytest.mark.parametrize("kind", list(PROCESSES))
def test_gradients_are_derivatives_through_the_whole_sampler(kind: str) -> None:
    """Along one direction of all weights, through three steps, against a central difference."""
    task = lively(adversarial_task(steps=3, process=PROCESSES[kind]))
    weights, (x0, x_hat) = list(task.net.parameters()), (a_batch() * 2 - 1).unbind(1)
    torch.manual_seed(5)
    direction = [torch.randn(weight.shape) * weight.detach().std() for weight in weights]

    def energy(shift: float) -> Tensor:
        with torch.no_grad():
            for weight, way in zip(weights, direction, strict=True):
                weight.add_(way, alpha=shift)
        return task.sample(x0, x_hat, randomness_at()).square().mean()

    gradients = torch.autograd.grad(energy(0.0), weights)
    slope = sum(float((gradient * way).sum()) for gradient, way in zip(gradients, direction, strict=True))
    above, below = float(energy(1e-3).detach()), float(energy(-2e-3).detach())
    assert abs(slope) > 0.01
    assert (above - below) / 2e-3 == pytest.approx(slope, rel=0.02)


def test_noise_is_a_function_of_the_step_alone() -> None:
    first, again, other = (float(losses_of(adversarial_task(), step)["mse"].detach()) for step in (0, 0, 1))
    assert first == again != other


def test_a_diverged_discriminator_is_reported() -> None:
    """By its loss without the penalty; 0.693 is that of one that cannot tell."""
    task = adversarial_task(penalty=2.0)
    for healthy in (0.693, 0.11, 2.0):
        assert task.problem({"discriminator": healthy + 2.0 * 0.3, "penalty": 0.3}) is None
    for wrong in (0.09, 2.1, float("nan")):
        told = task.problem({"discriminator": wrong + 2.0 * 0.3, "penalty": 0.3})
        assert told == (
            f"discriminator: got a mean loss of {wrong:.3g}, expected 0.10 to about 0.69: it has diverged. Try a "
            "smaller adversarial.discriminator_lr or adversarial.weight, or a larger adversarial.penalty"
        )


def test_some_samples_have_known_pixels() -> None:
    task = adversarial_task(neighbours_share=1.0)
    seen: list[Tensor] = []
    task.net.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[3]))
    x0, x_hat = (a_batch() * 2 - 1).unbind(1)
    task.sample(x0, x_hat, randomness_at())
    masks = sample_masks(randomness_at(), 32, 1.0)
    assert bool(masks.any()) and torch.equal(seen[0], known_pixels(x0, masks))


@dataclass(frozen=True)
class Texture:
    """White texture of 30 grey levels, and its means over 4 x 4 px: what is lost cannot be guessed."""

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        while True:
            yield np.stack([self._sample(sample) for sample in range(start, start + BATCH)])
            start += BATCH

    def _sample(self, sample: int) -> np.ndarray:
        x = 128 + 30 * np.random.default_rng(sample).standard_normal((32, 32, 1)).repeat(3, axis=2)
        means = x.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).repeat(4, axis=0).repeat(4, axis=1)
        return np.stack([x, means]).clip(0, 255).astype(np.uint8)


def trained_on_texture(weight: float, steps: int = 160) -> tuple[float, float]:
    """Top-octave energy of held-out samples over the originals', and their squared error in [-1, 1]."""
    task = adversarial_task(weight=weight, neighbours_share=0.0)
    for step, batch in zip(range(steps), Texture().batches(), strict=False):
        one_update(task, losses_of(task, step, to_images(batch, CPU)), step)
    held_out = to_images(next(Texture().batches(10**6)), CPU)
    x0, x_hat = (held_out * 2 - 1).unbind(1)
    with torch.no_grad():
        sample = task.sample(x0, x_hat, randomness_at(steps))
    energies = [top_octave_energy(*(grey_levels(picture[index]) for picture in (x0, sample))) for index in range(BATCH)]
    return float(np.mean(energies)), float((sample - x0).square().mean())


def grey_levels(x: Tensor) -> np.ndarray:
    return ((x + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


@pytest.mark.slow
def test_it_brings_back_the_texture_that_the_squared_error_blurs() -> None:
    (blurred, least), (sharp, error) = trained_on_texture(0.0), trained_on_texture(0.05)
    assert blurred < 0.25
    assert abs(1 - sharp) < 0.7 * abs(1 - blurred)
    assert least < error
