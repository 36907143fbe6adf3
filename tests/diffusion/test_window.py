"""Windows of larger pictures: their geometry, and that their noise is the whole picture's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfd.diffusion import window as window_module
from hfd.diffusion.samplers import generator_of, seeded_noise
from hfd.diffusion.window import Box, Window, drawn_in_passing, noise_in

CPU = torch.device("cpu")


@st.composite
def windows(draw: st.DrawFn) -> Window:
    height, width = draw(st.integers(1, 70)), draw(st.integers(16, 70))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box = Box(top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))
    return Window(box, height, width)


@settings(deadline=None, max_examples=300)
@given(windows(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_noise_drawn_in_passing_is_that_of_the_whole(window: Window, channels: int, seed: int) -> None:
    whole = torch.randn((channels, window.height, window.width), generator=generator_of(seed, 5))
    assert torch.equal(drawn_in_passing(generator_of(seed, 5), channels, window), window.box.cut(whole))


@pytest.mark.parametrize("values", [0, 2**22])
def test_noise_of_a_window_is_cut_or_drawn_in_passing_to_the_same_bits(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "_WHOLE_VALUES", values)
    monkeypatch.setattr(window_module, "_SKIP", 1000)
    window = Window(Box(40, 7, 21, 30), 77, 59)
    found = noise_in([3, 8], 3, (21, 30), CPU, window)(2)
    assert torch.equal(found, window.box.cut(seeded_noise([3, 8], (3, 77, 59), CPU)(2)))
    assert torch.equal(noise_in([3], 3, (77, 59), CPU)(2), seeded_noise([3], (3, 77, 59), CPU)(2))


def test_boxes() -> None:
    box = Box(2, 3, 4, 5)
    x = torch.arange(100).reshape(10, 10)
    assert torch.equal(box.cut(x), x[2:6, 3:8]) and box.pixels == 20
    assert Box(-2, 8, 6, 6).clipped(10, 10) == Box(0, 8, 4, 2)
    outer = Box(1, 2, 8, 8)
    assert torch.equal(box.within(outer).cut(outer.cut(x)), box.cut(x))
