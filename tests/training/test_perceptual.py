"""Training by perceptual losses: their inputs, gradients of each network, parts of a batch, and resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hfd.diffusion.flow import PosteriorMeanFlow
from hfd.diffusion.lean import LeanNet
from hfd.errors import DataError, TrainingError
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights, write_weights
from hfd.perceptual.charbonnier import charbonnier
from hfd.perceptual.critic import critic_loss
from hfd.perceptual.lpips import Lpips
from hfd.perceptual.networks import FrozenFeatures
from hfd.perceptual.patch_critic import PatchCritic
from hfd.perceptual.style import style_distance
from hfd.perceptual.wasserstein import wasserstein_distortion
from hfd.perceptual.weights import read_frozen
from hfd.training.critic import CriticSettings
from hfd.training.critic_weights import critic_fingerprint
from hfd.training.loop import to_images
from hfd.training.moves import moved
from hfd.training.perceptual import PerceptualTask
from hfd.training.perceptual_losses import PerceptualSettings
from hfd.training.tasks import OptimiserSettings
from tests.support.errors import one_line
from tests.support.tiny_training import CPU, MemoryLoader, differing, one_update, randomness_at, run

CRITIC = CriticSettings(weight=0.01, label=0.8, lr=1e-3, widths=(8, 8))
HINGE = replace(CRITIC, loss="hinge", steps=2)
"""The sampler steps in every second step, from the one with number 1."""
PATCH = replace(CRITIC, kind="patch", channels=(8, 12, 12), label=1.0)


def a_task(critic: CriticSettings | None = None, critic_from: Folder | None = None, **weights: float) -> PerceptualTask:
    torch.manual_seed(0)
    net = LeanNet((8, 12), (1, 1), 8)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    settings = OptimiserSettings(lr=1e-3, weight_decay=0.0, grad_clip=1.0, precision="float32")
    perceptual = PerceptualSettings(1, **{"mse": 1.0, "lpips": 0.1, "wasserstein": 0.1, **weights}, critic=critic)
    process = PosteriorMeanFlow(sigma_s=0.2, residual_std=0.1)
    return PerceptualTask(net, process, settings, perceptual, sigma_rels=(0.1,), critic_from=critic_from)


def a_batch() -> Tensor:
    return to_images(next(MemoryLoader(48).batches()), CPU)


def losses_of(task: PerceptualTask, step: int = 0) -> dict[str, Tensor]:
    return task.losses(a_batch(), progress=0.0, randomness=randomness_at(step))


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    task = a_task(mse=0.5, lpips=0.25, wasserstein=2.0, charbonnier=3.0, style=0.125)
    found = {name: float(value.detach()) for name, value in losses_of(task).items()}
    x0, x_hat = (a_batch() * 2 - 1).unbind(1)
    with torch.no_grad():
        sample = task.sample(task.net, x_hat, [randomness_at().normal(x0.shape[1:], "eps 0", CPU)])
        sample, x0 = moved((sample, x0), randomness_at())
        vgg16 = read_frozen("vgg16")[0]
        assert found["mse"] == pytest.approx(float((sample - x0).square().mean()), rel=1e-5)
        assert found["lpips"] == pytest.approx(float(Lpips()(sample, x0).mean()), rel=1e-4)
        wanted = wasserstein_distortion(vgg16(sample), vgg16(x0)).mean()
        assert found["charbonnier"] == pytest.approx(float(charbonnier(sample, x0).mean()), rel=1e-5)
        assert found["style"] == pytest.approx(float(style_distance(vgg16(sample), vgg16(x0)).mean()), rel=1e-4)
    assert found["wasserstein"] == pytest.approx(float(wanted), rel=1e-4)
    total = 0.5 * found["mse"] + 0.25 * found["lpips"] + 2.0 * found["wasserstein"]
    total += 3.0 * found["charbonnier"] + 0.125 * found["style"]
    assert found["loss"] == pytest.approx(total, rel=1e-5)


def test_a_loss_without_weight_is_not_computed() -> None:
    assert set(losses_of(a_task(lpips=0.0, wasserstein=0.0))) == {"loss", "mse"}


def test_a_patch_critic_needs_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """It judges the sample and the picture themselves, beside x_hat."""
    task = a_task(PATCH, lpips=0.0, wasserstein=0.0)
    monkeypatch.setattr(FrozenFeatures, "forward", lambda *_: pytest.fail("features are computed"))
    losses = losses_of(task)
    x0, x_hat = (a_batch() * 2 - 1).unbind(1)
    assert isinstance(task.critic, PatchCritic)
    with torch.no_grad():
        sample = task.sample(task.net, x_hat, [randomness_at().normal(x0.shape[1:], "eps 0", CPU)])
        sample, x0, x_hat = moved((sample, x0, x_hat), randomness_at())
        task.critic.eval()
        expected = critic_loss(task.critic(x0, x_hat), task.critic(sample, x_hat), 1.0)
    assert float(losses["critic"].detach()) == pytest.approx(float(expected), rel=0.02)  # two power iterations apart


@pytest.mark.parametrize("settings", [CRITIC, HINGE, PATCH])
def test_each_network_learns_from_its_own_loss_alone(settings: CriticSettings) -> None:
    task = a_task(settings)
    assert task.critic is not None
    losses = losses_of(task, step=1)
    sampler, critic = list(task.net.parameters()), list(task.critic.parameters())
    expected = torch.autograd.grad(losses["loss"], sampler, retain_graph=True, allow_unused=True)
    opinions = torch.autograd.grad(losses["critic"], critic, retain_graph=True)
    task.backward(losses, weight=1.0)
    for parameter, gradient in zip([*sampler, *critic], [*expected, *opinions], strict=True):
        assert (gradient is None) == (parameter.grad is None)
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("critic", [None, CRITIC, HINGE, PATCH])
def test_a_batch_in_parts_gives_the_same_gradients(critic: CriticSettings | None) -> None:
    whole, parts = a_task(critic), a_task(critic)
    batch, randomness = a_batch(), randomness_at(3)
    whole.backward(whole.losses(batch, progress=0.0, randomness=randomness), weight=1.0)
    half = len(batch) // 2
    for begin, end in ((0, half), (half, len(batch))):
        losses = parts.losses(batch[begin:end], progress=0.0, randomness=randomness.part(begin, end))
        parts.backward(losses, weight=(end - begin) / len(batch))
    for one, other in zip(whole.net.parameters(), parts.net.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("critic", [None, CRITIC, HINGE, PATCH])
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(critic: CriticSettings | None) -> None:
    straight, first, second = a_task(critic), a_task(critic), a_task(critic)
    for step in range(3):
        one_update(straight, losses_of(straight, step), step)
    one_update(first, losses_of(first, 0), 0)
    second.load_state(first.state())
    for step in (1, 2):
        one_update(second, losses_of(second, step), step)
    assert differing(straight.state(), second.state()) == []


def test_the_critic_steps_alone_in_all_but_the_samplers_turns() -> None:
    task = a_task(replace(HINGE, steps=3))
    assert task.critic is not None
    for step in range(6):
        before = [value.detach().clone() for value in (*task.net.parameters(), *task.critic.parameters())]
        norm = one_update(task, losses_of(task, step), step)
        after = [*task.net.parameters(), *task.critic.parameters()]
        moved = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        sampler = len(list(task.net.parameters()))
        assert any(moved[:sampler]) is (step in (2, 5)) and all(moved[sampler:])
        assert (float(norm) > 0.0) is (step >= 2)


def test_a_hinge_critics_pull_is_in_the_gradient_and_not_in_the_value() -> None:
    """A loss below zero, or across it, would be taken for an explosion."""
    task = a_task(replace(HINGE, weight=100.0), lpips=0.0, wasserstein=0.0)
    losses = losses_of(task, step=1)
    assert float(losses["loss"].detach()) == pytest.approx(float(losses["mse"].detach()), rel=1e-6)
    parameters = [task.net.last.weight]
    total, plain, pull = (
        torch.autograd.grad(losses[name], parameters, retain_graph=True)[0] for name in ("loss", "mse", "adversarial")
    )
    torch.testing.assert_close(total, plain + 100.0 * pull, rtol=1e-3, atol=1e-6)
    assert float(pull.norm()) > 0.0


def test_it_learns() -> None:
    task = a_task(lpips=0.0, wasserstein=0.0)
    first = float(losses_of(task)["loss"].detach())
    for _ in range(30):
        one_update(task, losses_of(task))
    assert float(losses_of(task)["loss"].detach()) < 0.9 * first


@pytest.mark.parametrize(
    ("critic", "least", "healthy", "wrong"),
    [
        (CRITIC, 0.5004, (0.66, 1.3, 4.0), (0.55, 4.3)),
        (replace(CRITIC, label=1.0), 0.0, (0.2, 1.3), (0.1,)),
        (HINGE, 0.0, (0.2, 1.9, 5.0), (0.1, 6.1)),
    ],
)
def test_a_diverged_critic_is_reported(
    critic: CriticSettings, least: float, healthy: tuple[float, ...], wrong: tuple[float, ...]
) -> None:
    task = a_task(critic)
    assert critic.loss_range.least == pytest.approx(least, abs=1e-4) and a_task().problem({"loss": 1.0}) is None
    assert [task.problem({"critic": value}) for value in healthy] == [None] * len(healthy)
    for value in (*wrong, float("nan")):
        told: Any = task.problem({"critic": value})
        assert told.startswith(f"critic: got a mean loss of {value:.3g}, expected ")
        assert "it has diverged. Try a smaller perceptual.critic.lr" in told


def test_a_critic_that_is_sure_and_wrong_stops_the_training(tmp_path: Path) -> None:
    task = a_task(HINGE, lpips=0.0)
    assert task.critic is not None
    run(task, MemoryLoader(48), tmp_path / "calm", steps=4, log_every_steps=2)
    with torch.no_grad():
        for head in task.critic.heads:
            head[-1].bias.add_(50.0)  # every sample looks real
    with pytest.raises(TrainingError, match=r"^critic: got a mean loss of 5\d\S*, .*\(up to step 2; last good: no"):
        run(task, MemoryLoader(48), tmp_path / "wrong", steps=4, log_every_steps=2)


def test_held_out_losses_do_not_change() -> None:
    task = a_task(CRITIC)
    x0, x_hat = (a_batch()[:1] * 2 - 1).unbind(1)
    assert torch.equal(task.held_out_loss(x0, x_hat, 2), task.held_out_loss(x0, x_hat, 2))


@pytest.mark.parametrize("critic", [CRITIC, PATCH])
def test_a_stored_critic_answers_as_it_did(tmp_path: Path, critic: CriticSettings) -> None:
    trained = a_task(critic)
    for step in range(3):
        one_update(trained, losses_of(trained, step), step)
    folder = Folder(str(tmp_path))
    trained.write_critic(folder)
    assert critic_fingerprint(folder, critic) is not None
    later, scratch = a_task(critic, critic_from=folder), a_task(critic)
    stored, found = trained.critic.state_dict(), later.critic.state_dict()
    assert stored.keys() == found.keys() and all(torch.equal(stored[name], found[name]) for name in stored)
    assert not all(torch.equal(stored[name], value) for name, value in scratch.critic.state_dict().items())


@pytest.mark.parametrize("other", [CRITIC, replace(PATCH, channels=(8, 12, 16)), replace(PATCH, weight=0.5)])
def test_a_critic_of_another_network_is_not_taken(tmp_path: Path, other: CriticSettings) -> None:
    folder = Folder(str(tmp_path))
    a_task(PATCH).write_critic(folder)
    assert (critic_fingerprint(folder, other) is None) == (other.channels != PATCH.channels or other.kind != "patch")


def test_a_damaged_critic_is_named(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    a_task(PATCH).write_critic(folder)
    tensors, config, _ = read_weights(folder / "critic")
    tensors.pop("layers.0.bias")
    write_weights(folder / "critic", tensors, {key: value for key, value in config.items() if key != "format"})
    with pytest.raises(DataError, match=r"critic: weights do not fit the critic: .*layers\.0\.bias") as error:
        a_task(PATCH, critic_from=folder)
    one_line(error)
