"""Summarise an evaluation: from per-image values and distances to one row for each system and setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hfd.metrics.blocks import BlockSums, frechet_of_blocks, kernel_of_blocks
from hfd.metrics.bootstrap import MIN_IMAGES, MIN_PATCHES, Drawn, ImageFeatures, drawn, of_images, rows_of
from hfd.metrics.frechet import (
    FloatArray,
    GaussianStats,
    OfCounts,
    frechet_distance,
    frechet_of_counts,
    kernel_distance,
    kernel_of_counts,
)
from hfd.metrics.table import ImageSet, finite, measure_set
from hfd.report.content import OUR_SYSTEMS, Gain, RatePoint, SharedImages, SummaryRow

Curve = tuple[str, str]
"""(system, setting): identifies a row of the summary."""


@dataclass(frozen=True)
class CurveDistances:
    """Both distances of one system at one setting; None if there are too few patches.

    ``fd_drawn``, ``kd_drawn``: their bootstrap draws; None with one image, or if no draws were requested.
    """

    fd: float | None
    kd: float | None
    fd_drawn: Drawn | None = None
    kd_drawn: Drawn | None = None

    @property
    def drawn(self) -> dict[str, Drawn]:
        """The existing draws, by the distance's heading."""
        drawn = {"FD-EffNet": self.fd_drawn, "KD-EffNet": self.kd_drawn}
        return {name: one for name, one in drawn.items() if one is not None}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CurveDistances:
        """Create from a JSON object, as `dataclasses.asdict` returns it."""
        drawn = [record["fd_drawn"], record["kd_drawn"]]
        return cls(
            record["fd"],
            record["kd"],
            *(None if one is None else Drawn(one["value"], tuple(one["draws"])) for one in drawn),
        )


def distances_of_images(originals: ImageFeatures, decoded: ImageFeatures, draws: int) -> CurveDistances:
    """Compute distances from all patches at once: image -> features (P, D) of both, for the images of ``decoded``.

    0 ``draws``: no intervals.
    """
    images = list(decoded)
    reference, features = (rows_of(images, {image: side[image] for image in images}) for side in (originals, decoded))
    if len(features) < MIN_PATCHES:
        return CurveDistances(None, None)
    fd = frechet_distance(GaussianStats.of(reference), GaussianStats.of(features))
    return CurveDistances(fd, kernel_distance(reference, features), *draws_of_images(originals, decoded, draws))


def draws_of_images(originals: ImageFeatures, decoded: ImageFeatures, draws: int) -> tuple[Drawn | None, Drawn | None]:
    """Return the bootstrap draws of both distances, for the images of ``decoded``."""
    images = list(decoded)
    reference, features = (rows_of(images, {image: side[image] for image in images}) for side in (originals, decoded))
    patches = [len(decoded[image]) for image in images]
    return (
        _drawn(lambda: of_images(frechet_of_counts(reference, features), patches), patches, draws),
        _drawn(lambda: of_images(kernel_of_counts(reference, features), patches), patches, draws),
    )


def distances_of_blocks(blocks: Sequence[BlockSums], draws: int) -> CurveDistances:
    """Compute distances from sums over blocks of images; intervals over blocks, in place of images."""
    patches = [block.decoded.num for block in blocks]
    if sum(patches) < MIN_PATCHES:
        return CurveDistances(None, None)
    everything = np.ones(len(blocks))
    frechet, kernel = frechet_of_blocks(blocks), kernel_of_blocks(blocks)
    kd = kernel(everything)
    return CurveDistances(
        frechet(everything),
        kd if math.isfinite(kd) else None,
        _drawn(lambda: frechet, patches, draws),
        _drawn(lambda: kernel, patches, draws),
    )


def _drawn(distance: Callable[[], OfCounts], patches: Sequence[int], draws: int) -> Drawn | None:
    if draws == 0 or np.count_nonzero(patches) < MIN_IMAGES:
        return None
    return drawn(distance(), patches, draws=draws)


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
    x_hat = distances.get(("autoencoder", "x_hat"), CurveDistances(None, None)).drawn
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


def shared_images(other: Curve, ours: CurveRows, distances: CurveDistances, lacking: Sequence[str]) -> SharedImages:
    """Return the headline row over the images of another row: ``ours`` and its distances hold only those."""
    return SharedImages(*other, summary_row(ours, distances), tuple(lacking))


def same_images(row: SummaryRow, ours: Sequence[SummaryRow]) -> bool:
    """Return True if a row has all of our images; a baseline has no others, so equal numbers mean the same images."""
    return bool(ours) and row.num_images == ours[0].num_images


def summary_row(rows: CurveRows, distances: CurveDistances) -> SummaryRow:
    """Return the row of one system at one setting."""
    images = ImageSet(rows.columns, rows.num_pixels, distances.fd, distances.kd)
    known = {name: len(finite(values)) for name, values in rows.columns.items()}
    counts = {name: num for name, num in known.items() if 0 < num < rows.num_images}
    return SummaryRow(rows.system, rows.setting, rows.num_images, measure_set(images), counts)
