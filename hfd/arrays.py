"""Arrays of NumPy and tensors of torch alike: the few operations that they do not share by name. No torch of its own.

The formulas of stage 2 exist once, for training with torch and for a runtime without it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = Any
"""An array of NumPy or a tensor of torch. Functions return the kind that they are given."""


def namespace(x: Array) -> Any:
    """``numpy`` for its arrays and numbers, else ``torch``: for functions that both have by one name."""
    if isinstance(x, np.ndarray | np.generic):
        return np
    import torch

    return torch


def is_numpy(x: Array) -> bool:
    return isinstance(x, np.ndarray)


def device_of(x: Array) -> Any:
    """A tensor's device; None for an array."""
    return None if is_numpy(x) else x.device


def without_gradients(x: Array) -> AbstractContextManager[object]:
    """For torch, record nothing for gradients."""
    if is_numpy(x):
        return nullcontext()
    import torch

    return torch.no_grad()


def as_float(x: Array, bits: int) -> Array:
    """In the floating-point type of so many bits."""
    if isinstance(x, np.ndarray | np.generic):
        return x.astype(f"f{bits // 8}", copy=False) if is_numpy(x) else x.astype(f"f{bits // 8}")
    import torch

    return x.to(torch.float64 if bits == 64 else torch.float32)


def rsqrt(x: Array) -> Array:
    return 1.0 / namespace(x).sqrt(x)


def sigmoid(x: Array) -> Array:
    xp = namespace(x)
    return 1.0 / (1.0 + xp.exp(-x))


def pad(x: Array, below: int, right: int, above: int = 0, left: int = 0, *, edge: bool) -> Array:
    """Pad (B, C, H, W) by its edges' values, or by zeros."""
    if not (below or right or above or left):
        return x
    if is_numpy(x):
        return np.pad(x, ((0, 0), (0, 0), (above, below), (left, right)), mode="edge" if edge else "constant")
    import torch.nn.functional as F

    return F.pad(x, (left, right, above, below), mode="replicate" if edge else "constant")


def correlated(x: Array, taps: tuple[float, ...]) -> Array:
    """Correlate the rows and the columns of (B, C, H, W), edges repeated, with an odd number of ``taps``."""
    radius, height, width = len(taps) // 2, x.shape[2], x.shape[3]
    padded = pad(x, radius, radius, radius, radius, edge=True)
    rows = sum(tap * padded[:, :, i : i + height] for i, tap in enumerate(taps))
    return sum(tap * rows[..., i : i + width] for i, tap in enumerate(taps))


def packed(x: Array) -> Array:
    """In the layout that networks prefer: channels last for torch, rows for NumPy."""
    if is_numpy(x):
        return np.ascontiguousarray(x)
    import torch

    return x.contiguous(memory_format=torch.channels_last)


def batch_of(value: float, times: Array, like: Array) -> Array:
    """The time (B,) of every image of ``like``, in the precision of the grid ``times``."""
    if is_numpy(like):
        return np.full(len(like), value, times.dtype)
    import torch

    kind = times.dtype if isinstance(times, torch.Tensor) else torch.float32
    return torch.full((len(like),), value, dtype=kind, device=like.device)


def on_device(x: npt.NDArray[np.float32], device: Any) -> Array:
    """An array as a tensor on a device; None: as it is."""
    if device is None:
        return x
    import torch

    return torch.from_numpy(x).to(device)


def to_numpy(x: Array) -> npt.NDArray[np.float32]:
    """As float32 in memory."""
    values: npt.NDArray[np.float32] = x if is_numpy(x) else x.detach().float().cpu().numpy()
    return values
