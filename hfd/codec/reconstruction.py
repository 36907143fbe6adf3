"""Stage-1 synthesis by tiles, in the memory of one tile at any picture size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfd.codec.pixels import to_grey_levels
from hfd.engine.base import CELL_PX, Stage1Networks, Values
from hfd.geometry.box import Box
from hfd.image.load import RgbArray

TILE_CELLS = 64
"""Side of a tile's core, 1024 px. A smaller picture is one tile, bit-identical to the transform of the whole."""


@dataclass(frozen=True, eq=False)
class LatentCut:
    """The part of a latent from which ``box`` of a picture is synthesised; small enough to send to other processes.

    ``y``: float32 (M, h, w); its first cell is row ``top``, column ``left`` of the whole latent. It covers the box and
    its context (:class:`hfd.engine.base.Stage1Reach`), clipped to the picture.
    """

    y: npt.NDArray[np.float32]
    top: int
    left: int
    box: Box


def cut_latent(y_hat: Values, box: Box, reach: int) -> LatentCut:
    """Cut the part of a latent (1, M, h, w) that ``box`` needs."""
    top, bottom = max(0, box.top // CELL_PX - reach), -(-box.bottom // CELL_PX) + reach
    left, right = max(0, box.left // CELL_PX - reach), -(-box.right // CELL_PX) + reach
    return LatentCut(np.array(y_hat[0, :, top:bottom, left:right], np.float32), top, left, box)


def synthesise(networks: Stage1Networks, cut: LatentCut) -> RgbArray:
    """The reconstruction x_hat of ``cut.box``, uint8 (H, W, 3).

    It equals that part of the whole latent's synthesis, except that a value near a rounding boundary may differ by 1.
    """
    box, reach = cut.box, networks.reach.synthesis_cells
    picture = np.empty((box.height, box.width, 3), np.uint8)
    for tile in _tiles(box):
        part = cut_latent(cut.y[None], _moved(tile, cut), reach)
        x_hat = networks.synthesis(part.y[None])
        top, left = tile.top - (cut.top + part.top) * CELL_PX, tile.left - (cut.left + part.left) * CELL_PX
        inside = Box(top, left, tile.height, tile.width).cut(x_hat)[0]
        own = tile.within(box)
        picture[own.top : own.bottom, own.left : own.right] = to_grey_levels(inside)
    return picture


def _tiles(box: Box) -> Iterator[Box]:
    side = TILE_CELLS * CELL_PX
    for top in range(box.top // side * side, box.bottom, side):
        for left in range(box.left // side * side, box.right, side):
            yield Box(top, left, side, side).shared_with(box)


def _moved(tile: Box, cut: LatentCut) -> Box:
    """Return the tile relative to the cut's first cell, in px."""
    return Box(tile.top - cut.top * CELL_PX, tile.left - cut.left * CELL_PX, tile.height, tile.width)
