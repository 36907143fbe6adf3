"""The perceptual losses and those of critics, each against its formula written another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hfd.image.load import load_rgb
from hfd.perceptual.charbonnier import charbonnier
from hfd.perceptual.critic import FeatureCritic, adversarial_loss, critic_loss, hinge_adversarial_loss, hinge_loss
from hfd.perceptual.patch_critic import PatchCritic
from hfd.perceptual.style import gram, style_distance
from hfd.perceptual.wasserstein import ENERGIES, WINDOWS, cell_means, map_energies, wasserstein_distortion
from hfd.perceptual.weights import read_frozen
from pipelines.corpus.listing import list_corpus


def maps(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 32, 48, generator=generator), torch.rand(2, 5, 16, 24, generator=generator)]


def by_loops(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> np.ndarray:
    """Window by window, with NumPy's own statistics."""
    terms = []
    for one, other, sides, energy in zip(found, wanted, WINDOWS, ENERGIES, strict=True):
        f, g = one.double().numpy(), other.double().numpy()
        for side in sides:
            values = []
            for top in range(0, f.shape[2] - side + 1, side // 2):
                for left in range(0, f.shape[3] - side + 1, side // 2):
                    a, b = (x[:, :, top : top + side, left : left + side] for x in (f, g))
                    mean = (a.mean(axis=(2, 3)) - b.mean(axis=(2, 3))) ** 2
                    std = (np.sqrt(a.var(axis=(2, 3)) + 1e-6) - np.sqrt(b.var(axis=(2, 3)) + 1e-6)) ** 2
                    values.append((mean + std) / energy)
            terms.append(np.mean(values, axis=(0, 2)))
    return np.mean(terms, axis=0)


def test_the_distortion_is_its_formula() -> None:
    found, wanted = maps(0), maps(1)
    np.testing.assert_allclose(wasserstein_distortion(found, wanted).numpy(), by_loops(found, wanted), rtol=1e-4)


def test_energies_are_those_of_photographs() -> None:
    """Of softer pictures than those that the two digits were measured on: of both taps less, in the same ratio."""
    pictures = [
        load_rgb(photo.folder.read(photo.name))
        for photo in list_corpus("builtin:photographs", setting="data.uri").photos
    ]
    crops = [torch.tensor(picture[:256, :256]).permute(2, 0, 1) / 127.5 - 1.0 for picture in pictures]
    with torch.no_grad():
        found = map_energies(read_frozen("vgg16")[0](torch.stack(crops)))
    np.testing.assert_allclose(found, ENERGIES, rtol=0.5)
    assert found[1] / found[0] == pytest.approx(ENERGIES[1] / ENERGIES[0], rel=0.1)


def test_a_channel_that_is_silent_in_the_picture_weighs_no_more_than_others() -> None:
    wanted = maps(0)
    wanted[0][:, 0] = 0.0
    costs = []
    for channel in (0, 1):
        found = [h.clone() for h in wanted]
        found[0][:, channel] += 0.1
        costs.append(float(wasserstein_distortion(found, wanted).sum()))
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)


def plain(h: torch.Tensor, cell: int) -> tuple[torch.Tensor, torch.Tensor]:
    return F.avg_pool2d(h.float(), cell), F.avg_pool2d(h.float().square(), cell)


@pytest.mark.parametrize("side", [16, 19])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_means_of_cells_and_their_gradients_are_those_of_pooling(
    side: int, dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, side, 21, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    found, wanted = values.clone().requires_grad_(), values.clone().requires_grad_()
    for h, means in ((found, cell_means(found, 4)), (wanted, plain(wanted, 4))):
        torch.testing.assert_close(means, plain(h, 4), rtol=0, atol=0)
        sum((mean.sin() * (1 + k)).sum() for k, mean in enumerate(means)).backward()
    assert found.grad is not None and found.grad.dtype == dtype
    assert found.grad.abs().max() > 0.05
    torch.testing.assert_close(found.grad, wanted.grad, rtol=tolerance, atol=tolerance / 10)


def test_moving_texture_costs_little_and_blur_much() -> None:
    """Noise in place of other noise of the same kind keeps its local statistics; a flat map does not."""
    generator = torch.Generator().manual_seed(0)
    wanted, other = ([torch.rand(1, 4, 64, 64, generator=generator)] * 2 for _ in range(2))
    flat = [torch.full((1, 4, 64, 64), 0.5)] * 2
    assert float(wasserstein_distortion(wanted, wanted)) == 0.0
    assert 10 * float(wasserstein_distortion(other, wanted)) < float(wasserstein_distortion(flat, wanted))


def test_flat_maps_have_a_finite_gradient() -> None:
    flat = torch.zeros(1, 3, 16, 16, requires_grad=True)
    wasserstein_distortion([flat], [torch.rand(1, 3, 16, 16)], [(4, 8)], [1.0]).sum().backward()
    assert bool(flat.grad.isfinite().all())


@pytest.mark.parametrize("label", [0.8, 1.0])
def test_the_critics_losses_are_cross_entropies(label: float) -> None:
    generator = torch.Generator().manual_seed(3)
    real, sampled = ([torch.randn(2, 1, side, side, generator=generator) for side in (8, 4)] for _ in range(2))
    expected = torch.stack(
        [
            F.binary_cross_entropy_with_logits(r, torch.full_like(r, label))
            + F.binary_cross_entropy_with_logits(s, torch.zeros_like(s))
            for r, s in zip(real, sampled, strict=True)
        ]
    ).mean()
    torch.testing.assert_close(critic_loss(real, sampled, label), expected)
    wish = torch.stack([F.binary_cross_entropy_with_logits(s, torch.ones_like(s)) for s in sampled]).mean()
    torch.testing.assert_close(adversarial_loss(sampled), wish)
    nothing = [torch.zeros(1, 1, 2, 2)]
    assert float(critic_loss(nothing, nothing, label)) == pytest.approx(2 * math.log(2))


def test_the_hinge_losses_by_hand() -> None:
    """Margins that hold cost nothing and teach nothing: of real logits from 1 up, of samples' from -1 down."""
    real = [torch.tensor([-1.0, 0.0, 1.0, 3.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)]
    sampled = [torch.tensor([-4.0, -1.0, 0.0, 2.0], requires_grad=True), torch.tensor([-0.5], requires_grad=True)]
    loss = hinge_loss(real, sampled)
    assert float(loss.detach()) == pytest.approx((((2 + 1) / 4 + (1 + 3) / 4) + (0.5 + 0.5)) / 2)
    loss.backward()
    assert [value.grad.tolist() for value in real] == [[-0.125, -0.125, 0.0, 0.0], [-0.5]]
    assert [value.grad.tolist() for value in sampled] == [[0.0, 0.0, 0.125, 0.125], [0.5]]
    assert float(hinge_loss([torch.zeros(3)], [torch.zeros(3)])) == 2.0
    assert float(hinge_adversarial_loss(sampled).detach()) == pytest.approx(-(-3.0 / 4 - 0.5) / 2)


def test_the_critic_gets_features_at_one_scale() -> None:
    """A brighter lamp on both pictures changes nothing; a difference between them does."""
    torch.manual_seed(0)
    critic = FeatureCritic((3, 5), (8, 8)).eval()
    picture, x_hat = maps(0), maps(1)
    logits = critic(picture, x_hat)
    assert [tuple(one.shape) for one in logits] == [(2, 1, 32, 48), (2, 1, 16, 24)]
    scaled = critic([30 * one for one in picture], [30 * one for one in x_hat])
    for one, other in zip(logits, scaled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)
    assert float((critic(x_hat, x_hat)[0] - logits[0]).detach().abs().max()) > 0.01


def test_charbonnier_is_its_formula() -> None:
    a, b = (torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    errors = (a - b).double().numpy()
    expected = np.sqrt(errors**2 + 1e-6).mean(axis=(1, 2, 3)) - 1e-3
    np.testing.assert_allclose(charbonnier(a, b).numpy(), expected, rtol=1e-5)


def test_charbonnier_is_an_absolute_error_and_a_square_near_zero() -> None:
    a, b = torch.zeros(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 3, 2, 2)
    assert float(charbonnier(a + 1.0, b).detach()) == pytest.approx(1.0, abs=1e-3)
    assert float(charbonnier(a + 1e-5, b).detach()) == pytest.approx(1e-10 / 2e-3, rel=1e-2)
    charbonnier(a, b).sum().backward()
    assert a.grad is not None and float(a.grad.abs().max()) == 0.0  # an absolute error has no gradient here


def test_style_is_its_formula() -> None:
    """Channel by channel, in float64."""
    found, wanted = maps(0), maps(1)
    terms = []
    for one, other in zip(found, wanted, strict=True):
        grams = []
        for h in (one.double().numpy(), other.double().numpy()):
            batch, channels, height, width = h.shape
            entries = [[(h[:, i] * h[:, j]).sum(axis=(1, 2)) for j in range(channels)] for i in range(channels)]
            grams.append(np.array(entries).transpose(2, 0, 1) / (channels * height * width))
            assert grams[-1].shape == (batch, channels, channels)
        terms.append(((grams[0] - grams[1]) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(style_distance(found, wanted).numpy(), np.mean(terms, axis=0), rtol=1e-4)


def test_style_does_not_depend_on_positions() -> None:
    generator = torch.Generator().manual_seed(0)
    (h,) = maps(0)[:1]
    moved = h.flatten(2)[:, :, torch.randperm(32 * 48, generator=generator)].reshape(h.shape)
    assert float(style_distance([moved], [h]).max()) < 1e-12
    assert float(style_distance([2.0 * h], [h])[0]) == pytest.approx(9.0 * float(gram(h)[0].square().sum()), rel=1e-4)


def test_gram_matrices_of_half_precision_are_exact() -> None:
    """Sums over a picture would not fit bfloat16's eight bits."""
    h = maps(0)[0].bfloat16()
    torch.testing.assert_close(gram(h), gram(h.double().float()), rtol=0, atol=0)


def test_the_patch_critic_judges_patches_of_a_picture_beside_its_x_hat() -> None:
    torch.manual_seed(0)
    critic = PatchCritic((8, 16, 16)).eval()
    picture, x_hat = torch.rand(2, 2, 3, 48, 32) * 2 - 1
    (logits,) = critic(picture, x_hat)
    assert logits.shape == (2, 1, 12, 8)
    assert float((critic(picture, picture)[0] - logits).detach().abs().max()) > 1e-4
    picture.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(picture, x_hat)[0][0, 0, 6, 4], picture)
    rows, columns = (gradient[0].abs().sum(dim=(0, axis)).nonzero().flatten() for axis in (2, 1))
    # Two 4x4 convolutions of stride 2 and a 3x3 one see 4 + 2 (4 - 1) + 4 (3 - 1) = 18 px.
    assert int(rows[-1] - rows[0]) + 1 == int(columns[-1] - columns[0]) + 1 == 18
    assert float(gradient[1].abs().max()) == 0.0


def test_layers_of_the_patch_critic_have_the_spectral_norm_one() -> None:
    torch.manual_seed(0)
    critic = PatchCritic((8, 16, 16))
    for _ in range(200):  # one power iteration each
        critic(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    weights = [layer.weight for layer in critic.eval().layers if isinstance(layer, torch.nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) for weight in weights]
    assert len(norms) == 4 and norms == pytest.approx([1.0] * 4, rel=1e-3)
