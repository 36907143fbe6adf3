"""Summarise an evaluation: from per-image values and distances to one row for each system and setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hfd.metrics.backbones import BackboneName
from hfd.metrics.blocks import BlockSums
from hfd.metrics.bootstrap import MIN_IMAGES, Drawn, ImageFeatures, drawn, rows_of
from hfd.metrics.frechet import Features, FloatArray
from hfd.metrics.set_distances import SetDistance, distances_on
from hfd.metrics.table import METRICS, ImageSet, finite, measure_set
from hfd.report.content import OUR_SYSTEMS, Gain, RatePoint, SummaryRow

Curve = tuple[str, str]
"""(system, setting): identifies a row of the summary."""


@dataclass(frozen=True)
class CurveDistances:
    """The distances of one system at one setting, by the names of metrics; None if there are too few patches.

    ``draws``: their bootstrap draws; missing with one image, or if no draws were requested.
    """

    values: Mapping[str, float | None] = field(default_factory=dict)
    draws: Mapping[str, Drawn] = field(default_factory=dict)

    def __or__(self, other: CurveDistances) -> CurveDistances:
        """These and those over the features of another network."""
        return CurveDistances({**self.values, **other.values}, {**self.draws, **other.draws})

    @property
    def drawn(self) -> dict[str, Drawn]:
        """The existing draws, by the label of the metric."""
        return {METRICS[name].label: one for name, one in self.draws.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CurveDistances:
        """Create from a JSON object, as `dataclasses.asdict` returns it, or as earlier versions wrote it."""
        if "fd" in record:
            values = {"fd_effnet": record["fd"], "kd_effnet": record["kd"]}
            draws = {"fd_effnet": record["fd_drawn"], "kd_effnet": record["kd_drawn"]}
        else:
            values, draws = record["values"], record["draws"]
        known = {name: Drawn(one["value"], tuple(one["draws"])) for name, one in draws.items() if one is not None}
        return cls(values, known)


def distances_of_images(
    originals: ImageFeatures, decoded: ImageFeatures, draws: int, backbone: BackboneName = "efficientnet"
) -> CurveDistances:
    """Compute distances from all patches at once: image -> features (P, D) of both, for the images of ``decoded``.

    0 ``draws``: no intervals. A distance with fewer patches than it needs is None.
    """
    reference, features, _ = _rows(originals, decoded)
    found = {
        one.name: one.kind.of_sets(reference, features) if len(features) >= one.least_patches else None
        for one in distances_on(backbone)
    }
    return CurveDistances(found, draws_of_images(originals, decoded, draws, backbone))


def draws_of_images(
    originals: ImageFeatures, decoded: ImageFeatures, draws: int, backbone: BackboneName = "efficientnet"
) -> dict[str, Drawn]:
    """Return the bootstrap draws of the distances, for the images of ``decoded``."""
    reference, features, patches = _rows(originals, decoded)
    return {
        one.name: drawn(one.kind.of_counts(reference, features, patches), patches, draws=draws)
        for one in distances_on(backbone)
        if _can_draw(one, patches, draws)
    }


def distances_of_blocks(
    blocks: Sequence[BlockSums], draws: int, backbone: BackboneName = "efficientnet"
) -> CurveDistances:
    """Compute distances from sums over blocks of images; intervals over blocks, in place of images."""
    patches = [block.decoded.num for block in blocks]
    values: dict[str, float | None] = {}
    found: dict[str, Drawn] = {}
    for one in distances_on(backbone):
        if sum(patches) < one.least_patches:
            values[one.name] = None
            continue
        of_counts = one.kind.of_blocks(blocks)
        value = of_counts(np.ones(len(blocks)))
        values[one.name] = value if math.isfinite(value) else None
        if _can_draw(one, patches, draws):
            found[one.name] = drawn(of_counts, patches, draws=draws)
    return CurveDistances(values, found)


def _rows(originals: ImageFeatures, decoded: ImageFeatures) -> tuple[Features, Features, list[int]]:
    images = list(decoded)
    reference, features = (rows_of(images, {image: side[image] for image in images}) for side in (originals, decoded))
    return reference, features, [len(decoded[image]) for image in images]


def _can_draw(distance: SetDistance, patches: Sequence[int], draws: int) -> bool:
    return draws > 0 and np.count_nonzero(patches) >= MIN_IMAGES and sum(patches) >= distance.least_patches


@dataclass(frozen=True, eq=False)
class CurveRows:
    """The images of one system at one setting: the known values of every per-image metric, float64, by its name."""

    system: str
    setting: str
    num_images: int
    num_pixels: float
    columns: Mapping[str, FloatArray]


def summarise(
    curves: Sequence[CurveRows], distances: Mapping[Curve, CurveDistances], trained_on: Sequence[str] = ()
) -> list[SummaryRow]:
    """Return one row per (system, setting): systems in order of first appearance, each by rising rate.

    Rates and distortions are means over images. ``trained_on``: networks in the training of the rows "sample".
    """
    systems = list(dict.fromkeys(rows.system for rows in curves))
    summary = [summary_row(rows, distances[rows.system, rows.setting]) for rows in curves]
    summary = [replace(row, trained_on=tuple(trained_on)) if row.system == "sample" else row for row in summary]
    return sorted(summary, key=lambda row: (systems.index(row.system), row.bpp))


def gains_over_x_hat(distances: Mapping[Curve, CurveDistances]) -> list[Gain]:
    """Return the distances of every sample less those of x_hat on the same files; empty without draws."""
    x_hat = distances.get(("autoencoder", "x_hat"), CurveDistances()).drawn
    gains = []
    for (system, setting), found in distances.items():
        for metric, drawn_distance in found.drawn.items():
            if system == "sample" and metric in x_hat:
                gain = drawn_distance.less(x_hat[metric])
                gains.append(Gain(setting, metric, gain.value, gain.low, gain.high))
    return gains


def baselines_at_our_rate(summary: Sequence[SummaryRow]) -> list[RatePoint]:
    """Interpolate each baseline to our rate, linearly in log(bpp) between its nearest settings on both sides.

    Our rate is that of the rows "autoencoder". Baselines without a setting on both sides, or without distances, are
    left out, and so are settings that lack some of our images, since their means are over other images.
    """
    ours = [row for row in summary if row.system == "autoencoder"]
    rates = [row.bpp for row in ours]
    points = []
    for system in dict.fromkeys(row.system for row in summary if row.system not in OUR_SYSTEMS):
        rows = sorted(
            (row for row in summary if row.system == system and same_images(row, ours)), key=lambda row: row.bpp
        )
        below = [row for row in rows if rates and row.bpp <= rates[0]]
        above = [row for row in rows if rates and row.bpp > rates[0]]
        if below and above and (point := _between(below[-1], above[0], rates[0])) is not None:
            points.append(point)
    return points


def _between(low: SummaryRow, high: SummaryRow, bpp: float) -> RatePoint | None:
    share = math.log(bpp / low.bpp) / math.log(high.bpp / low.bpp)

    def value(name: str) -> float | None:
        first, second = low.values[name], high.values[name]
        if first is None or second is None or name in low.counts or name in high.counts:
            return None
        between = first + share * (second - first)
        return between if math.isfinite(between) else None

    fd, kd = value("fd_effnet"), value("kd_effnet")
    return None if fd is None or kd is None else RatePoint(low.system, bpp, value("psnr"), fd, kd)


def headline_row(rows: Sequence[SummaryRow]) -> SummaryRow | None:
    """Return the row that the headline describes: the first sample, or else our first row; None without ours."""
    return next((row for name in reversed(OUR_SYSTEMS) for row in rows if row.system == name), None)


def same_images(row: SummaryRow, ours: Sequence[SummaryRow]) -> bool:
    """Return True if a row has all of our images; a baseline has no others, so equal numbers mean the same images."""
    return bool(ours) and row.num_images == ours[0].num_images


def summary_row(rows: CurveRows, distances: CurveDistances) -> SummaryRow:
    """Return the row of one system at one setting."""
    images = ImageSet(rows.columns, rows.num_pixels, distances.values)
    known = {name: len(finite(values)) for name, values in rows.columns.items()}
    counts = {name: num for name, num in known.items() if 0 < num < rows.num_images}
    return SummaryRow(rows.system, rows.setting, rows.num_images, measure_set(images), counts)
