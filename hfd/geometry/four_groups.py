"""Patches of a picture in four groups, each of which continues the pixels of the previous groups. Pure geometry.

The scheme of Hoogeboom et al. (arXiv 2305.18231): cores on a grid coloured 2 x 2, one colour after another. The overlap
and the order of colours are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hfd.geometry.box import Box, Tile, around
from hfd.geometry.tiles import grown

CONTEXT_PX = 128
"""Context around a core. The bands of known pixels in training, up to half a crop, are about as wide."""

OVERLAP_PX = 32
"""Distance by which a core extends into neighbours of later groups, which blend from it to their own result. Known
pixels change the network's samples slightly; without the blend the boundary would be visible."""

Place = tuple[int, int]
"""Row and column in the grid of cores."""

_SIDES: tuple[Place, ...] = ((-1, 0), (1, 0), (0, -1), (0, 1))
_AROUND: tuple[Place, ...] = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))


@dataclass(frozen=True)
class Patch:
    """Work for one call. ``known``: boxes in its window, px of the picture, that earlier groups have finished.

    ``steps``: the tiles into which the window, padded to the stride, is cut at every step.
    ``spills``: boxes beside its core, in cores of later groups, that it finishes too. ``fades``: px at the core's top,
    bottom, left and right over which it fades from the spills of earlier groups.
    """

    tile: Tile
    known: tuple[Box, ...] = ()
    steps: tuple[Tile, ...] = ()
    spills: tuple[Box, ...] = ()
    fades: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def finished(self) -> Box:
        """The box of the result: the smallest around the core and its spills."""
        return around((self.tile.core, *self.spills))


@dataclass(frozen=True)
class Grid:
    """Cores of ``core_px`` from the corner of a picture of ``height`` x ``width`` px, the last ones cut."""

    height: int
    width: int
    core_px: int

    @property
    def picture(self) -> Box:
        return Box(0, 0, self.height, self.width)

    def core(self, place: Place) -> Box:
        side = self.core_px
        return Box(place[0] * side, place[1] * side, side, side).clipped(self.height, self.width)

    def touched_by(self, box: Box) -> set[Place]:
        rows = range(box.top // self.core_px, -(-box.bottom // self.core_px))
        columns = range(box.left // self.core_px, -(-box.right // self.core_px))
        return {(i, j) for i in rows for j in columns}

    def beside(self, place: Place, steps: Sequence[Place] = _AROUND) -> Iterator[Place]:
        """Neighbours, as far as the grid goes."""
        for i, j in steps:
            row, column = place[0] + i, place[1] + j
            if 0 <= row * self.core_px < self.height and 0 <= column * self.core_px < self.width:
                yield row, column


def four_groups(
    grid: Grid, stride: int, box: Box, *, context_px: int, overlap_px: int
) -> tuple[tuple[Patch, ...], ...]:
    """The groups in their order; a patch knows the pixels finished before it within ``context_px`` of its core.

    Those are none at first; then left and right; above and below, with the corners; all around, as the bands of
    training (:mod:`hfd.diffusion.neighbours`). Only patches that ``box`` depends on, at most three cores from it.
    ``context_px``: a multiple of the stride, at most the grid's cores; ``overlap_px`` at most the context.
    """
    wanted = grid.touched_by(box)
    for colour in (3, 2, 1):
        wanted |= {one for place in wanted if _colour(place) == colour for one in _before(grid, place)}
    groups = (
        tuple(
            _patch(grid, place, stride, context_px, overlap_px) for place in sorted(wanted) if _colour(place) == colour
        )
        for colour in range(4)
    )
    return tuple(group for group in groups if group)


def _patch(grid: Grid, place: Place, stride: int, context_px: int, overlap_px: int) -> Patch:
    core, before = grid.core(place), set(_before(grid, place))
    window, wide = grown(core, context_px, stride).shared_with(grid.picture), grown(core, overlap_px, 1)
    known = (grid.core(one).shared_with(window) for one in sorted(before))
    spills = (grid.core(one).shared_with(wide) for one in grid.beside(place, _SIDES) if one not in before)
    top, bottom, left, right = (overlap_px * (not before.isdisjoint(grid.beside(place, [side]))) for side in _SIDES)
    return Patch(
        Tile(core, window),
        known=tuple(shared for shared in known if shared.pixels),
        spills=tuple(shared for shared in spills if shared.pixels),
        fades=(top, bottom, left, right),
    )


def _before(grid: Grid, place: Place) -> Iterator[Place]:
    return (one for one in grid.beside(place) if _colour(one) < _colour(place))


def _colour(place: Place) -> int:
    return 2 * (place[0] % 2) + place[1] % 2
