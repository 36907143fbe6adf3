"""The worst and the best pictures of each system by each metric, and their lists as a page shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfd.metrics.frechet import FloatArray
from hfd.metrics.table import METRICS, Metric, image_metrics
from hfd.report.content import Extremes, ShownExample
from hfd.report.tables import format_number

NUM_EXTREMES = 10
"""Pictures at each end of a list."""

_ENERGY = "top_octave_energy"


def extremes_of_row(row: str, name_of: Callable[[int], str], columns: Mapping[str, FloatArray]) -> list[Extremes]:
    """Return the lists of a row by every metric with a direction.

    ``columns``: values by metric, float64 (I,), NaN where unknown; ``name_of`` a picture by its place in them. Equal
    values are in the order of the names.
    """
    found = []
    for metric in image_metrics(columns):
        if metric.name not in columns or not _has_order(metric):
            continue
        values = columns[metric.name]
        known = np.flatnonzero(~np.isnan(values))
        if len(known):
            scores = _scores(metric, values[known])
            worst, best = (
                tuple((name, float(values[place])) for name, place in _first(keys, known, name_of, backwards))
                for keys, backwards in ((scores, False), (-scores, True))
            )
            found.append(Extremes(row, metric.name, worst, best))
    return found


def _first(
    keys: FloatArray, places: npt.NDArray[np.intp], name_of: Callable[[int], str], backwards: bool
) -> list[tuple[str, int]]:
    """Return names and places of the least keys; equal ones by name, ``backwards`` from the last.

    Only the names of these and of those that tie with them are read and sorted: a set may have a million pictures.
    """
    number = min(NUM_EXTREMES, len(keys))
    near = np.flatnonzero(keys <= np.partition(keys, number - 1)[number - 1])
    named = sorted(((name_of(int(places[index])), int(index)) for index in near), reverse=backwards)
    named.sort(key=lambda pair: keys[pair[1]])
    return [(name, int(places[index])) for name, index in named[:number]]


def _has_order(metric: Metric) -> bool:
    return metric.better is not None or metric.name == _ENERGY


def _scores(metric: Metric, values: FloatArray) -> FloatArray:
    """Return numbers that are higher for better values; an energy is best at 1."""
    if metric.name == _ENERGY:
        with np.errstate(divide="ignore", invalid="ignore"):
            scores: FloatArray = np.where(values > 0, -np.abs(np.log(values)), -math.inf)
        return scores
    return values if metric.better == "higher" else -values


@dataclass(frozen=True)
class ShownPicture:
    """A picture of a list; ``number``: its place in the gallery, None if it is not there."""

    image: str
    value: str
    number: int | None


@dataclass(frozen=True)
class ShownList:
    """``key`` identifies row and metric among the lists of a page's section."""

    key: str
    row: str
    metric: str
    worst: Sequence[ShownPicture]
    best: Sequence[ShownPicture]


@dataclass(frozen=True)
class ShownLists:
    """``rows``: (number, name); ``metrics``: (name, heading): what the lists are chosen by."""

    lists: Sequence[ShownList]
    rows: Sequence[tuple[int, str]]
    metrics: Sequence[tuple[str, str]]


def shown_lists(extremes: Sequence[Extremes], examples: Sequence[ShownExample]) -> ShownLists:
    """Prepare the lists beside the gallery ``examples``."""
    places = {example.image: place for place, example in enumerate(examples)}
    rows = list(dict.fromkeys(one.row for one in extremes))
    metrics = list(dict.fromkeys(one.metric for one in extremes))
    lists = [
        ShownList(
            f"{rows.index(found.row)} {found.metric}",
            found.row,
            METRICS[found.metric].heading,
            *(_pictures(side, METRICS[found.metric], places) for side in (found.worst, found.best)),
        )
        for found in extremes
    ]
    return ShownLists(lists, list(enumerate(rows)), [(name, METRICS[name].heading) for name in metrics])


def _pictures(found: Sequence[tuple[str, float]], metric: Metric, places: Mapping[str, int]) -> list[ShownPicture]:
    return [ShownPicture(image, format_number(value, metric.digits), places.get(image)) for image, value in found]
