"""Pictures for the tracker."""

from __future__ import annotations

import numpy as np

from hfd.image.load import RgbArray


def beside(*pictures: RgbArray) -> RgbArray:
    """Join pictures of one size, uint8 (H, W, 3), in a row."""
    return np.concatenate(pictures, axis=1)
