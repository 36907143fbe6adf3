"""Conversions of pixels between pictures, values of networks and padded rows. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hfd.autoencoder.strips import PixelRows
from hfd.engine.base import CELL_PX, HYPER_CELLS, Values
from hfd.image.load import RgbArray

STRIDE = CELL_PX * HYPER_CELLS
"""Sides of the analysed picture are multiples of this."""

RgbRows: TypeAlias = Callable[[int, int], RgbArray]
"""(first, last) -> rows of a picture, uint8 (last - first, W, 3), last exclusive; called from top to bottom."""


def picture_to_values(x: RgbArray) -> Values:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1]."""
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32) / np.float32(255.0)


def to_grey_levels(x: npt.NDArray[np.floating[Any]]) -> RgbArray:
    """float (3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    levels = np.clip(x, 0.0, 1.0) * np.float32(255.0)
    return np.ascontiguousarray(np.rint(levels, out=levels).astype(np.uint8).transpose(1, 2, 0))


def to_grey(x: RgbArray) -> RgbArray:
    """Replace the three channels of uint8 (H, W, 3) by their rounded mean."""
    mean = (x.sum(axis=2, keepdims=True, dtype=np.uint16) * 2 + 3) // 6
    return np.repeat(mean.astype(np.uint8), 3, axis=2)


class GreyWatch:
    """Pass rows on and check them; ``is_grey``: all rows so far have R = G = B."""

    def __init__(self, rows: RgbRows) -> None:
        self._rows = rows
        self.is_grey = True

    def __call__(self, first: int, last: int) -> RgbArray:
        x = self._rows(first, last)
        if self.is_grey:
            self.is_grey = bool((x[..., 0] == x[..., 1]).all() and (x[..., 1] == x[..., 2]).all())
        return x


def padded_rows(x: RgbRows, height: int) -> PixelRows:
    """Rows of a picture as values, padded to multiples of ``STRIDE`` by its edges, computed on demand."""

    def rows(first: int, last: int) -> Values:
        low, high = min(first, height - 1), min(last, height)
        part = x(low, high)
        below, right = last - first - (high - low), -part.shape[1] % STRIDE
        return picture_to_values(np.pad(part, ((0, below), (0, right), (0, 0)), mode="edge"))

    return rows
