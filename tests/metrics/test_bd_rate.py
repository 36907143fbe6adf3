"""Bjontegaard rates against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hfd.errors import DataError
from hfd.metrics.bd_rate import bd_rate

BPP = [0.1, 0.2, 0.35, 0.6, 1.0]
PSNR = [28.0, 30.1, 32.0, 34.2, 36.0]
FD = [300.0, 220.0, 150.0, 90.0, 60.0]


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.3])
@pytest.mark.parametrize("metric", [PSNR, FD], ids=["rising", "falling"])
def test_scaled_rates_give_the_scale(factor: float, metric: list[float]) -> None:
    got = bd_rate(BPP, metric, [factor * rate for rate in BPP], metric)
    assert got == pytest.approx(100 * (factor - 1), abs=1e-9)


def test_straight_lines_in_log_rate_have_a_closed_form() -> None:
    # log rate = a metric + b on both; the overlap is [30, 36], its middle 33.
    anchor_metric, test_metric = np.linspace(28, 36, 5), np.linspace(30, 40, 6)
    anchor_bpp, test_bpp = np.exp(0.2 * anchor_metric - 8.0), np.exp(0.25 * test_metric - 9.9)
    expected = 100 * math.expm1((0.25 - 0.2) * 33 - (9.9 - 8.0))
    got = bd_rate(list(anchor_bpp), list(anchor_metric), list(test_bpp), list(test_metric))
    assert got == pytest.approx(expected, rel=1e-9)


def test_swapping_the_codecs_inverts_the_factor() -> None:
    other = [28.5, 30.9, 32.4, 34.9, 36.9]
    forth, back = bd_rate(BPP, PSNR, BPP, other), bd_rate(BPP, other, BPP, PSNR)
    assert forth is not None
    assert back is not None
    assert forth < 0 < back
    assert (1 + forth / 100) * (1 + back / 100) == pytest.approx(1.0, abs=1e-12)


def test_the_order_of_points_does_not_matter() -> None:
    order = [3, 0, 4, 2, 1]
    other = [rate * (0.7 + 0.1 * i) for i, rate in enumerate(BPP)]
    shuffled = bd_rate([BPP[i] for i in order], [PSNR[i] for i in order], other, PSNR)
    assert shuffled == bd_rate(BPP, PSNR, other, PSNR)


def test_two_points_are_enough() -> None:
    assert bd_rate([0.1, 0.4], [30.0, 34.0], [0.2, 0.8], [30.0, 34.0]) == pytest.approx(100.0)


@pytest.mark.parametrize("shift", [8.0, 20.0], ids=["touching", "apart"])
def test_ranges_that_do_not_overlap_give_none(shift: float) -> None:
    assert bd_rate(BPP, PSNR, BPP, [value + shift for value in PSNR]) is None


def test_a_metric_that_turns_back_is_refused() -> None:
    with pytest.raises(DataError, match="test: got metric") as caught:
        bd_rate(BPP, PSNR, BPP, [28.0, 30.0, 29.9, 34.0, 36.0])
    assert caught.value.reason == "not-monotone"
    with pytest.raises(DataError, match="anchor: got metric"):
        bd_rate(BPP, [28.0, 30.0, 30.0, 34.0, 36.0], BPP, PSNR)


@pytest.mark.parametrize(
    ("rates", "values"),
    [
        ([0.1], [30.0]),
        ([0.1, 0.2], [30.0]),
        ([0.0, 0.2], [30.0, 31.0]),
        ([0.1, 0.2], [30.0, math.inf]),
        ([0.1, math.nan], [30.0, 31.0]),
    ],
)
def test_unusable_points_are_refused(rates: list[float], values: list[float]) -> None:
    with pytest.raises(DataError, match="expected at least 2 finite pairs") as caught:
        bd_rate(rates, values, BPP, PSNR)
    assert caught.value.reason == "unusable"
