"""A network over a picture or a latent by strips, which is never in memory as a whole on its way in. No torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hfd.engine.base import Values

PixelRows = Callable[[int, int], Values]
"""Rows ``first`` to ``last`` (exclusive) of a picture, (1, 3, last - first, W) float in [0, 1], or of a latent."""


def by_strips(
    network: Callable[[Values], Values], rows: PixelRows, height: int, *, reach: int, stride: int, strip: int
) -> Values:
    """The output (1, C, H / stride, W / stride), float32, of a network that looks ``reach`` rows of its input far.

    ``strip``: rows of the output at once. The result is the network's of the whole, up to rounding.
    """
    margin = -(-reach // stride)
    out: Values | None = None
    for first in range(0, height // stride, strip):
        last = min(first + strip, height // stride)
        low, high = max(0, first - margin), min(height // stride, last + margin)
        part = network(rows(stride * low, stride * high))
        if out is None:
            out = np.empty((1, part.shape[1], height // stride, part.shape[3]), np.float32)  # allocated once
        out[:, :, first:last] = part[:, :, first - low : last - low]
    assert out is not None
    return out
