"""The best file within a number of bytes, over the rates that several models have. No torch: it is given functions.

Within a model a finer quantiser makes a larger file, so that the finest that fits is found by bisection. Between models
that is not enough: each is best near the rate that it was trained for, and a coarse quantiser on a model of high rate
makes as many bytes as a fine one on a model of low rate, at another quality. Which is better depends on the picture,
and costs one decoding of stage 1 to know. So the best of each model is decoded and the least squared error wins: no
estimate, no threshold that was fitted to other pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hfd.errors import DataError

_IDS_PER_OCTAVE = 18.0
"""How many ids halve a file, about, while only one size is known. A wrong figure costs encodings, nothing else."""

_GUIDED = 7
"""Encodings after which plain bisection takes over, so that sizes like no others' cannot make the search long."""


class RatedEncoder(Protocol):
    """A model that is searched for one picture. ``rates``: ids, ascending, from fine to coarse."""

    @property
    def name(self) -> str: ...

    @property
    def rates(self) -> Sequence[int]: ...

    def start(self) -> Callable[[int], bytes]:
        """Do the work that all rates share; return the function from a rate id to the finished file."""

    def mse(self, data: bytes) -> float:
        """Mean squared error of a file's stage 1."""


@dataclass(frozen=True)
class Choice:
    """A file and what made it: the model's ``name`` and the ``rate`` id."""

    name: str
    rate: int
    data: bytes


@dataclass(frozen=True)
class Finest:
    """``choice``: the finest rate that fits, None where none does; ``smallest_bytes``: the smallest file seen."""

    choice: Choice | None
    smallest_bytes: int


def finest_within(encoder: RatedEncoder, limit_bytes: int) -> Finest:
    """The finest of a model's rates whose file fits, by bisection that sizes guide: four or five encodings, mostly.

    Sizes need not fall strictly: what is returned was measured to fit, and the next finer rate measured not to. Where
    even the coarsest rate does not fit, none does.
    """
    rates, sizes = encoder.rates, dict[int, int]()
    best: Choice | None = None
    encode = encoder.start()  # let go with the search, since it holds a latent
    too_large, fitting = -1, len(rates)  # the bracket, in places among the rates; its ends are not measured yet
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
    """Where log bytes cross the limit if they are linear in the rate id, as they nearly are; inside the bracket."""
    if not sizes:
        return (too_large + fitting) // 2
    ends = sorted(sizes, key=lambda at: abs(math.log(sizes[at] / limit_bytes)))[:2]
    near, slope = ends[0], 1.0 / _IDS_PER_OCTAVE
    if len(ends) == 2 and (sizes[ends[0]] - sizes[ends[1]]) * (ends[1] - ends[0]) > 0:
        slope = math.log2(sizes[ends[0]] / sizes[ends[1]]) / (ends[1] - ends[0])
    at = near + math.log2(sizes[near] / limit_bytes) / slope
    return min(fitting - 1, max(too_large + 1, math.ceil(at)))


def best_within(encoders: Sequence[RatedEncoder], limit_bytes: int) -> Choice:
    """The file of at most ``limit_bytes`` with the least error, over all models and rates.

    Of equal errors the smaller file. Raises :class:`DataError`, naming the smallest file there can be, where none fits.
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
