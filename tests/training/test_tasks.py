"""The tasks: they learn, with the same losses as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hfd.autoencoder.make_tables import build_tables
from hfd.training.loop import to_images
from tests.support.tiny_training import (
    KINDS,
    MemoryLoader,
    Recording,
    autoencoder_task,
    decoder_task,
    differing,
    flat,
    one_update,
    randomness_at,
    run,
)

GOLDEN = {
    "autoencoder": [226.7793, 85.16989, 31.26014],
    "decoder": [0.7158198, 0.7025113, 0.5818185],
    "adversarial": [0.1995053, 0.1257994, 0.1229905],
    "perceptual": [0.1389734, 0.09929080, 0.06797244],
    "distilled": [1.970596, 0.06126167, 0.1501728],
}
"""Losses of steps 1, 10 and 20."""


@pytest.mark.parametrize("kind", list(KINDS))
def test_golden_losses(tmp_path: Path, kind: str) -> None:
    """Twenty steps from a fixed seed. To 0.1 %: another processor rounds otherwise, and rounding spreads."""
    task = Recording(KINDS[kind].make())
    run(task, KINDS[kind].loader(), tmp_path, steps=20)
    assert [task.seen[0], task.seen[9], task.seen[19]] == pytest.approx(GOLDEN[kind], rel=1e-3)


@pytest.mark.integration
@pytest.mark.parametrize(("kind", "steps"), [("autoencoder", 40), ("decoder", 150)])
def test_losses_fall_on_one_batch(tmp_path: Path, kind: str, steps: int) -> None:
    task = Recording(KINDS[kind].make(lr=5e-3))
    run(task, KINDS[kind].loader(num_samples=4), tmp_path, steps=steps)
    first, last = sum(task.seen[:10]), sum(task.seen[-10:])
    assert last < 0.5 * first


def one_step(task: Any, kind: str, *, progress: float = 0.0, step: int = 0) -> dict[str, float]:
    batch = to_images(next(KINDS[kind].loader().batches()), torch.device("cpu"))
    losses = task.losses(batch, progress=progress, randomness=randomness_at(step))
    norm = one_update(task, losses, step)
    return {**{name: float(value.detach()) for name, value in losses.items()}, "norm": float(norm)}


def test_autoencoder_loss_is_rate_and_distortion() -> None:
    values = one_step(autoencoder_task(), "autoencoder")
    assert values["loss"] == pytest.approx(0.01 * 255**2 * values["mse"] + values["bpp_est"], rel=1e-5)
    assert values["psnr"] == pytest.approx(-10 * torch.tensor(values["mse"]).log10().item(), rel=0.1)


def test_relaxed_share_of_the_training_has_another_lmbda() -> None:
    for progress, factor in ((0.0, 3.0), (0.24, 3.0), (0.25, 1.0), (0.9, 1.0)):
        task = autoencoder_task(relaxed_share=0.25, relaxed_factor=3.0)
        values = one_step(task, "autoencoder", progress=progress)
        expected = factor * 0.01 * 255**2 * values["mse"] + values["bpp_est"]
        assert values["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.integration
def test_auxiliary_optimiser_alone_moves_the_quantiles() -> None:
    still, moving = autoencoder_task(aux_lr=0.0), autoencoder_task(aux_lr=0.1)
    for task in (still, moving):
        one_step(task, "autoencoder")
    before, unmoved, moved = (
        task.model.entropy_bottleneck.quantiles.detach() for task in (autoencoder_task(), still, moving)
    )
    assert torch.equal(unmoved, before)
    assert float((moved - before).abs().max()) == pytest.approx(0.1, rel=0.01)
    # And nothing else: the bottleneck's densities learn from the rate.
    assert differing(still.state()["model"], moving.state()["model"]) == ["/entropy_bottleneck.quantiles"]


def test_auxiliary_loss_falls(tmp_path: Path) -> None:
    # An untrained density has tails hundreds wide, so the quantiles that enclose 1 - 1e-9 of it are far away.
    task = autoencoder_task(aux_lr=5.0)
    before = float(task.model.entropy_bottleneck.loss().detach())
    run(task, MemoryLoader(64), tmp_path, steps=25)
    assert float(task.model.entropy_bottleneck.loss().detach()) < 0.5 * before


def test_tables_can_be_made_of_a_trained_model(tmp_path: Path) -> None:
    task = autoencoder_task()
    run(task, MemoryLoader(64), tmp_path, steps=2)
    tables = build_tables(task.model)
    assert len(tables.z.lengths) == task.model.N
    # The quantiles have hardly moved in two steps; the tables hold nearly all of z's density all the same.
    assert int(tables.z.lengths.min()) > 100


@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_are_clipped_and_their_norm_is_notify(kind: str) -> None:
    task = KINDS[kind].make()
    first = task.model if kind == "autoencoder" else task.net
    norms: list[float] = []

    def norm_of_gradients(*_: Any) -> None:
        gradients = [value.grad for value in first.parameters() if value.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    task.optimiser.register_step_pre_hook(norm_of_gradients)
    values = one_step(task, kind, step=1)
    assert norms == pytest.approx([min(values["norm"], 1.0)], rel=1e-3)


@pytest.mark.parametrize("kind", list(KINDS))
def test_lr_factor_scales_the_step(kind: str) -> None:
    task = KINDS[kind].make()
    batch = to_images(next(KINDS[kind].loader().batches()), torch.device("cpu"))
    before = {name: leaf.clone() for name, leaf in flat(task.state()).items() if isinstance(leaf, torch.Tensor)}
    one_update(task, task.losses(batch, progress=0.0, randomness=randomness_at()), lr_factor=0.0)
    # (The context model's masked convolutions clear weights of theirs in the forward pass.)
    part = "/model/g_a" if kind == "autoencoder" else "/net/"
    after = flat(task.state())
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(part))


def test_decoder_noise_is_a_function_of_the_step_alone() -> None:
    first, again, other = (one_step(decoder_task(), "decoder", step=step)["loss"] for step in (0, 0, 1))
    assert first == again != other


def test_decoder_average_follows_the_weights(tmp_path: Path) -> None:
    task = decoder_task()
    run(task, MemoryLoader(32), tmp_path, steps=30)
    averages = task.averages()[0.05]
    weights = dict(task.net.named_parameters())
    assert averages.keys() == weights.keys()
    fresh = dict(decoder_task().net.named_parameters())
    for name in ("head.weight", "stem.weight"):
        lag = float((averages[name] - weights[name]).norm())
        way = float((weights[name] - fresh[name]).norm())
        assert 0.0 < lag < 0.5 * way


def test_decoder_learns_from_x_hat() -> None:
    """Swapping the pictures of a pair changes the loss: x is the target and x_hat the condition."""
    batch = to_images(next(MemoryLoader(32).batches()), torch.device("cpu"))
    losses = [
        float(decoder_task().losses(pictures, progress=0.0, randomness=randomness_at())["loss"])
        for pictures in (batch, batch.flip(1))
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


CROP = torch.linspace(-1.0, 1.0, 3 * 32 * 32).reshape(1, 3, 32, 32)


def test_the_held_out_loss_is_the_mean_over_the_same_times_and_noise() -> None:
    task, crop = decoder_task(), CROP
    losses = [float(task.held_out_loss(crop, -crop, 3)) for _ in range(2)]
    assert losses[0] == losses[1]
    generator = torch.Generator().manual_seed(0)
    t = task.process.times(3, generator)
    eps = torch.randn(3, 3, 32, 32, generator=generator)
    one_by_one = [task.errors(crop, -crop, eps[i : i + 1], t[i : i + 1]).item() for i in range(3)]
    assert losses[0] == pytest.approx(sum(one_by_one) / 3, rel=1e-5)
    assert not any(parameter.grad is not None for parameter in task.net.parameters())
