"""Conversions of pixels between pictures, tensors and padded rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.autoencoder.model import STRIDE
from hfd.autoencoder.transforms import PixelRows
from hfd.image.load import RgbArray

RgbRows: TypeAlias = Callable[[int, int], RgbArray]
"""(first, last) -> rows of a picture, uint8 (last - first, W, 3), last exclusive; called from top to bottom."""


def picture_to_tensor(x: RgbArray) -> Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1], channels last."""
    return torch.from_numpy(np.array(x)).permute(2, 0, 1).unsqueeze(0).float().div(255.0)


def tensor_to_picture(x: Tensor) -> RgbArray:
    """float (1, 3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    return to_grey_levels(x[0])


def to_grey_levels(x: Tensor) -> RgbArray:
    """float (3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    picture: RgbArray = (x.clamp(0.0, 1.0) * 255.0).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    return picture


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
    """Rows of ``pad_to_stride(picture_to_tensor(picture))``, computed on demand."""

    def rows(first: int, last: int) -> Tensor:
        low, high = min(first, height - 1), min(last, height)
        part = picture_to_tensor(x(low, high))
        return F.pad(part, (0, -part.shape[3] % STRIDE, 0, last - first - (high - low)), mode="replicate")

    return rows
