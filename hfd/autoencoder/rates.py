"""Rate ids: each sets the quantiser step Delta of the latent y.

Delta(r) = 2^((r - 128) / 16), rounded to a multiple of 1/1024: 16 ids double the step. Models are trained for
``DEFAULT_RATE``, a step of one.
"""

from __future__ import annotations

from math import isqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hfd.errors import BitstreamError, ConfigError

DEFAULT_RATE = 128
MIN_RATE = 64
MAX_RATE = 192
"""Steps from 1/16 to 16."""

UNIT_BITS = 10
UNITS = 2**UNIT_BITS
"""Steps, means, scales and quantised latents are multiples of 1/1024."""
WEIGHT_BITS = 16
"""Weights of the entropy networks are multiples of 2^-16."""

Units: TypeAlias = npt.NDArray[np.float64]
"""Whole numbers in float64: values in units of 1/1024, unless said otherwise."""


def step_units(rate: int) -> int:
    """Delta(rate) in units of 1/1024: round(1024 2^((rate - 128) / 16)), in exact integer arithmetic."""
    assert MIN_RATE <= rate <= MAX_RATE
    # floor(2048 2^(e/16)) is the sixteenth root of 2^(16 * 11 + e); half of it, rounded up, is the nearest integer.
    doubled = 1 << (16 * (UNIT_BITS + 1) + rate - DEFAULT_RATE)
    for _ in range(4):
        doubled = isqrt(doubled)
    return (doubled + 1) // 2


def step_of(rate: float) -> float:
    """Unrounded Delta(rate) of any real id, as training draws it."""
    return float(2.0 ** ((rate - DEFAULT_RATE) / 16))


def check_rate(rate: int) -> None:
    """Raise :class:`ConfigError` for a rate out of range."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ConfigError(f"rate: got {rate}, expected {MIN_RATE} to {MAX_RATE}. {DEFAULT_RATE} is the model's own")


def check_rate_of_file(rate: int) -> None:
    """Raise :class:`BitstreamError` for a file's rate out of range."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BitstreamError(f"rate: got {rate}, expected {MIN_RATE} to {MAX_RATE}. The file is damaged")
