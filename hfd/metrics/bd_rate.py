"""The Bjontegaard delta rate between two rate curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from hfd.errors import DataError

FloatArray = npt.NDArray[np.float64]


def bd_rate(
    anchor_bpp: Sequence[float],
    anchor_metric: Sequence[float],
    test_bpp: Sequence[float],
    test_metric: Sequence[float],
) -> float | None:
    """Bjontegaard delta rate: average difference of the rates at which two codecs reach the same metric.

    PCHIP (monotone cubic, which does not overshoot as Bjontegaard's polynomial does) interpolates the logarithm of the
    rate as a function of the metric, which is averaged over the metric's common range. Works for metrics of which less
    is better, too.

    Each curve: rates in bpp, in any order, at least two, and the metric at each. Returns percent; -20: the test codec
    needs 20 % fewer bits. None if the ranges of the metric do not overlap.

    Raises:
        DataError: a curve has fewer than two points, a rate that is not positive or a value that is not finite
            (``reason="unusable"``), or its metric is not monotone (``reason="not-monotone"``).
    """
    anchor, test = (
        _log_rate_of_metric(name, rates, values)
        for name, rates, values in (("anchor", anchor_bpp, anchor_metric), ("test", test_bpp, test_metric))
    )
    low, high = max(anchor.x[0], test.x[0]), min(anchor.x[-1], test.x[-1])
    if not low < high:
        return None
    difference = float(test.integrate(low, high) - anchor.integrate(low, high)) / float(high - low)
    return 100.0 * math.expm1(difference)


def _log_rate_of_metric(name: str, bpps: Sequence[float], values: Sequence[float]) -> PchipInterpolator:
    rates, metric = _sorted_curve(name, bpps, values)
    steps = np.diff(metric)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise DataError(
            f"{name}: got metric {metric.tolist()} over rising rates, expected one that rises or falls "
            "throughout. Drop the points out of order.",
            reason="not-monotone",
        )
    order = np.argsort(metric)
    return PchipInterpolator(metric[order], np.log(rates[order]))


def _sorted_curve(name: str, bpps: Sequence[float], values: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    rates, metric = np.asarray(bpps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    usable = (
        rates.ndim == 1
        and rates.shape == metric.shape
        and rates.size >= 2
        and bool(np.all(np.isfinite(rates) & np.isfinite(metric) & (rates > 0)))
    )
    if not usable:
        raise DataError(
            f"{name}: got rates {rates.tolist()} and values {metric.tolist()}, expected at least 2 finite pairs with "
            "rates above 0. Leave unusable points out.",
            reason="unusable",
        )
    order = np.argsort(rates, kind="stable")
    return rates[order], metric[order]
