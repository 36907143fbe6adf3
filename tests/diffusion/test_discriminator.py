"""The discriminator: its inputs, its slope, and the two adversarial losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from hfd.diffusion.discriminator import Discriminator, change, discriminator_loss, generator_loss

RESIDUAL_STD = 0.25


def made(*channels: int, seed: int = 0) -> Discriminator:
    torch.manual_seed(seed)
    return Discriminator(channels or (8, 8, 8), residual_std=RESIDUAL_STD)


def pictures(batch: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    drawn = torch.rand(2, batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return drawn[0], drawn[1]


@pytest.mark.parametrize("channels", [(8, 16), (8, 8, 8), (8, 16, 24, 8)])
def test_one_map_of_logits_per_level(channels: tuple[int, ...]) -> None:
    discriminator = made(*channels)
    assert discriminator.stride == 2 ** len(channels)
    height, width = 2 * discriminator.stride, 3 * discriminator.stride
    maps = discriminator(*pictures(2, height, width))
    sides = [(height // 2**i, width // 2**i) for i in range(2, len(channels) + 1)]
    assert [logits.shape for logits in maps] == [(2, 1, *side) for side in sides]
    with pytest.raises(RuntimeError):
        discriminator(*pictures(1, height + 1, width))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_logit_depends_on_its_neighbourhood_only(level: int) -> None:
    """Its own cell of c = 4, 8, 16 px and 2c - 2 px around it, in both pictures, of its own sample."""
    picture, x_hat = (value.requires_grad_() for value in pictures(2, 96, 96))
    logits = made(8, 8, 8, 8)(picture, x_hat)[level]
    cell, middle = 4 * 2**level, logits.shape[-1] // 2
    logits[1, 0, middle, middle].backward()
    first, last = middle * cell - (2 * cell - 2), (middle + 1) * cell - 1 + (2 * cell - 2)
    for seen in (picture.grad, x_hat.grad):
        assert not bool(seen[0].any())
        for axis in (1, 2):
            touched = seen[1].abs().amax(dim=(0, axis)).nonzero().flatten()
            assert (int(touched.min()), int(touched.max())) == (first, last)


def matrices(discriminator: Discriminator) -> dict[str, Tensor]:
    """The weight of every layer as it is used, (outputs, inputs x taps)."""
    layers = {name: layer for name, layer in discriminator.named_modules() if isinstance(layer, nn.Conv2d)}
    return {name: layer.weight.detach().flatten(1) for name, layer in layers.items()}


def test_the_spectral_norm_of_every_layer_is_one() -> None:
    discriminator = made(8, 16, 24)
    with torch.no_grad():
        for layer in discriminator.modules():
            if isinstance(layer, nn.Conv2d):  # as far from normalised as a bad step would leave them
                layer.parametrizations.weight.original.mul_(7.0).add_(torch.randn(layer.weight.shape))
        for _ in range(100):
            discriminator(*pictures(1, 8, 8))
    discriminator.eval()
    largest = {name: float(torch.linalg.matrix_norm(matrix, ord=2)) for name, matrix in matrices(discriminator).items()}
    assert list(largest) == ["stem", "shrink.0", "shrink.1", "body.0", "body.1", "heads.0", "heads.1"]
    assert largest == pytest.approx(dict.fromkeys(largest, 1.0), abs=0.01)


def test_an_evaluation_leaves_the_power_iteration_where_it_was() -> None:
    discriminator = made()
    with torch.no_grad():
        discriminator.stem.parametrizations.weight.original.add_(torch.randn(8, 16, 3, 3))
    before = discriminator.stem.parametrizations.weight[0]._u.clone()
    discriminator.eval()(*pictures(1, 16, 16))
    assert torch.equal(discriminator.stem.parametrizations.weight[0]._u, before)
    discriminator.train()(*pictures(1, 16, 16))
    assert not torch.equal(discriminator.stem.parametrizations.weight[0]._u, before)


def test_its_input_is_the_residual_in_units_of_its_deviation() -> None:
    """Half of the residual, at half of its standard deviation, with the same x_hat: the same logits."""
    whole, half = made(), made()
    half.residual_std = RESIDUAL_STD / 2
    picture, x_hat = pictures(2, 16, 16)
    for one, other in zip(whole(picture, x_hat), half((picture + x_hat) / 2, x_hat), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_it_ignores_colours_of_the_residual() -> None:
    picture, x_hat = pictures(2, 16, 16)
    tint = torch.tensor([1.0, -0.299 / 0.587, 0.0]).reshape(1, 3, 1, 1) * torch.randn(2, 1, 16, 16)
    for one, other in zip(made()(picture, x_hat), made()(picture + tint, x_hat), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1])
@torch.no_grad()
def test_logits_move_no_faster_than_their_bound(level: int) -> None:
    """A 3x3 convolution sees each value 9 times, so its slope is at most 3 norms; the others see it once. What the
    picture adds to x_hat goes in scaled."""
    discriminator = made().eval()
    for layer in discriminator.modules():
        if isinstance(layer, nn.Conv2d):
            layer.parametrizations.weight.original.mul_(50.0)
    bound = 3.0 * 3.0 ** (level + 1) * 1.05 / RESIDUAL_STD
    for scale in (1e-3, 1e-1, 1.0):
        (picture, x_hat), (other, _) = pictures(1, 32, 32), pictures(1, 32, 32, seed=1)
        moved = picture + scale * other
        before, after = (discriminator(one, x_hat)[level] for one in (picture, moved))
        assert 0.0 < float((after - before).norm()) <= bound * float((moved - picture).norm())


def test_losses_of_constant_maps() -> None:
    """Every level has the same weight, for any number of logits."""
    real, sampled = (0.3, -1.2, 4.0), (1.0, -2.0, 4.0)
    maps = [
        [torch.full((2, 1, 8 // 2**i, 8 // 2**i), value) for i, value in enumerate(values)]
        for values in (real, sampled)
    ]
    gaps = [s - r for r, s in zip(real, sampled, strict=True)]
    expected = sum(math.log1p(math.exp(gap)) for gap in gaps) / 3
    assert float(discriminator_loss(*maps)) == pytest.approx(expected, rel=1e-6)
    expected = sum(math.log1p(math.exp(-gap)) for gap in gaps) / 3
    assert float(generator_loss(*maps)) == pytest.approx(expected, rel=1e-6)


def logit_maps(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [(3 * torch.randn(2, 1, side, side, generator=generator)).requires_grad_() for side in (4, 2)]


def test_the_roles_are_exchanged() -> None:
    real, sampled = logit_maps(0), logit_maps(1)
    assert torch.equal(generator_loss(real, sampled), discriminator_loss(sampled, real))
    # softplus(d) - softplus(-d) = d, the difference of the two losses.
    gap = torch.stack([(s - r).mean() for r, s in zip(real, sampled, strict=True)]).mean()
    torch.testing.assert_close(discriminator_loss(real, sampled) - generator_loss(real, sampled), gap)


def test_a_drift_of_all_logits_changes_nothing() -> None:
    real, sampled = logit_maps(0), logit_maps(1)
    drifted = ([logits + 5.0 for logits in maps] for maps in (real, sampled))
    torch.testing.assert_close(discriminator_loss(*drifted), discriminator_loss(real, sampled))


def test_the_generators_loss_moves_samples_alone_and_upwards() -> None:
    """d/ds softplus(r - s) = -sigmoid(r - s), over the number of logits and levels."""
    real, sampled = logit_maps(0), logit_maps(1)
    generator_loss(real, sampled).backward()
    assert all(logits.grad is None for logits in real)
    for r, s in zip(real, sampled, strict=True):
        torch.testing.assert_close(s.grad, -torch.sigmoid(r - s) / s.numel() / 2)


def test_the_discriminators_loss_moves_both_apart() -> None:
    real, sampled = logit_maps(0), logit_maps(1)
    discriminator_loss(real, sampled).backward()
    for r, s in zip(real, sampled, strict=True):
        torch.testing.assert_close(s.grad, torch.sigmoid(s - r) / s.numel() / 2)
        torch.testing.assert_close(r.grad, -s.grad)


def test_losses_are_float32_and_require_as_many_levels() -> None:
    real, sampled = ([logits.bfloat16() for logits in logit_maps(seed)] for seed in (0, 1))
    loss = discriminator_loss(real, sampled)
    assert loss.dtype == torch.float32
    expected = discriminator_loss([r.float() for r in real], [s.float() for s in sampled])
    assert torch.equal(loss, expected)
    with pytest.raises(ValueError, match="shorter"):
        discriminator_loss(real, sampled[:1])


def test_the_change_under_noise_is_the_squared_slope() -> None:
    """For a linear output w . x under noise of standard deviation s: s^2 |w|^2 in expectation, on every level."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 4000, 5, generator=generator)
    w = [torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]), torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])]
    found = change([x @ one for one in w], [(x + 0.1 * noise) @ one for one in w])
    assert float(found) == pytest.approx(0.01 * (14.25 + 1.0) / 2, rel=0.05)
    assert float(change([x], [x])) == 0.0
