"""The weeks of a soak, drawn from its seed: the corpus of each week, its fault and the moment of that fault."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from benchmarks.faults.steps import STEPS

FAULTS = (
    "none", "kill-driver", "s3-down", "s3-503", "partition", "expired-credential", "mlflow-down", "disk-full",
    "damaged", "two-schedules", "deleted-photo", "deleted-output",
)  # fmt: skip

FIRST_PHOTOS = 10
DAMAGED = 2
"""Damaged files of a week with the fault ``damaged``; they are gone in the next week."""

AWAY_S = (3.0, 12.0, 45.0)
"""Seconds of an outage: below the first retries, below the last ones, beyond them."""

DISK_KIB = (16, 64, 256)
TRAIN_STEPS = (4, 16, 64)
"""Training steps: models of different quality, so that the gate decides both ways."""

REQUESTS = 5
"""A fault begins at one of the first requests of its step to S3, by chance."""


@dataclass(frozen=True, order=True)
class Picture:
    """A photograph of the corpus: its name, and the seed of its contents."""

    name: str
    seed: int


@dataclass(frozen=True)
class Week:
    """A week. The fault begins at request number ``request`` (from 1) of ``step`` to S3, and lasts ``away_s``.

    ``corpus``: the photographs, by name. ``damaged``: names of further files that are no whole pictures. ``steps``:
    training steps. ``chance``: in [0, 1), chooses the object that is deleted.
    """

    number: int
    fault: str
    step: str
    request: int
    away_s: float
    disk_kib: int
    steps: int
    chance: float
    corpus: tuple[Picture, ...]
    damaged: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted([*(picture.name for picture in self.corpus), *self.damaged]))


def plan_weeks(seed: int, count: int, faults: Sequence[str] = FAULTS) -> list[Week]:
    """Plan the first ``count`` weeks. More weeks of the same seed and faults begin with the same ones."""
    return list(islice(_weeks(random.Random(seed), faults), count))


def _weeks(rng: random.Random, faults: Sequence[str]) -> Iterator[Week]:
    corpus: dict[str, int] = {}
    made, waiting, number = 0, list[str](), 0
    while True:
        number += 1
        if corpus:
            for name in rng.sample(sorted(corpus), rng.randint(0, 1)):
                del corpus[name]
            for name in rng.sample(sorted(corpus), rng.randint(0, 2)):
                corpus[name], made = made, made + 1
        for _ in range(rng.randint(1, 3) if corpus else FIRST_PHOTOS):
            corpus[f"photo {made:04d}.jpg"], made = made, made + 1
        if not waiting:  # each fault once, in random order, before any comes again
            waiting = rng.sample(list(faults), len(faults))
        fault = waiting.pop()
        step = rng.choice(STEPS)
        damaged = [f"damaged {number:02d}-{i}.jpg" for i in range(DAMAGED)] if fault == "damaged" else []
        yield Week(
            number,
            fault,
            step if fault != "deleted-photo" else "prepare",  # the only step that reads photographs
            rng.randint(1, REQUESTS),
            rng.choice(AWAY_S),
            rng.choice(DISK_KIB),
            rng.choice(TRAIN_STEPS),
            rng.random(),
            tuple(Picture(name, corpus[name]) for name in sorted(corpus)),
            tuple(damaged),
        )
