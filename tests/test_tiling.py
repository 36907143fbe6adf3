"""Plans of tiles and batches: everything is done exactly once, with its context, and comes out as the whole does."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import lively_unet
from torch import Tensor

from hfd.diffusion.cutting import Reach, cut_into_tiles, least_pixels
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.flow import PosteriorMeanFlow
from hfd.diffusion.process import Process
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion
from hfd.diffusion.window import Box, Tile, Window
from hfd.errors import ConfigError
from hfd.tiling import MAX_OVERHEAD, Spread, Unit, plan_units, stitched

SIDES = st.integers(1, 700)


def check_tiles(tiles: list[Tile], height: int, width: int, reach: int, stride: int, max_pixels: int) -> None:
    """Cores cut the picture; a window holds all that its core looks at, begins on the grid, and is small enough."""
    covered = np.zeros((height, width), int)
    for tile in tiles:
        core, window = tile.core, tile.window
        covered[core.top : core.bottom, core.left : core.right] += 1
        seen = Box(core.top - reach, core.left - reach, core.height + 2 * reach, core.width + 2 * reach)
        seen = seen.clipped(height, width)
        assert window.top <= seen.top and window.left <= seen.left
        assert window.bottom >= seen.bottom and window.right >= seen.right
        assert window.top % stride == window.left % stride == 0
        assert window.bottom % stride == 0 or window.bottom == height
        assert window.right % stride == 0 or window.right == width
        assert window.pixels <= max_pixels
    assert (covered == 1).all()


@settings(deadline=None, max_examples=200)
@given(SIDES, SIDES, st.integers(0, 60), st.sampled_from([1, 8, 16]), st.integers(5_000, 60_000))
def test_tiles_cut_a_picture(height: int, width: int, reach: int, stride: int, max_pixels: int) -> None:
    tiles = cut_into_tiles(height, width, reach, stride, max_pixels=max_pixels)
    if tiles:
        check_tiles(tiles, height, width, reach, stride, max_pixels)
    else:
        assert max_pixels < least_pixels(Reach(reach, reach, stride))
    if height * width <= max_pixels:
        assert [tile.core for tile in tiles] == [Box(0, 0, height, width)]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from([16, 40, 90, 333, 700]), st.sampled_from([16, 90, 512])), max_size=12),
    st.integers(0, 200),
    st.integers(1, 20),
    st.sampled_from([1, 8]),
    st.integers(8_000, 100_000),
    st.integers(1, 20_000),
)
def test_a_plan_does_every_picture_once(
    sizes: list[tuple[int, int]], walk: int, step: int, stride: int, unit_pixels: int, batch_pixels: int
) -> None:
    reach = Reach(walk + step, step, stride)
    units = plan_units(sizes, reach, unit_pixels=unit_pixels, batch_pixels=batch_pixels)
    batches = [unit for unit in units if unit.spread is Spread.BATCH]
    in_batches = [index for unit in batches for index in unit.pictures]
    assert len(in_batches) == len(set(in_batches))
    for unit in batches:
        assert len({sizes[index] for index in unit.pictures}) == 1 and not unit.tiles
        pixels = sum(height * width for height, width in (sizes[index] for index in unit.pictures))
        assert pixels <= batch_pixels or len(unit.pictures) == 1
    for index in set(range(len(sizes))) - set(in_batches):
        height, width = sizes[index]
        assert height * width > unit_pixels
        own = [unit for unit in units if unit.pictures == (index,)]
        tiles = [tile for unit in own for tile in unit.tiles]
        if own[0].spread is Spread.TILES:
            assert all(len(unit.tiles) == 1 for unit in own)
            assert sum(tile.window.pixels for tile in tiles) <= MAX_OVERHEAD * height * width
            check_tiles(tiles, height, width, reach.walk, stride, unit_pixels)
        else:
            assert len(own) == 1
            padded = (height + -height % stride, width + -width % stride)
            check_tiles(tiles, *padded, reach.step, stride, unit_pixels)
    assert units == plan_units(list(sizes), reach, unit_pixels=unit_pixels, batch_pixels=batch_pixels)


def test_few_steps_are_spread_and_many_stay_together() -> None:
    size = (4000, 6000)
    few, many = (plan_units([size], Reach(steps * 139, 139, 8), unit_pixels=2**22, batch_pixels=1) for steps in (1, 50))
    assert {unit.spread for unit in few} == {Spread.TILES} and len(few) > 5
    assert [unit.spread for unit in many] == [Spread.STEPS] and len(many[0].tiles) > 5


def test_a_unit_without_room_for_context_is_refused_with_the_numbers() -> None:
    reach = Reach(139, 139, 8)
    with pytest.raises(ConfigError, match=r"^tile_pixels: got 65536, expected at least 331776, for a network that"):
        plan_units([(1000, 1000)], reach, unit_pixels=65536, batch_pixels=1)
    assert plan_units([(1000, 1000)], reach, unit_pixels=331776, batch_pixels=1)


def test_stitching_wants_every_pixel_once() -> None:
    x = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    cores = [(Box(0, 0, 2, 5), x[:2]), (Box(2, 0, 4, 3), x[2:, :3]), (Box(2, 3, 4, 2), x[2:, 3:])]
    assert np.array_equal(stitched(6, 5, cores), x)
    for wrong in (cores[:2], [*cores, cores[0]]):
        with pytest.raises(ValueError, match="every pixel"):
            stitched(6, 5, wrong)


def made(process: Process | None = None, **config: Any) -> ScoreDecoder:
    return ScoreDecoder(lively_unet(2, (8, 8)), process or Diffusion(CosineSchedule(0.5)), config, "00")


def by_plan(decoder: ScoreDecoder, x_hat: Tensor, sampling: Sampling, units: list[Unit], precision: str) -> Tensor:
    """The sample of one picture by the units of its plan."""
    height, width = x_hat.shape[-2:]
    if units[0].spread is Spread.STEPS:
        return decoder.sample(x_hat, sampling, seeds=[7], precision=precision, tiles=units[0].tiles)
    out = torch.full_like(x_hat, torch.nan)
    for tile in itertools.chain.from_iterable(unit.tiles for unit in units):
        window = Window(tile.window, height, width)
        part = tile.window.cut(x_hat)
        found = decoder.sample(part, sampling, seeds=[7], precision=precision, window=window)
        tile.core.cut(out).copy_(tile.core.within(tile.window).cut(found))
    return out


FINISH = {"finish": {"sharpen": 1.0, "chroma_noise": 2.0}, "grain": 0.5}


@pytest.mark.parametrize("size", [(283, 350), (90, 1300), (431, 333)])
@pytest.mark.parametrize(
    ("decoder", "sampling"),
    [
        (made(**FINISH), Sampling(1, grain=True)),
        (made(PosteriorMeanFlow(sigma_s=0.1), **FINISH), Sampling(1)),
        (made(**FINISH), Sampling(2, gamma=1.0, realism=0.7)),
        (made(PosteriorMeanFlow(sigma_s=0.1)), Sampling(2, "heun")),
    ],
)
def test_tiles_of_their_own_give_what_the_whole_gives(
    decoder: ScoreDecoder, sampling: Sampling, size: tuple[int, int]
) -> None:
    x_hat = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    whole = decoder.sample(x_hat, sampling, seeds=[7], precision="float32")
    reach = decoder.reach_px(sampling)
    tiles = cut_into_tiles(*size, reach, decoder.net.stride, max_pixels=(2 * reach + 60) ** 2)
    assert len(tiles) > 1
    units = [Unit(Spread.TILES, (0,), (tile,)) for tile in tiles]
    found = by_plan(decoder, x_hat, sampling, units, "float32")
    torch.testing.assert_close(found, whole, rtol=0.0, atol=1e-5)
    rough = by_plan(decoder, x_hat, sampling, units, "bfloat16")
    error = (rough - decoder.sample(x_hat, sampling, seeds=[7], precision="bfloat16")).abs()
    assert float(error.max()) < 0.03 and float(error.mean()) < 0.006


def test_a_pixel_less_of_context_would_be_seen() -> None:
    """The bound above is no accident of networks that hardly look around."""
    decoder, sampling = made(), Sampling(1)
    x_hat = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    whole = decoder.sample(x_hat, sampling, seeds=[7], precision="float32")
    units = [Unit(Spread.TILES, (0,), (tile,)) for tile in cut_into_tiles(160, 160, 8, 8, max_pixels=12_800)]
    assert float((by_plan(decoder, x_hat, sampling, units, "float32") - whole).abs().max()) > 1e-3


@pytest.mark.parametrize("sampling", [Sampling(5), Sampling(4, "dpmpp-2m"), Sampling(4, gamma=1.0, grain=True)])
def test_steps_by_tiles_give_what_the_whole_gives(sampling: Sampling) -> None:
    decoder = made(**FINISH)
    x_hat = torch.rand(1, 3, 203, 250, generator=torch.Generator().manual_seed(1))
    reach = Reach(decoder.reach_px(sampling), decoder.net.receptive_field_px, decoder.net.stride)
    units = plan_units([(203, 250)], reach, unit_pixels=25_000, batch_pixels=1)
    assert units[0].spread is Spread.STEPS and len(units[0].tiles) > 1
    whole = decoder.sample(x_hat, sampling, seeds=[7], precision="float32")
    found = by_plan(decoder, x_hat, sampling, units, "float32")
    torch.testing.assert_close(found, whole, rtol=0.0, atol=2e-5)
