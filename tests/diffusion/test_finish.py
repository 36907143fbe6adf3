"""The finish of samples: amplified detail and colour noise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hfd.diffusion.finish import BINOMIAL, EDGE, GREY_LEVEL, REACH_PX, Finish, edges, finished, luma, sharpen_for
from hfd.diffusion.grain import high_pass


def picture(*shape: int, seed: int = 0) -> Tensor:
    """Mid-greys with texture, far from black and white."""
    return 0.5 + 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_no_finish_is_the_sample_itself() -> None:
    x = picture(1, 3, 8, 8)
    assert finished(x, Finish(), seeds=[1]) is x
    assert Finish.of({}) == Finish.of({"finish": None}) == Finish()
    assert Finish.of({"finish": {"sharpen": 0.5, "chroma_noise": 1.0}}) == Finish(0.5, 1.0)


@pytest.mark.parametrize(("cycles_per_px", "gain"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0)])
def test_high_pass_of_a_wave(cycles_per_px: float, gain: float) -> None:
    """The binomial blur (1, 2, 1) / 4 answers cos^2(pi f)."""
    wave = torch.cos(2.0 * math.pi * cycles_per_px * torch.arange(32.0)).expand(1, 1, 16, 32)
    torch.testing.assert_close(high_pass(wave, BINOMIAL)[..., 1:-1], gain * wave[..., 1:-1], rtol=0.0, atol=1e-6)


def test_edges_of_a_checkerboard() -> None:
    """Contrast is its amplitude everywhere, so that the share is c^2 / (c^2 + EDGE^2): half at EDGE."""
    board = 1.0 - 2.0 * (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float()
    for levels in (2.0, EDGE, 100.0):
        amplitude = levels * GREY_LEVEL
        expected = amplitude * board * levels**2 / (levels**2 + EDGE**2)
        got = edges(0.5 + amplitude * board[None, None])
        torch.testing.assert_close(got[..., 3:-3, 3:-3], expected[None, None, 3:-3, 3:-3], rtol=1e-4, atol=1e-6)


def test_sharpening_amplifies_the_luma_and_leaves_colours() -> None:
    x = picture(2, 3, 16, 20)
    got = finished(x, Finish(sharpen=0.7), seeds=[1, 2])
    torch.testing.assert_close(luma(got), luma(x) + 0.7 * edges(luma(x)), rtol=0.0, atol=1e-6)
    torch.testing.assert_close(got - luma(got), x - luma(x), rtol=0.0, atol=1e-6)
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(finished(flat, Finish(sharpen=2.0), seeds=[1]), flat, rtol=0.0, atol=1e-6)


def test_noise_is_only_in_colours_of_the_stated_size_and_depends_on_the_seed() -> None:
    x = torch.full((2, 3, 200, 200), 0.5)
    noise = finished(x, Finish(chroma_noise=2.0), seeds=[7, 8]) - x
    assert float(luma(noise).abs().max()) < 1e-6
    weights = torch.tensor([0.299, 0.587, 0.114])
    for colour in range(3):  # n - w.n, of independent n: variance 1 - 2 w + |w|^2
        expected = 2.0 * GREY_LEVEL * float((1.0 - 2.0 * weights[colour] + weights.square().sum()).sqrt())
        assert float(noise[:, colour].std()) == pytest.approx(expected, rel=0.02)
    alone = finished(x[1:], Finish(chroma_noise=2.0), seeds=[8]) - x[1:]
    assert torch.equal(alone[0], noise[1]) and not torch.equal(noise[0], noise[1])


def test_reach() -> None:
    x = picture(1, 3, 17, 17)
    other = x.clone()
    other[..., 8, 8] += 0.3
    moved = (finished(x, Finish(1.0, 1.0), seeds=[3]) - finished(other, Finish(1.0, 1.0), seeds=[3])).abs().amax((0, 1))
    rows, columns = (moved > 0).nonzero(as_tuple=True)
    assert int((rows - 8).abs().max()) == int((columns - 8).abs().max()) == REACH_PX


def test_result_stays_in_range() -> None:
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    got = finished(x, Finish(3.0, 20.0), seeds=[1])
    assert float(got.min()) == 0.0 and float(got.max()) == 1.0


@given(st.floats(0.01, 2.0), st.floats(0.0, 1.0), st.floats(0.0, 2.0), st.floats(0.1, 3.0))
def test_amount_that_reaches_an_energy(none: float, b: float, c: float, amount: float) -> None:
    def energy(a: float) -> float:
        return none + (b + 0.01) * a + c * a * a

    found = sharpen_for(energy(amount), [energy(a) for a in (0.0, 1.0, 2.0)])
    assert found == pytest.approx(amount, rel=1e-6)


def test_amount_where_there_is_nothing_to_do_or_to_amplify() -> None:
    assert sharpen_for(0.9, [1.0, 2.0, 4.0]) == 0.0
    assert sharpen_for(0.9, [0.0, 0.0, 0.0]) == 0.0
    assert sharpen_for(0.9, [0.5, 0.4, 0.3]) == 0.0
