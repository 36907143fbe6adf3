"""The interface of the engines: networks as functions of NumPy arrays, and their reach, for plans of tiles.

Neither this module nor :mod:`hfd.engine.onnx` imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float32]
"""Values of a network, float32 (B, C, H, W) unless stated otherwise, contiguous."""

CELL_PX = 16
"""Side of the area of one position of y, px."""

HYPER_CELLS = 4
"""Side of the area of y of one position of z, positions."""


@dataclass(frozen=True)
class Stage1Reach:
    """Distances along an axis between an output and the inputs that it depends on; upper bounds.

    ``analysis_px``: rows of the picture from the first row of a position of y; ``hyper_analysis_cells``: rows of y from
    the first row of a position of z; ``synthesis_cells``: positions of y from the one that a pixel lies in.
    """

    analysis_px: int
    hyper_analysis_cells: int
    synthesis_cells: int


class Stage1Networks(Protocol):
    """g_a, h_a and g_s of an autoencoder with M channels of y and N of z."""

    @property
    def reach(self) -> Stage1Reach: ...

    def analysis(self, x: Values) -> Values:
        """Compute y (1, M, H/16, W/16) of a picture (1, 3, H, W) in [0, 1]; H and W are multiples of 16."""

    def hyper_analysis(self, y: Values) -> Values:
        """Compute z (1, N, h/4, w/4) of y (1, M, h, w); h and w are multiples of 4."""

    def synthesis(self, y_hat: Values) -> Values:
        """Compute x_hat (1, 3, 16 h, 16 w) in [0, 1] of a latent (1, M, h, w), any h and w."""


class Stage2Network(Protocol):
    """The network of stage 2. Images are in about [-1, 1], with sides that are multiples of :attr:`stride`."""

    @property
    def stride(self) -> int: ...

    @property
    def receptive_field_px(self) -> int:
        """Largest distance along an axis between an output pixel and an input pixel that it depends on."""

    def __call__(self, x_in: Values, x_hat: Values, noise_level: Values, known: Values | None = None) -> Values:
        """Compute the output (B, 3, H, W) for ``x_in`` and ``x_hat`` (B, 3, H, W) and ``noise_level`` (B,).

        ``known`` (B, 4, H, W): finished pixels, zero where unknown, and their mask; None: none are known.
        """
