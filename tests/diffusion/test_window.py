"""Windows of larger pictures: geometry, and the noise of the whole picture."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hfd.diffusion import noise as noise_module
from hfd.diffusion.noise import BLOCK_PX, block_seed, noise_in
from hfd.geometry.box import Box, Window

CPU = torch.device("cpu")


@st.composite
def windows(draw: st.DrawFn) -> Window:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box = Box(top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))
    return Window(box, height, width)


@given(windows(), st.integers(1, 3), st.integers(0, 2**32 - 1), st.sampled_from([16, 24, 1024]))
def test_noise_of_a_window_is_that_of_the_whole(window: Window, channels: int, seed: int, block_px: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_module, "BLOCK_PX", block_px)
        shape = (window.box.height, window.box.width)
        found = noise_in([seed, 8], channels, shape, CPU, window)(5)
        whole = noise_in([seed, 8], channels, (window.height, window.width), CPU)(5)
    assert torch.equal(found, window.box.cut(whole))


@pytest.mark.parametrize("size", [(1, 1), (77, 59), (512, 768), (1024, 1000)])
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (3, 2), (2**32 - 1, 2**31 - 1)])
def test_a_picture_of_one_block_has_the_noise_of_one_plain_draw(size: tuple[int, int], seed: int, step: int) -> None:
    """The noise is that of earlier versions, without blocks, so that earlier samples stay the same."""
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step) % 2**63)
    plain = torch.randn((3, *size), generator=generator)
    torch.testing.assert_close(noise_in([seed], 3, size, CPU)(step)[0], plain, rtol=0.0, atol=1e-6)


def test_blocks_steps_and_seeds_have_noise_of_their_own() -> None:
    names = itertools.product((0, 1, 2**32 - 1), (0, 1, 50), range(4), range(4))
    drawn = {
        tuple(torch.randn(4, generator=torch.Generator().manual_seed(block_seed(*name))).tolist()) for name in names
    }
    assert len(drawn) == 3 * 3 * 4 * 4


def test_noise_across_blocks_is_white() -> None:
    """No correlation between neighbours in a block or across a border; unit variance."""
    noise = noise_in([7], 3, (2 * BLOCK_PX, BLOCK_PX + 200), CPU)(0)[0]
    assert float(noise.std()) == pytest.approx(1.0, abs=2e-3) and float(noise.mean()) == pytest.approx(0.0, abs=2e-3)
    upper, lower = noise[:, :BLOCK_PX, :BLOCK_PX], noise[:, BLOCK_PX:, :BLOCK_PX]
    assert abs(float((upper * lower).mean())) < 3e-3
    above, below = noise[:, BLOCK_PX - 1], noise[:, BLOCK_PX]
    assert abs(float((above * below).mean())) < 0.08


def test_the_intersection_of_two_boxes() -> None:
    assert Box(2, 3, 4, 5).shared_with(Box(0, 6, 4, 9)) == Box(2, 6, 2, 2)
    assert Box(2, 3, 4, 5).shared_with(Box(6, 3, 4, 5)).pixels == 0


def test_boxes() -> None:
    box = Box(2, 3, 4, 5)
    x = torch.arange(100).reshape(10, 10)
    assert torch.equal(box.cut(x), x[2:6, 3:8]) and box.pixels == 20
    assert Box(-2, 8, 6, 6).clipped(10, 10) == Box(0, 8, 4, 2)
    outer = Box(1, 2, 8, 8)
    assert torch.equal(box.within(outer).cut(outer.cut(x)), box.cut(x))
