"""Plans of tiles and batches: each pixel is computed exactly once, with its context, as in the whole picture."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.flow import PosteriorMeanFlow
from hfd.diffusion.process import Process
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion
from hfd.errors import ConfigError
from hfd.geometry.box import Box, Tile, Window, parse_box
from hfd.geometry.four_groups import Patch
from hfd.geometry.plan import (
    MAX_OVERHEAD,
    PatchLayout,
    Scheme,
    Unit,
    UnitKind,
    plan_four_groups,
    plan_picture,
    plan_units,
    stitched,
)
from hfd.geometry.tiles import Reach, cut_into_tiles, grown, least_pixels
from tests.support.networks import lively_unet

SIDES = st.integers(1, 700)


def check_tiles(tiles: list[Tile], height: int, width: int, reach: int, stride: int, max_pixels: int) -> None:
    """Cores cover the picture once; a window holds the context of its core, begins on the grid, and is small enough."""
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


@given(SIDES, SIDES, st.integers(0, 60), st.sampled_from([1, 8, 16]), st.integers(5_000, 60_000))
def test_tiles_cut_a_picture(height: int, width: int, reach: int, stride: int, max_pixels: int) -> None:
    tiles = cut_into_tiles(height, width, reach, stride, max_pixels=max_pixels)
    if tiles:
        check_tiles(tiles, height, width, reach, stride, max_pixels)
    else:
        assert max_pixels < least_pixels(Reach(reach, reach, stride))
    if height * width <= max_pixels:
        assert [tile.core for tile in tiles] == [Box(0, 0, height, width)]


@given(
    st.lists(st.tuples(st.sampled_from([16, 40, 90, 333, 700]), st.sampled_from([16, 90, 512])), max_size=12),
    st.integers(0, 200),
    st.integers(1, 20),
    st.sampled_from([1, 8]),
    st.integers(8_000, 100_000),
    st.integers(1, 20_000),
)
def test_a_plan_does_every_picture_once(
    sizes: list[tuple[int, int]], before: int, step: int, stride: int, unit_pixels: int, batch_pixels: int
) -> None:
    reach = Reach(before + step, step, stride)
    units = plan_units(sizes, reach, unit_pixels=unit_pixels, batch_pixels=batch_pixels)
    batches = [unit for unit in units if unit.kind is UnitKind.BATCH]
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
        if own[0].kind is UnitKind.TILES:
            assert all(len(unit.tiles) == 1 for unit in own)
            assert sum(tile.window.pixels for tile in tiles) <= MAX_OVERHEAD * height * width
            check_tiles(tiles, height, width, reach.total, stride, unit_pixels)
        else:
            assert len(own) == 1
            padded = (height + -height % stride, width + -width % stride)
            check_tiles(tiles, *padded, reach.evaluation, stride, unit_pixels)
    assert units == plan_units(list(sizes), reach, unit_pixels=unit_pixels, batch_pixels=batch_pixels)


def test_few_steps_are_spread_and_many_stay_together() -> None:
    size = (4000, 6000)
    few, many = (plan_units([size], Reach(steps * 139, 139, 8), unit_pixels=2**22, batch_pixels=1) for steps in (1, 50))
    assert {unit.kind for unit in few} == {UnitKind.TILES} and len(few) > 5
    assert [unit.kind for unit in many] == [UnitKind.STEPS] and len(many[0].tiles) > 5


def test_a_unit_without_room_for_context_is_refused_with_the_numbers() -> None:
    reach = Reach(139, 139, 8)
    with pytest.raises(ConfigError, match=r"^tile_pixels: got 65536, expected at least 331776, for a network with"):
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
    if units[0].kind is UnitKind.STEPS:
        return decoder.sample(x_hat, sampling, seeds=[7], precision=precision, tiles=units[0].tiles)
    out = torch.full_like(x_hat, torch.nan)
    for tile in itertools.chain.from_iterable(unit.tiles for unit in units):
        window = Window(tile.window, height, width)
        part = tile.window.cut(x_hat)
        found = decoder.sample(part, sampling, seeds=[7], precision=precision, window=window)
        tile.core.cut(out).copy_(tile.core.within(tile.window).cut(found))
    return out


FINISH = {"finish": {"sharpen": 1.0, "chroma_noise": 2.0}, "grain": 0.5}


@pytest.mark.integration
@pytest.mark.parametrize("size", [(90, 1300), (431, 333)])
@pytest.mark.parametrize(
    ("decoder", "sampling"),
    [
        (made(**FINISH), Sampling(1, grain=True)),
        (made(PosteriorMeanFlow(sigma_s=0.1), **FINISH), Sampling(1)),
        (made(**FINISH), Sampling(2, gamma=1.0, realism=0.7)),
        (made(PosteriorMeanFlow(sigma_s=0.1)), Sampling(2, "heun")),
    ],
)
def test_independent_tiles_give_the_sample_of_the_whole(
    decoder: ScoreDecoder, sampling: Sampling, size: tuple[int, int]
) -> None:
    x_hat = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    whole = decoder.sample(x_hat, sampling, seeds=[7], precision="float32")
    reach = decoder.reach_px(sampling)
    tiles = cut_into_tiles(*size, reach, decoder.net.stride, max_pixels=(2 * reach + 90) ** 2)
    assert len(tiles) > 1
    units = [Unit(UnitKind.TILES, (0,), (tile,)) for tile in tiles]
    found = by_plan(decoder, x_hat, sampling, units, "float32")
    torch.testing.assert_close(found, whole, rtol=0.0, atol=1e-5)
    rough = by_plan(decoder, x_hat, sampling, units, "bfloat16")
    error = (rough - decoder.sample(x_hat, sampling, seeds=[7], precision="bfloat16")).abs()
    assert float(error.max()) < 0.03 and float(error.mean()) < 0.006


def test_a_pixel_less_of_context_would_be_seen() -> None:
    """The bound above is tight: with less context, pixels change."""
    decoder, sampling = made(), Sampling(1)
    x_hat = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    whole = decoder.sample(x_hat, sampling, seeds=[7], precision="float32")
    units = [Unit(UnitKind.TILES, (0,), (tile,)) for tile in cut_into_tiles(160, 160, 8, 8, max_pixels=12_800)]
    assert float((by_plan(decoder, x_hat, sampling, units, "float32") - whole).abs().max()) > 1e-3


@pytest.mark.parametrize("sampling", [Sampling(5), Sampling(4, "dpmpp-2m"), Sampling(4, gamma=1.0, grain=True)])
def test_steps_by_tiles_give_the_sample_of_the_whole(sampling: Sampling) -> None:
    decoder = made(**FINISH)
    x_hat = torch.rand(1, 3, 203, 250, generator=torch.Generator().manual_seed(1))
    reach = Reach(decoder.reach_px(sampling), decoder.net.receptive_field_px, decoder.net.stride)
    units = plan_units([(203, 250)], reach, unit_pixels=25_000, batch_pixels=1)
    assert units[0].kind is UnitKind.STEPS and len(units[0].tiles) > 1
    whole = decoder.sample(x_hat, sampling, seeds=[7], precision="float32")
    found = by_plan(decoder, x_hat, sampling, units, "float32")
    torch.testing.assert_close(found, whole, rtol=0.0, atol=2e-5)


BOXES = st.tuples(st.integers(0, 699), st.integers(0, 699), st.integers(1, 700), st.integers(1, 700))


def box_in(height: int, width: int, drawn: tuple[int, int, int, int]) -> Box:
    top, left = drawn[0] % height, drawn[1] % width
    return Box(top, left, 1 + drawn[2] % (height - top), 1 + drawn[3] % (width - left))


@given(SIDES, SIDES, BOXES, st.integers(0, 150), st.integers(1, 20), st.sampled_from([1, 8]), st.integers(8_000, 10**5))
def test_one_group_covers_a_box_with_its_context(
    height: int, width: int, drawn: tuple[int, int, int, int], before: int, step: int, stride: int, max_pixels: int
) -> None:
    box, reach = box_in(height, width, drawn), Reach(before + step, step, stride)
    plan = plan_picture(height, width, reach, PatchLayout(Scheme.ONE_GROUP, max_pixels), box=box)
    assert len(plan.groups) == 1 and (plan.height, plan.width, plan.box) == (height, width, box)
    covered = np.zeros((height, width), int)
    for patch in plan.groups[0]:
        core, window = patch.tile.core, patch.tile.window
        covered[core.top : core.bottom, core.left : core.right] += 1
        side = 2 * reach.total
        seen = Box(core.top - reach.total, core.left - reach.total, core.height + side, core.width + side)
        seen = seen.clipped(height, width)
        assert seen.shared_with(window) == seen
        assert window.top % stride == window.left % stride == 0
        assert window.bottom % stride == 0 or window.bottom == height
        assert window.right % stride == 0 or window.right == width
        if patch.steps:
            assert plan.num_patches == 1
            padded = (window.height + -window.height % stride, window.width + -window.width % stride)
            check_tiles(list(patch.steps), *padded, reach.evaluation, stride, max_pixels)
        else:
            assert window.pixels <= max_pixels
        assert not patch.known
    assert covered.max() == 1 and (covered[box.top : box.bottom, box.left : box.right] == 1).all()
    assert plan.pixels == sum(patch.tile.window.pixels for patch in plan.groups[0])
    cells = sum(patch.tile.core.pixels for patch in plan.groups[0])
    assert box.pixels <= cells <= (box.height + 2 * stride) * (box.width + 2 * stride)


def sides_of(core: Box) -> list[Box]:
    """Its first and last row, its first and last column."""
    top, bottom = (Box(row, core.left, 1, core.width) for row in (core.top, core.bottom - 1))
    left, right = (Box(core.top, column, core.height, 1) for column in (core.left, core.right - 1))
    return [top, bottom, left, right]


@given(SIDES, SIDES, BOXES, st.sampled_from([48, 64, 200]), st.sampled_from([0, 8, 20, 48]))
def test_four_groups_know_all_that_is_finished_around_them(
    height: int, width: int, drawn: tuple[int, int, int, int], core_px: int, context_px: int
) -> None:
    stride, box = 8, box_in(height, width, drawn)
    plan = plan_four_groups(height, width, stride, box=box, core_px=core_px, context_px=context_px)
    whole = plan_four_groups(height, width, stride, core_px=core_px, context_px=context_px)
    assert len(plan.groups) <= len(whole.groups) <= 4
    finished, spilt = np.zeros((height, width), int), np.zeros((height, width), bool)
    for group in plan.groups:
        before = finished.copy()
        for patch in group:
            # The very work of the whole picture's plan: a region cannot differ from the whole.
            assert any(patch in there for there in whole.groups)
            window, core = patch.tile.window, patch.tile.core
            assert window.shared_with(core) == core and window.top % stride == window.left % stride == 0
            known = np.zeros((height, width), int)
            for there in patch.known:
                assert there.shared_with(window) == there and there.pixels
                known[there.top : there.bottom, there.left : there.right] += 1
            assert known.max() <= 1 and not known[core.top : core.bottom, core.left : core.right].any()
            inside = (slice(window.top, window.bottom), slice(window.left, window.right))
            # All that the whole's plan knows there was done; and of what is done, all is known.
            assert np.array_equal(known[inside], before[inside])
            finished[core.top : core.bottom, core.left : core.right] += 1
            assert patch.finished.shared_with(window) == patch.finished
            for side, px in zip(sides_of(core), patch.fades, strict=True):
                band = grown(side, px - 1, 1).shared_with(core) if px else Box(core.top, core.left, 0, 0)
                assert spilt[band.top : band.bottom, band.left : band.right].all()
        for spill in itertools.chain.from_iterable(patch.spills for patch in group):
            assert not finished[spill.top : spill.bottom, spill.left : spill.right].any()
            spilt[spill.top : spill.bottom, spill.left : spill.right] = True
    assert finished.max() == 1 and finished[box.top : box.bottom, box.left : box.right].all()
    assert all(
        patch.tile.core.shared_with(other.tile.window).pixels == 0
        for group in plan.groups
        for patch, other in itertools.permutations(group, 2)
    )


def test_the_number_of_groups_does_not_grow_and_each_holds_its_quarter() -> None:
    plan = plan_four_groups(8000, 8000, 8, core_px=1000, context_px=128)
    assert [len(group) for group in plan.groups] == [16] * 4
    region = plan_four_groups(8000, 8000, 8, box=Box(3100, 3100, 10, 10), core_px=1000, context_px=128)
    # Place (3, 3) of the last colour waits for (3, 2) and (3, 4), and these for rows 2 and 4 of columns 0 to 6.
    assert [len(group) for group in region.groups] == [8, 6, 2, 1]
    assert region.covers == Box(2000, 0, 3000, 7000)


def test_the_scheme_is_chosen_by_the_whole_picture() -> None:
    few, many = (Reach(steps * 126, 126, 8) for steps in (1, 50))
    assert plan_picture(20_000, 20_000, few).scheme is Scheme.ONE_GROUP
    assert plan_picture(20_000, 20_000, many).scheme is Scheme.FOUR_GROUPS
    assert plan_picture(20_000, 20_000, many, box=Box(0, 0, 9, 9)).scheme is Scheme.FOUR_GROUPS
    sampled = plan_picture(3000, 4000, many)
    assert sampled.scheme is Scheme.ONE_GROUP and sampled.num_patches == 1 and len(sampled.groups[0][0].steps) == 4
    small = plan_picture(2000, 2200, many)
    assert small.groups == ((Patch(Tile(Box(0, 0, 2000, 2200), Box(0, 0, 2000, 2200))),),)


def test_at_the_default_size_context_costs_less_than_a_third() -> None:
    """At any size: between one patch and many, the cut is less even."""
    reach = Reach(126, 123, 8)
    for height, width in [(2000, 2600), (2305, 2305), (2400, 3000), (3000, 4000), (4000, 6000), (8000, 12_000)]:
        assert plan_picture(height, width, reach).pixels <= 1.3 * height * width
    assert plan_picture(20_000, 20_000, reach).pixels <= 1.3 * 20_000**2


@pytest.mark.parametrize("core_px", [100, 120])
def test_four_groups_require_room_for_their_context(core_px: int) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_picture(500, 500, Reach(126, 123, 8), PatchLayout(Scheme.FOUR_GROUPS, groups_px=core_px))
    assert str(caught.value) == f"groups_px: got {core_px}, expected a multiple of 8, at least 128"


def test_a_region_of_the_command_line() -> None:
    assert parse_box("30, 20,300,200") == Box(20, 30, 200, 300)
    for text in ("", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1.5,2,3,4", "0x1,2,3,4"):
        with pytest.raises(ConfigError) as caught:
            parse_box(text)
        assert str(caught.value) == (f"region: got {text!r}, expected x,y,w,h in whole pixels, such as 0,0,512,512")


def test_patches_require_room_for_one_evaluation() -> None:
    with pytest.raises(ConfigError, match=r"^patch_pixels: got 65536, expected at least 331776, for a network with"):
        plan_picture(1000, 1000, Reach(139, 139, 8), PatchLayout(patch_pixels=65536))
