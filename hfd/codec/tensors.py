"""Pictures as tensors of torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hfd.codec.pixels import to_grey_levels
from hfd.image.load import RgbArray


def picture_to_tensor(x: RgbArray) -> Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1], channels last."""
    return torch.from_numpy(np.array(x)).permute(2, 0, 1).unsqueeze(0).float().div(255.0)


def tensor_to_picture(x: Tensor) -> RgbArray:
    """float (1, 3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    return to_grey_levels(x[0].float().cpu().numpy())
