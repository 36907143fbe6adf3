"""Search for the best file within a number of bytes, over models and rates. No torch.

Within a model a finer quantiser makes a larger file: bisection finds the finest rate that fits. Between models, a
coarse quantiser on a model of high rate makes as many bytes as a fine one on a model of low rate, and the better one
depends on the picture. So stage 1 of each model's best file is decoded, and the least squared error wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hfd.errors import DataError

_IDS_PER_OCTAVE = 18.0
"""Approximate number of ids that halve a file, used while only one size is known. An error only costs encodings."""

_GUIDED = 7
"""Encodings after which the search uses plain bisection, to bound it for unusual sizes."""


class RatedEncoder(Protocol):
    """A model in the search for one picture. ``rates``: ids, ascending, from fine to coarse."""

    @property
    def name(self) -> str: ...

    @property
    def rates(self) -> Sequence[int]: ...

    def start(self) -> Callable[[int], bytes]:
        """Do the work that all rates share; return a function from a rate id to the finished file."""

    def mse(self, data: bytes) -> float:
        """Mean squared error of a file's stage 1."""


@dataclass(frozen=True)
class Choice:
    """A file, with the ``name`` of the model and the ``rate`` id that made it."""

    name: str
    rate: int
    data: bytes


@dataclass(frozen=True)
class Finest:
    """``choice``: the finest rate that fits, None where none does; ``smallest_bytes``: the smallest file seen."""

    choice: Choice | None
    smallest_bytes: int


def finest_within(encoder: RatedEncoder, limit_bytes: int) -> Finest:
    """Find the finest of a model's rates whose file fits, by bisection guided by sizes: mostly four or five encodings.

    Sizes need not fall strictly: the result fits and the next finer rate does not, both as measured. If the coarsest
    rate does not fit, none does.
    """
    rates, sizes = encoder.rates, dict[int, int]()
    best: Choice | None = None
    encode = encoder.start()  # released with the search, since it holds a latent
    too_large, fitting = -1, len(rates)  # the bracket, as indices of rates; its ends are not measured yet
    while fitting - too_large > 1:
        guided = len(sizes) < _GUIDED
        at = _guess(sizes, too_large, fitting, limit_bytes) if guided else (too_large + fitting) // 2
        data = encode(rates[at])
        sizes[at] = len(data)
        if len(data) <= limit_bytes:
            fitting, best = at, Choice(encoder.name, rates[at], data)
        else:
            too_large = at
    return Finest(best, min(sizes.values()))


def _guess(sizes: dict[int, int], too_large: int, fitting: int, limit_bytes: int) -> int:
    """Estimate where log bytes, nearly linear in the rate id, cross the limit; inside the bracket."""
    if not sizes:
        return (too_large + fitting) // 2
    ends = sorted(sizes, key=lambda at: abs(math.log(sizes[at] / limit_bytes)))[:2]
    near, slope = ends[0], 1.0 / _IDS_PER_OCTAVE
    if len(ends) == 2 and (sizes[ends[0]] - sizes[ends[1]]) * (ends[1] - ends[0]) > 0:
        slope = math.log2(sizes[ends[0]] / sizes[ends[1]]) / (ends[1] - ends[0])
    at = near + math.log2(sizes[near] / limit_bytes) / slope
    return min(fitting - 1, max(too_large + 1, math.ceil(at)))


def best_within(encoders: Sequence[RatedEncoder], limit_bytes: int) -> Choice:
    """Find the file of at most ``limit_bytes`` with the least error, over all models and rates.

    With equal errors the smaller file wins. Raises :class:`DataError`, which names the smallest size, if none fits.
    """
    found = [(encoder, finest_within(encoder, limit_bytes)) for encoder in encoders]
    fitting = [(encoder, finest.choice) for encoder, finest in found if finest.choice is not None]
    if not fitting:
        smallest = min(finest.smallest_bytes for _, finest in found)
        raise DataError(
            f"target: got {limit_bytes} bytes, expected at least {smallest}, the smallest file of this picture. "
            "Raise the target or scale the picture down",
            reason="target",
        )
    if len(fitting) == 1:
        return fitting[0][1]
    return min(fitting, key=lambda one: (one[0].mse(one[1].data), len(one[1].data)))[1]
