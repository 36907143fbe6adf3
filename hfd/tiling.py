"""Which part of which picture is sampled when, and with what context; cutting and stitching. Pure geometry.

A large picture becomes tiles that any process can work on, each with the context that its core depends on. The context
grows with the number of the network's evaluations, since each looks a receptive field further than the one after it:

- few evaluations: every tile walks all steps by itself, with a context of all of them together (`Spread.TILES`);
- many: context would be most of the work. One process walks the whole picture, and at every step the network sees
  one tile after another, with a context of one evaluation (`Spread.STEPS`): memory stays bounded, at any number of
  steps, and other pictures go to other processes. Lock-step over several processes is not attempted: each step would
  wait for the slowest and for the network between them.

Small pictures of one size share a batch. Either way the sample is what the whole picture alone gives, up to the
rounding that :meth:`hfd.diffusion.decoder.ScoreDecoder.sample` states.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hfd.diffusion.window import Box, Tile
from hfd.errors import ConfigError
from hfd.images import RgbArray

MAX_OVERHEAD = 3.0
"""Tiles of their own are worth it while all windows together have at most so many times the picture's pixels."""


class Spread(enum.Enum):
    """What a unit of work is: whole pictures in one batch, one tile, or one picture whose steps go by tiles."""

    BATCH = "batch"
    TILES = "tiles"
    STEPS = "steps"


@dataclass(frozen=True)
class Unit:
    """Work for one process: ``pictures`` by index; ``tiles``: the one of `Spread.TILES`, all those of `Spread.STEPS`.

    Tiles of `Spread.TILES` cut the picture, those of `Spread.STEPS` the picture as padded to the stride.
    """

    spread: Spread
    pictures: tuple[int, ...]
    tiles: tuple[Tile, ...] = ()


@dataclass(frozen=True)
class Reach:
    """How far a sample looks, px: over the whole ``walk``, and in one ``step``; ``stride`` of the network's grid."""

    walk: int
    step: int
    stride: int


def plan_units(sizes: Sequence[tuple[int, int]], reach: Reach, *, unit_pixels: int, batch_pixels: int) -> list[Unit]:
    """Cut pictures (height, width) into units: every picture in exactly one batch, or covered by tiles exactly once.

    The network never sees more than ``unit_pixels`` at once (up to the stride's padding), nor, where it sees several
    pictures, more than ``batch_pixels``. The result depends on the sizes and their order alone.

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
            Unit(Spread.BATCH, tuple(pictures[start : start + count])) for start in range(0, len(pictures), count)
        ]
    return sorted(units, key=lambda unit: unit.pictures[0])


def _units_of_large(index: int, height: int, width: int, reach: Reach, unit_pixels: int) -> list[Unit]:
    tiles = cut_into_tiles(height, width, reach.walk, reach.stride, max_pixels=unit_pixels)
    if tiles and sum(tile.window.pixels for tile in tiles) <= MAX_OVERHEAD * height * width:
        return [Unit(Spread.TILES, (index,), (tile,)) for tile in tiles]
    padded = (height + -height % reach.stride, width + -width % reach.stride)
    tiles = cut_into_tiles(*padded, reach.step, reach.stride, max_pixels=unit_pixels)
    if not tiles:
        raise ConfigError(
            f"tile_pixels: got {unit_pixels}, expected at least {least_pixels(reach)}, for a network that looks "
            f"{reach.step} px far"
        )
    return [Unit(Spread.STEPS, (index,), tuple(tiles))]


def least_pixels(reach: Reach) -> int:
    """Pixels of a square tile at which context is three quarters of it, or less: below, nothing is planned."""
    return (4 * _on_grid(reach.step, reach.stride)) ** 2


def cut_into_tiles(height: int, width: int, reach_px: int, stride: int, *, max_pixels: int) -> list[Tile]:
    """Tiles of at most ``max_pixels`` each, context included, by rows; none where that leaves cores no room.

    Cores begin at multiples of ``stride`` and cut the picture; a window is its core and ``reach_px``, rounded up to the
    stride, on each side that the picture has. Of the ways to cut a picture into a grid, the one with the fewest pixels
    in all windows together is taken.
    """
    margin = _on_grid(reach_px, stride)
    best: tuple[list[tuple[int, int, int, int]], ...] = ()
    least = 0
    for num_columns in range(1, -(-width // stride) + 1):
        columns = _spans(width, _on_grid(-(-width // num_columns), stride), margin)
        across = max(end - start for _, _, start, end in columns)
        room = max_pixels // across
        core_height = height if room >= height else (room - 2 * margin) // stride * stride
        if core_height > 0:
            num_rows = -(-height // core_height)
            rows = _spans(height, _on_grid(-(-height // num_rows), stride), margin)
            total = sum(row[3] - row[2] for row in rows) * sum(column[3] - column[2] for column in columns)
            if not best or total < least:
                best, least = (rows, columns), total
        if columns[0][1] <= margin:  # more columns are mostly context
            break
    return [_tile(row, column) for row in best[0] for column in best[1]] if best else []


def _spans(length: int, core: int, margin: int) -> list[tuple[int, int, int, int]]:
    """Along one axis: begin and end of each core, and of its window."""
    return [
        (start, min(start + core, length), max(0, start - margin), min(start + core + margin, length))
        for start in range(0, length, core)
    ]


def _tile(row: tuple[int, int, int, int], column: tuple[int, int, int, int]) -> Tile:
    core, window = (Box(row[i], column[i], row[i + 1] - row[i], column[i + 1] - column[i]) for i in (0, 2))
    return Tile(core, window)


def _on_grid(length: int, stride: int) -> int:
    return -(-length // stride) * stride


def stitched(height: int, width: int, cores: Sequence[tuple[Box, RgbArray]]) -> RgbArray:
    """A picture, uint8 (H, W, 3), from cores. Raises :class:`ValueError` where they do not cover every pixel once."""
    picture = np.empty((height, width, 3), np.uint8)
    covered = np.zeros((height, width), np.uint8)
    for box, core in cores:
        picture[box.top : box.bottom, box.left : box.right] = core
        covered[box.top : box.bottom, box.left : box.right] += 1
    if not bool((covered == 1).all()):
        raise ValueError(f"cores: expected every pixel of {width} x {height} px once")
    return picture
