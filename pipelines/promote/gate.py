"""Compare the figures of a candidate with those of the champion over the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfd.metrics.bootstrap import COVERAGE, Drawn, percentile_interval
from hfd.metrics.set_distances import SET_DISTANCES
from hfd.metrics.table import METRICS
from hfd.report.tables import format_number

MEAN_DRAWS = 200
"""Number of draws for the intervals of PSNR and bpp, which are printed and decide nothing."""

_DIGITS = {METRICS[one.name].label: METRICS[one.name].digits for one in SET_DISTANCES}
_DIGITS |= {"PSNR dB": 2, "bpp": 4, "images": 0, "decodes": 0}


@dataclass(frozen=True)
class Sampled:
    """Figures of a model: per image, ``bpp`` of its file and ``psnr`` in dB of its sample; distances over all images.

    ``distances``: by name, with bootstrap draws over the images, the same draws for every model measured on the same
    images. Unmeasured distances are missing.
    """

    bpp: Mapping[str, float]
    psnr: Mapping[str, float]
    distances: Mapping[str, Drawn]


@dataclass(frozen=True)
class Limits:
    """Limits for a candidate. Each of ``distances`` must be lower by more than its interval."""

    distances: Sequence[str]
    max_psnr_loss_db: float
    max_bpp_rise: float


@dataclass(frozen=True)
class Criterion:
    """One line of the comparison. None: not measured. ``low`` to ``high``: the difference's 95 % interval."""

    name: str
    champion: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None
    limit: str
    passed: bool


def compare(champion: Sampled, candidate: Sampled, limits: Limits) -> list[Criterion]:
    """Return the criteria, all of which must pass: distances, PSNR, bpp, and equal sets of images.

    Means are over the images that both have. A criterion without a measured value fails.
    """
    images = [image for image in champion.bpp if image in candidate.bpp]
    same = set(champion.bpp) == set(candidate.bpp) and bool(images)
    criteria = [
        _distance(name, champion.distances.get(name), candidate.distances.get(name) if same else None)
        for name in limits.distances
    ]
    criteria.append(_mean("PSNR dB", champion.psnr, candidate.psnr, images, at_least=-limits.max_psnr_loss_db))
    rise = limits.max_bpp_rise * float(np.mean([champion.bpp[image] for image in images])) if images else 0.0
    criteria.append(_mean("bpp", champion.bpp, candidate.bpp, images, at_most=rise))
    theirs, ours = float(len(champion.bpp)), float(len(candidate.bpp))
    return [*criteria, Criterion("images", theirs, ours, ours - theirs, None, None, "the same", same)]


def sanity(candidate: Sampled, distances: Sequence[str]) -> list[Criterion]:
    """Check a first champion: a PSNR on every image (infinite: exact). Distances are printed without a limit."""
    criteria = []
    for name in distances:
        level = _finite(candidate.distances[name].value) if name in candidate.distances else None
        criteria.append(Criterion(name, None, level, None, None, None, "none", True))
    values = list(candidate.psnr.values())
    known = [value for value in values if math.isfinite(value)]
    sane = bool(values) and all(math.isfinite(value) or value == math.inf for value in values)
    criteria.append(Criterion("PSNR dB", None, _average(known), None, None, None, "finite or exact", sane))
    rate = _finite(_average(list(candidate.bpp.values())))
    criteria.append(Criterion("bpp", None, rate, None, None, None, "none", rate is not None))
    return [*criteria, Criterion("images", None, float(len(values)), None, None, None, "1 or more", bool(values))]


def decoding(decodes: bool) -> Criterion:
    """Criterion: a file of the candidate decodes with the weights that would be registered."""
    return Criterion("decodes", None, float(decodes), None, None, None, "1", decodes)


def table(criteria: Sequence[Criterion]) -> str:
    """Format the criteria as aligned text, one a line, without a final line break."""
    heading = ("criterion", "champion", "candidate", "difference", f"{COVERAGE:.0%} interval", "limit", "")
    lines = [heading, *(_cells(criterion) for criterion in criteria)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    lines.insert(1, tuple("─" * width for width in widths))
    texts = (0, 5, 6)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(criterion: Criterion) -> tuple[str, ...]:
    digits = _DIGITS[criterion.name]

    def signed(value: float | None) -> str:
        return format_number(value, digits) if value is None or value <= 0 else f"+{format_number(value, digits)}"

    interval = "–" if criterion.low is None else f"{signed(criterion.low)} to {signed(criterion.high)}"
    return (
        criterion.name,
        format_number(criterion.champion, digits),
        format_number(criterion.candidate, digits),
        signed(criterion.difference),
        interval,
        criterion.limit,
        "pass" if criterion.passed else "FAIL",
    )


def _distance(name: str, champion: Drawn | None, candidate: Drawn | None) -> Criterion:
    limit = "interval below 0"
    levels = [_finite(drawn.value) if drawn is not None else None for drawn in (champion, candidate)]
    if champion is None or candidate is None or None in levels or not _paired(champion.draws, candidate.draws):
        return Criterion(name, levels[0], levels[1], None, None, None, limit, False)
    difference = candidate.less(champion)
    return Criterion(
        name, levels[0], levels[1], difference.value, difference.low, difference.high, limit, difference.is_lower
    )


def _paired(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) > 0 and bool(np.isfinite([one, other]).all())


def _mean(
    name: str,
    champion: Mapping[str, float],
    candidate: Mapping[str, float],
    images: list[str],
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> Criterion:
    """Compare means over images: their difference must be within limits; the interval decides nothing."""
    bound, value = ("at least", at_least) if math.isfinite(at_least) else ("at most", at_most)
    limit = f"{bound} {value:+.{_DIGITS[name]}f}"
    # Infinite PSNR (an exact picture) has no mean. A picture that both decode exactly does not differ.
    exact = [image for image in images if math.inf in (champion[image], candidate[image])]
    if exact:
        limit += f", {len(exact)} exact left out"
        if len(exact) == len(images):
            same = all(candidate[image] == math.inf for image in images)
            return Criterion(name, None, None, None, None, None, limit, same)
        images = [image for image in images if image not in set(exact)]
    theirs, ours = (np.array([values[image] for image in images]) for values in (champion, candidate))
    if not images or not np.isfinite(theirs).all() or not np.isfinite(ours).all():
        return Criterion(name, _finite(_average(theirs)), _finite(_average(ours)), None, None, None, limit, False)
    differences = ours - theirs
    rng, num = np.random.default_rng(0), len(images)
    low, high = percentile_interval([differences[rng.integers(0, num, num)].mean() for _ in range(MEAN_DRAWS)])
    difference = float(differences.mean())
    # Equal models must pass: sums of the same numbers in another order differ by rounding.
    passed = at_least - 1e-9 <= difference <= at_most + 1e-9
    return Criterion(name, float(theirs.mean()), float(ours.mean()), difference, low, high, limit, passed)


def _average(values: Sequence[float] | npt.NDArray[np.float64]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
