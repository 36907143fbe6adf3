"""Per-image rows and features to one row a system and setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hfd.metrics.bootstrap import MIN_IMAGES, paired_differences
from hfd.metrics.frechet import (
    GaussianStats,
    frechet_distance,
    frechet_of_counts,
    kernel_distance,
    kernel_of_counts,
)
from hfd.report.content import OUR_SYSTEMS, Gain, ImageRow, RatePoint, SummaryRow

MIN_PATCHES = 2
"""Fewer patches than this have no covariance: the distances are then None."""


def summarise(
    rows: Sequence[ImageRow],
    originals: Mapping[str, npt.NDArray[np.float32]],
    decoded: Mapping[tuple[str, str], Mapping[str, npt.NDArray[np.float32]]],
) -> list[SummaryRow]:
    """One row per (system, setting): systems in the order in which they first appear, each by rising rate.

    ``originals``: image -> features (P, D) of its patches; ``decoded``: (system, setting) -> image ->
    features. Rates and distortions are means over images; the distances compare all patches of the decoded
    images with the patches of the same originals.
    """
    systems = list(dict.fromkeys(row.system for row in rows))
    curves = dict.fromkeys((row.system, row.setting) for row in rows)
    summary = [
        _summary([row for row in rows if (row.system, row.setting) == curve], originals, decoded[curve])
        for curve in curves
    ]
    return sorted(summary, key=lambda row: (systems.index(row.system), row.bpp))


def gains_over_x_hat(
    originals: Mapping[str, npt.NDArray[np.float32]],
    decoded: Mapping[tuple[str, str], Mapping[str, npt.NDArray[np.float32]]],
    draws: int,
) -> list[Gain]:
    """The distances of every sample less those of x_hat on the same files. None at 0 draws, or with one image."""
    x_hat = decoded.get(("autoencoder", "x_hat"))
    if draws == 0 or x_hat is None or sum(len(features) > 0 for features in originals.values()) < MIN_IMAGES:
        return []
    shared = {image: originals[image] for image in x_hat}
    samples = {setting: features for (system, setting), features in decoded.items() if system == "sample"}
    found = {
        metric: paired_differences(distance, shared, samples, x_hat, draws=draws)
        for metric, distance in (("FD-EffNet", frechet_of_counts), ("KD-EffNet", kernel_of_counts))
    }
    return [
        Gain(setting, metric, of[setting].value, of[setting].low, of[setting].high)
        for setting in samples
        for metric, of in found.items()
    ]


def baselines_at_our_rate(summary: Sequence[SummaryRow]) -> list[RatePoint]:
    """Every baseline with settings on both sides of our rate, linearly interpolated in log(bpp) between the nearest.

    Our rate is that of the rows "autoencoder". A baseline that lacks a side, or the distances, is left out.
    """
    rates = [row.bpp for row in summary if row.system == "autoencoder"]
    points = []
    for system in dict.fromkeys(row.system for row in summary if row.system not in OUR_SYSTEMS):
        rows = sorted((row for row in summary if row.system == system), key=lambda row: row.bpp)
        below = [row for row in rows if rates and row.bpp <= rates[0]]
        above = [row for row in rows if rates and row.bpp > rates[0]]
        if below and above and (point := _between(below[-1], above[0], rates[0])) is not None:
            points.append(point)
    return points


def _between(low: SummaryRow, high: SummaryRow, bpp: float) -> RatePoint | None:
    share = math.log(bpp / low.bpp) / math.log(high.bpp / low.bpp)
    pairs = [(getattr(low, name), getattr(high, name)) for name in ("psnr", "fd_effnet", "kd_effnet")]
    if any(value is None for pair in pairs for value in pair):
        return None
    psnr, fd, kd = (first + share * (second - first) for first, second in pairs)
    return RatePoint(low.system, bpp, psnr, fd, kd)


def _summary(
    rows: Sequence[ImageRow],
    originals: Mapping[str, npt.NDArray[np.float32]],
    decoded: Mapping[str, npt.NDArray[np.float32]],
) -> SummaryRow:
    images = [row.image for row in rows]
    reference = np.concatenate([originals[image] for image in images])
    features = np.concatenate([decoded[image] for image in images])
    enough = len(features) >= MIN_PATCHES
    megapixels = [row.width * row.height / 1e6 for row in rows]
    return SummaryRow(
        system=rows[0].system,
        setting=rows[0].setting,
        num_images=len(rows),
        bpp=_mean([row.bpp for row in rows]),
        bpp_est=_mean_or_none([row.bpp_est for row in rows]),
        psnr=_mean([row.psnr for row in rows]),
        ms_ssim=_mean_or_none([row.ms_ssim for row in rows]),
        top_octave_energy=_mean([row.top_octave_energy for row in rows]),
        fd_effnet=frechet_distance(GaussianStats.of(reference), GaussianStats.of(features)) if enough else None,
        kd_effnet=kernel_distance(reference, features) if enough else None,
        encode_s_per_mp=sum(row.encode_s for row in rows) / sum(megapixels),
        decode_s_per_mp=sum(row.decode_s for row in rows) / sum(megapixels),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None
