"""Rectangles of pictures: boxes, tiles and windows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from hfd.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Pixels = TypeVar("Pixels", npt.NDArray[np.float32], "Tensor")


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture, px: rows ``top`` to ``top + height``, columns alike."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom), as Pillow orders them."""
        return self.left, self.top, self.right, self.bottom

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of an array (H, W, ...): ``x[box.slices]``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def cut(self, x: Pixels) -> Pixels:
        """These rows and columns of (..., H, W), a view."""
        return x[..., self.top : self.bottom, self.left : self.right]

    def clipped(self, height: int, width: int) -> Box:
        """Return the part inside a picture of this size."""
        top, left = max(0, self.top), max(0, self.left)
        return Box(top, left, min(height, self.bottom) - top, min(width, self.right) - left)

    def shared_with(self, other: Box) -> Box:
        """Return the intersection; of height or width 0 if there is none."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height, width = min(self.bottom, other.bottom) - top, min(self.right, other.right) - left
        return Box(top, left, max(0, height), max(0, width))

    def within(self, outer: Box) -> Box:
        """Return the same rectangle in the coordinates of ``outer``."""
        return Box(self.top - outer.top, self.left - outer.left, self.height, self.width)


@dataclass(frozen=True)
class Tile:
    """``core``: the part of a picture to compute; ``window``: the core with the context that it depends on."""

    core: Box
    window: Box


@dataclass(frozen=True)
class Window:
    """A rectangle ``box`` of a picture of ``height`` x ``width`` px."""

    box: Box
    height: int
    width: int


def around(boxes: Iterable[Box]) -> Box:
    """Return the smallest box that contains all of these, at least one."""
    boxes = list(boxes)
    top, left = min(box.top for box in boxes), min(box.left for box in boxes)
    return Box(top, left, max(box.bottom for box in boxes) - top, max(box.right for box in boxes) - left)


def parse_box(text: str) -> Box:
    """Parse ``x,y,w,h``, px. Raises :class:`ConfigError` for anything else."""
    try:
        left, top, width, height = map(int, text.split(","))
    except ValueError:
        raise ConfigError(f"region: got {text!r}, expected x,y,w,h in whole pixels, such as 0,0,512,512") from None
    return Box(top, left, height, width)


def checked_box(box: Box | None, height: int, width: int) -> Box:
    """Return a box of a picture; None: all of it. Raises :class:`ConfigError` if it is empty or extends outside."""
    box = Box(0, 0, height, width) if box is None else box
    if min(box.height, box.width) <= 0 or box.clipped(height, width) != box:
        raise ConfigError(
            f"region: got {box.left},{box.top},{box.width},{box.height}, expected x,y,w,h within {width} x {height} px"
        )
    return box
