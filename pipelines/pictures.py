"""Pictures for the tracker."""

from __future__ import annotations

import numpy as np


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Pictures of one size, uint8 (H, W, 3), in a row."""
    return np.concatenate(pictures, axis=1)
