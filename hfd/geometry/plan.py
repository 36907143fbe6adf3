"""Plans of patches and tiles for sampling large pictures. Pure geometry.

A picture, or a region of one, has a :class:`Plan`: groups of patches, one group after another, the patches of a group
in any order, on any workers. Two schemes:

- one group (`Scheme.ONE_GROUP`): a patch has the context that its core depends on, and all share the picture's noise,
  so that patches agree where they meet, in any order. The result is the whole picture's sample, for any patch size;
- four groups (`Scheme.FOUR_GROUPS`, Hoogeboom et al., arXiv 2305.18231): patches on a grid coloured 2 x 2, colour after
  colour, each with a fixed context of x_hat and with the pixels that its neighbours have finished. The number of groups
  and a patch's work do not grow, with the picture or with the steps; the sample is one for this grid of patches.

Many pictures have units (:func:`plan_units`), for several processes. A large picture becomes tiles with the context
that their cores depend on. The context grows with the number of evaluations of the network, by one receptive field
each:

- few evaluations: each tile runs all steps independently, with the context of all of them (`UnitKind.TILES`);
- many: context would be most of the work. One process samples the whole picture, and at every step evaluates the
network on one tile after another, with the context of one evaluation (`UnitKind.STEPS`). Processes do not run in
lock-step, since each step would wait for the slowest.

Small pictures of one size share a batch. In both cases the sample equals that of the whole picture alone, up to the
rounding that :meth:`hfd.diffusion.decoder.ScoreDecoder.sample` states.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfd.errors import ConfigError
from hfd.geometry.box import Box, Tile, around, checked_box
from hfd.geometry.four_groups import CONTEXT_PX, OVERLAP_PX, Grid, Patch, four_groups
from hfd.geometry.tiles import Reach, cut_into_tiles, grown, least_pixels, on_grid

MAX_OVERHEAD = 3.0
"""Independent tiles are used while all windows together have at most this factor of the picture's pixels."""


PATCH_PIXELS = 2112**2
"""Pixels of a window in one group, context included. With the shipped models, whose reach is 126 px, the largest
pictures cost 1.3 times the work of the whole at once, and photographs of 12 megapixels, in four patches, 1.15 times."""

GROUPS_PX = 1024
"""Side of a core in four groups."""

STEPS_PIXELS = 2**24
"""Larger pictures are sampled in four groups: as a whole they would take about 110 bytes per pixel."""


class Scheme(enum.Enum):
    """The method by which patches of one picture fit together."""

    ONE_GROUP = "one-group"
    FOUR_GROUPS = "four-groups"


@dataclass(frozen=True)
class PatchLayout:
    """Settings for cutting a picture into patches.

    ``scheme`` None: one group; in four, a picture of more than ``STEPS_PIXELS`` whose patches would be mostly context,
    that is, those with many steps. ``patch_pixels``: of a window in one group at most, up to the stride's
    padding; it changes the sample by rounding alone. ``groups_px``: side of a core in four groups, which is a part of
    what the sample is.
    """

    scheme: Scheme | None = None
    patch_pixels: int = PATCH_PIXELS
    groups_px: int = GROUPS_PX


@dataclass(frozen=True)
class Plan:
    """Stage 2 of ``box`` of a picture of ``height`` x ``width`` px.

    ``groups`` follow each other; a group's patches do not depend on one another. Cores do not overlap and cover ``box``
    at least.
    """

    height: int
    width: int
    box: Box
    scheme: Scheme
    groups: tuple[tuple[Patch, ...], ...]

    @property
    def num_patches(self) -> int:
        return sum(map(len, self.groups))

    @property
    def pixels(self) -> int:
        """Pixels of all windows together, the network's input."""
        return sum(patch.tile.window.pixels for group in self.groups for patch in group)

    @property
    def covers(self) -> Box:
        """The smallest box that holds all cores."""
        return around(patch.tile.core for group in self.groups for patch in group)


class UnitKind(enum.Enum):
    """Kind of a unit of work: whole pictures in one batch, one tile, or one picture whose steps go by tiles."""

    BATCH = "batch"
    TILES = "tiles"
    STEPS = "steps"


@dataclass(frozen=True)
class Unit:
    """Work for one process: ``pictures`` by index; ``tiles``: one for `UnitKind.TILES`, all for `UnitKind.STEPS`.

    Tiles of `UnitKind.TILES` cut the picture, those of `UnitKind.STEPS` the picture as padded to the stride.
    """

    kind: UnitKind
    pictures: tuple[int, ...]
    tiles: tuple[Tile, ...] = ()


def plan_units(sizes: Sequence[tuple[int, int]], reach: Reach, *, unit_pixels: int, batch_pixels: int) -> list[Unit]:
    """Cut pictures (height, width) into units: every picture in exactly one batch, or covered by tiles exactly once.

    An input of the network has at most ``unit_pixels`` (up to the stride's padding) and, with several pictures, at most
    ``batch_pixels``. The result depends on the sizes and their order only.

    Raises:
        ConfigError: ``unit_pixels`` has no room for the context that one evaluation needs.
    """
    units: list[Unit] = []
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (height, width) in enumerate(sizes):
        if height * width <= unit_pixels:
            by_size[height, width].append(index)
        else:
            units += _units_of_large(index, height, width, reach, unit_pixels)
    for (height, width), pictures in by_size.items():
        count = max(1, batch_pixels // (height * width))
        units += [
            Unit(UnitKind.BATCH, tuple(pictures[start : start + count])) for start in range(0, len(pictures), count)
        ]
    return sorted(units, key=lambda unit: unit.pictures[0])


def _units_of_large(index: int, height: int, width: int, reach: Reach, unit_pixels: int) -> list[Unit]:
    whole = Box(0, 0, height, width)
    tiles = _tiles_of_their_own(whole, height, width, reach, unit_pixels)
    if tiles:
        return [Unit(UnitKind.TILES, (index,), (tile,)) for tile in tiles]
    tiles = _tiles_of_steps(whole, reach, unit_pixels)
    if not tiles:
        raise ConfigError(f"tile_pixels: {_no_room(unit_pixels, reach)}")
    return [Unit(UnitKind.STEPS, (index,), tuple(tiles))]


def _tiles_of_their_own(box: Box, height: int, width: int, reach: Reach, max_pixels: int) -> list[Tile]:
    """Return None if context would be most of the work."""
    tiles = cut_into_tiles(height, width, reach.total, reach.stride, max_pixels=max_pixels, box=box)
    return tiles if sum(tile.window.pixels for tile in tiles) <= MAX_OVERHEAD * box.pixels else []


def _tiles_of_steps(window: Box, reach: Reach, max_pixels: int) -> list[Tile]:
    padded = (on_grid(window.height, reach.stride), on_grid(window.width, reach.stride))
    return cut_into_tiles(*padded, reach.evaluation, reach.stride, max_pixels=max_pixels)


def _no_room(got: int, reach: Reach) -> str:
    return f"got {got}, expected at least {least_pixels(reach)}, for a network with a reach of {reach.evaluation} px"


def plan_picture(
    height: int, width: int, reach: Reach, layout: PatchLayout = PatchLayout(), *, box: Box | None = None
) -> Plan:
    """Plan a picture, or a ``box`` of it. The plan depends on these numbers only, not on the workers.

    Raises:
        ConfigError: patches without room for context, or a box that is not in the picture.
    """
    whole, scheme = Box(0, 0, height, width), layout.scheme
    box = checked_box(box, height, width)
    if scheme is None:  # decided by the whole picture, so that a region equals that part of the whole
        alone = bool(_tiles_of_their_own(whole, height, width, reach, layout.patch_pixels))
        scheme = Scheme.ONE_GROUP if alone or whole.pixels <= STEPS_PIXELS else Scheme.FOUR_GROUPS
    if scheme is Scheme.FOUR_GROUPS:
        return plan_four_groups(height, width, reach.stride, box=box, core_px=layout.groups_px)
    return Plan(height, width, box, scheme, (tuple(_patches_of_one_group(box, whole, reach, layout.patch_pixels)),))


def _patches_of_one_group(box: Box, whole: Box, reach: Reach, patch_pixels: int) -> list[Patch]:
    core, margin = grown(box, 0, reach.stride).shared_with(whole), on_grid(reach.total, reach.stride)
    window = grown(core, margin, reach.stride).shared_with(whole)
    if window.pixels <= patch_pixels:
        return [Patch(Tile(core, window))]
    if tiles := _tiles_of_their_own(core, whole.height, whole.width, reach, patch_pixels):
        return [Patch(tile) for tile in tiles]
    if not (tiles := _tiles_of_steps(window, reach, patch_pixels)):
        raise ConfigError(f"patch_pixels: {_no_room(patch_pixels, reach)}")
    return [Patch(Tile(core, window), steps=tuple(tiles))]


def plan_four_groups(
    height: int,
    width: int,
    stride: int,
    *,
    box: Box | None = None,
    core_px: int = GROUPS_PX,
    context_px: int = CONTEXT_PX,
    overlap_px: int = OVERLAP_PX,
) -> Plan:
    """Plan by the paper's scheme, :func:`hfd.geometry.four_groups.four_groups`, on a grid of cores of ``core_px``.

    Raises:
        ConfigError: ``core_px`` is not a multiple of the network's stride, or below ``context_px``.
    """
    context = on_grid(context_px, stride)
    if core_px % stride or core_px < context:
        raise ConfigError(f"groups_px: got {core_px}, expected a multiple of {stride}, at least {context}")
    grid = Grid(height, width, core_px)
    box = grid.picture if box is None else box
    groups = four_groups(grid, stride, box, context_px=context, overlap_px=min(context, overlap_px))
    return Plan(height, width, box, Scheme.FOUR_GROUPS, groups)


def stitched(height: int, width: int, cores: Sequence[tuple[Box, npt.NDArray[np.uint8]]]) -> npt.NDArray[np.uint8]:
    """Assemble a picture, uint8 (H, W, 3), from cores. Raises :class:`ValueError` unless each pixel is covered once."""
    picture = np.empty((height, width, 3), np.uint8)
    covered = np.zeros((height, width), np.uint8)
    for box, core in cores:
        picture[box.top : box.bottom, box.left : box.right] = core
        covered[box.top : box.bottom, box.left : box.right] += 1
    if not bool((covered == 1).all()):
        raise ValueError(f"cores: expected every pixel of {width} x {height} px once")
    return picture
