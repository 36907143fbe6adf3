"""The rectified flows: velocity, start and training times."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.process import EARLIEST, LATEST

T = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
FLOWS = [RectifiedFlow(), PosteriorMeanFlow(sigma_s=0.1), PosteriorMeanFlow(sigma_s=0.0)]


def drawn(seed: int, batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(3, batch, 3, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize("flow", FLOWS)
def test_pairs_by_the_formulas(flow: RectifiedFlow) -> None:
    """x_t = (1 - t) x0 + t x1, u = x1 - x0: all along the line, both ends included, every error weighs the same."""
    x0, x_hat, eps = drawn(0)
    x1 = eps if type(flow) is RectifiedFlow else x_hat + flow.sigma_s * eps
    pair = flow.training_pair(x0, x_hat, eps, T)
    t = T.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(pair.x_t, (1 - t) * x0 + t * x1)
    torch.testing.assert_close(pair.target, x1 - x0)
    torch.testing.assert_close(pair.x_t - t * pair.target, x0)
    torch.testing.assert_close(pair.x_t + (1 - t) * pair.target, x1)
    torch.testing.assert_close(flow.x0_pred(pair.x_t, pair.target, T), x0)
    assert pair.weight.tolist() == [1.0] * 4
    assert torch.equal(pair.x_t[0], x0[0]) and torch.equal(pair.x_t[-1], x1[-1])


def test_the_path_is_straight() -> None:
    a, b = RectifiedFlow().path(T)
    torch.testing.assert_close(a + b, torch.ones_like(T))
    assert torch.equal(b, T)
    assert RectifiedFlow().noise_level(T).tolist() == pytest.approx([-2.0, -0.8, 1.2, 2.0])


def test_a_start_at_the_reconstruction_has_less_to_do() -> None:
    """If x_hat is near x0, so is the start: the velocity's power is that of x_hat's error and of the noise."""
    x0, error, eps = drawn(1, batch=400)
    x_hat = x0 + 0.05 * error
    u = (
        PosteriorMeanFlow(sigma_s=0.1)
        .training_pair(x0, x_hat, eps, torch.full((400,), 0.5, dtype=torch.float64))
        .target
    )
    power = float((0.05 * error).square().mean()) + 0.1**2
    # 28,800 numbers: one standard error of a mean square is sqrt(2 / 28,800), 0.8 %.
    assert float(u.square().mean()) == pytest.approx(power, rel=0.05)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.8, 0.6), (1.0, 1.5)])
def test_logit_normal_times(mean: float, std: float) -> None:
    """A large batch covers the distribution's quantiles, one time from each share of 1 / batch."""
    batch = 4000
    t = RectifiedFlow("logit-normal", mean, std).times(batch, torch.Generator().manual_seed(0)).double()
    assert bool((t.diff() >= 0).all())
    logits = (t / (1 - t)).log()
    normal = NormalDist(mean, std)
    shares = torch.tensor([normal.cdf(value) for value in logits.tolist()], dtype=torch.float64)
    inside = (t > 1e-3) & (t < 1 - 1e-3)  # float32 tells logits apart there
    assert int(inside.sum()) > 0.99 * batch
    expected = torch.arange(batch).double() / batch
    assert bool((shares - expected)[inside].min() > -1e-6)
    assert bool((shares - expected)[inside].max() < 1 / batch + 1e-6)


def test_small_batches_have_the_distribution_too() -> None:
    """One time a batch, 4000 batches: Kolmogorov's distance below its 0.1 % bound, and far from the uniform one."""
    generator = torch.Generator().manual_seed(3)
    flow = RectifiedFlow("logit-normal", -0.5, 0.8)
    t = torch.cat([flow.times(1, generator) for _ in range(4000)]).double().sort().values
    below = torch.tensor([NormalDist(-0.5, 0.8).cdf(value) for value in (t / (1 - t)).log().tolist()])
    ranks = (torch.arange(4000) + 0.5) / 4000
    assert float((below - ranks).abs().max()) < 1.95 / 4000**0.5
    assert float((t - ranks).abs().max()) > 0.1


def test_uniform_times_ignore_location_and_scale() -> None:
    uniform = [RectifiedFlow("uniform", mean, 2.0).times(50, torch.Generator().manual_seed(4)) for mean in (0.0, 3.0)]
    assert torch.equal(*uniform)
    assert (uniform[0] * 50).floor().tolist() == list(range(50))


def test_wide_logit_normals_stay_off_the_ends() -> None:
    t = RectifiedFlow("logit-normal", 0.0, 30.0).times(1000, torch.Generator().manual_seed(5))
    assert float(t.min()) == pytest.approx(EARLIEST) and float(t.max()) == pytest.approx(LATEST)
