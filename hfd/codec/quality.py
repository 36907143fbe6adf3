"""Rates, and the mapping of qualities 1 to 100 to models and rates."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from hfd.autoencoder.rates import DEFAULT_RATE, MAX_RATE
from hfd.errors import ConfigError

RATES: Sequence[int] = range(94, MAX_RATE + 1)
"""Rate ids in use, finest first. Id r is a step of 2^((r - 128) / 16)."""

SHIPPED_LADDER: Sequence[tuple[int, str, int]] = (
    (1, "desk-012", 178),
    (62, "desk-012", 117),
    (63, "desk-025", 131),
    (100, "desk-025", 94),
)
"""Corners of the mapping of qualities to the shipped models: (quality, model, rate id).

Between two corners of one model the id is linear in the quality, and so the logarithm of the bytes, nearly. The
models change where their curves of PSNR over bytes cross on the Kodak pictures, at about 0.2 bpp. From there each
quality is one id: up to where finer steps gain less than 0.1 dB, and down to where little more than colours remains
(`benchmarks/rate_control.py KODAK` prints the curves and the ladder)."""


@dataclass(frozen=True)
class Rung:
    """A model, by its index, and a rate id."""

    model: int
    rate: int


def rung_of(quality: int, names: Sequence[str], lmbdas: Sequence[float]) -> Rung:
    """Map a quality, 1 to 100, to one of the models sorted by rate. A higher quality never gets a coarser quantiser.

    ``names``, ``lmbdas``: of the models. The shipped ones use `SHIPPED_LADDER`, which was measured. For others,
    log(lmbda / step^2), the weight that the encoder effectively minimises for, rises linearly from the first model's
    coarsest to the last one's finest step; the model with the nearest lmbda is chosen.
    Raises :class:`ConfigError` outside 1 to 100.
    """
    if not 1 <= quality <= 100:
        raise ConfigError(f"quality: got {quality}, expected 1 to 100")
    if {name for _, name, _ in SHIPPED_LADDER} == set(names):
        name, rate = _on_ladder(quality)
        return Rung(list(names).index(name), nearest_rate(rate))
    logs = [0.0] if len(lmbdas) == 1 else [math.log2(lmbda) / 2 for lmbda in lmbdas]
    # In octaves of the step, from the coarsest to the finest.
    low, high = logs[0] - _octaves(RATES[-1]), logs[-1] - _octaves(RATES[0])
    wanted = low + (high - low) * (quality - 1) / 99
    model = min(range(len(logs)), key=lambda k: (abs(logs[k] - wanted), k))
    return Rung(model, nearest_rate(DEFAULT_RATE + round(16 * (logs[model] - wanted))))


def nearest_rate(rate: int) -> int:
    """Return the id in `RATES` nearest to ``rate``."""
    return min(RATES, key=lambda one: (abs(one - rate), one))


def _octaves(rate: int) -> float:
    return (rate - DEFAULT_RATE) / 16


def _on_ladder(quality: int) -> tuple[str, int]:
    at = bisect_right([corner for corner, _, _ in SHIPPED_LADDER], quality) - 1
    corner, name, rate = SHIPPED_LADDER[at]
    if at + 1 == len(SHIPPED_LADDER) or SHIPPED_LADDER[at + 1][1] != name:
        return name, rate
    above, _, end = SHIPPED_LADDER[at + 1]
    return name, round(rate + (end - rate) * (quality - corner) / (above - corner))
