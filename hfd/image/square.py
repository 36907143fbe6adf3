"""The centre square of a picture, as evaluations on COCO at 256 x 256 px use it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hfd.image.load import RgbArray


def centre_square(x: RgbArray, px: int) -> RgbArray:
    """Cut the largest square around the centre of uint8 (H, W, 3) sRGB and resize it to ``px`` a side.

    With an odd remainder the square lies half a pixel nearer to the top left corner. Pillow's bicubic: it averages over
    all pixels where it makes a picture smaller, and near a border over those beyond it, as if the whole picture were
    resized and then cut.
    """
    side = min(x.shape[:2])
    top, left = (x.shape[0] - side) // 2, (x.shape[1] - side) // 2
    if side == px:
        return np.ascontiguousarray(x[top : top + side, left : left + side])
    square = (left, top, left + side, top + side)
    return np.array(Image.fromarray(x).resize((px, px), Image.Resampling.BICUBIC, square))
