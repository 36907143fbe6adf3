"""Features of many patches, in batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hfd.image.load import RgbArray

BATCH_PATCHES = 16


def features_in_batches(
    forward: Callable[[RgbArray], Tensor], patches: RgbArray, dimension: int, batch_patches: int = BATCH_PATCHES
) -> npt.NDArray[np.float32]:
    """Compute features float32 (P, D) of patches of one size, uint8 (P, h, w, 3) sRGB; P may be 0.

    ``forward`` maps at most ``batch_patches`` of them to (p, D). The patches of a picture have the same batches
    wherever it is measured. Raises ValueError for another shape or dtype.
    """
    if patches.dtype != np.uint8 or patches.ndim != 4 or patches.shape[3] != 3:
        raise ValueError(f"patches: got {patches.dtype} {patches.shape}, expected uint8 (P, h, w, 3)")
    features = np.empty((len(patches), dimension), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(patches), batch_patches):
            batch = patches[start : start + batch_patches]
            features[start : start + len(batch)] = forward(batch).float().cpu().numpy()
    return features
