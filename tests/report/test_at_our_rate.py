"""Baselines at our rate, interpolated between two settings of a codec."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hfd.metrics.table import image_metrics
from hfd.report.content import RatePoint, SummaryRow
from hfd.report.summarise import CurveDistances, CurveRows, baselines_at_our_rate, summarise
from hfd.report.tables import rate_text, summary_text
from tests.support.report_rows import summary_row


def row(system: str, bpp: float, psnr: float = 28.0, fd: float | None = 300.0) -> SummaryRow:
    return summary_row(system, f"{bpp}", 24, bpp, None, psnr, 0.9, 0.5, fd, None if fd is None else fd / 1000, 1.0, 1.0)


def test_a_line_in_log_bpp_is_met_exactly() -> None:
    """PSNR 30 + 3 ln(bpp) and FD 100 - 50 ln(bpp), read between the two rates that are nearest to ours."""
    ours = 0.25
    rates = (0.05, 0.2, 0.4, 0.9)
    codec = [row("avif", bpp, 30 + 3 * math.log(bpp), 100 - 50 * math.log(bpp)) for bpp in rates]
    codec[0], codec[3] = row("avif", 0.05, 0.0, 9e9), row("avif", 0.9, 99.0, 0.0)  # neither is looked at
    (point,) = baselines_at_our_rate([row("autoencoder", ours), *codec])
    assert (point.system, point.bpp) == ("avif", ours)
    assert point.psnr == pytest.approx(30 + 3 * math.log(ours))
    assert point.fd_effnet == pytest.approx(100 - 50 * math.log(ours))
    assert point.kd_effnet == pytest.approx(point.fd_effnet / 1000)


def test_a_setting_at_our_very_rate_is_taken_as_it_is() -> None:
    (point,) = baselines_at_our_rate([row("autoencoder", 0.25), row("webp", 0.25, 29.0, 222.0), row("webp", 0.3)])
    assert (point.psnr, point.fd_effnet) == (29.0, 222.0)


@pytest.mark.parametrize(
    "rows", [[], [row("avif", 0.2)], [row("avif", 0.3)], [row("avif", 0.2), row("avif", 0.3, 28.0, None)]]
)
def test_baselines_without_a_side_or_a_distance_are_left_out(rows: list[SummaryRow]) -> None:
    assert baselines_at_our_rate([row("autoencoder", 0.25), row("sample", 0.25), *rows]) == []


def test_without_our_own_rate_there_is_nothing() -> None:
    assert baselines_at_our_rate([row("avif", 0.2), row("avif", 0.3)]) == []


def test_one_line() -> None:
    point = RatePoint("avif", 0.2512, 29.604, 251.26, 0.14019)
    assert rate_text(point) == "AVIF at 0.251 bpp, interpolated: 29.60 dB, FD-EffNet 251.3, KD-EffNet 0.1402"


def test_a_setting_of_other_images_is_not_compared() -> None:
    fewer = dataclasses.replace(row("avif", 0.2), num_images=23)
    assert baselines_at_our_rate([row("autoencoder", 0.25), fewer, row("avif", 0.3)]) == []
    (point,) = baselines_at_our_rate([row("autoencoder", 0.25), row("avif", 0.1, 20.0), fewer, row("avif", 0.3, 20.0)])
    assert point.psnr == pytest.approx(20.0)
    exact = dataclasses.replace(row("avif", 0.2), counts={"psnr": 23})
    (point,) = baselines_at_our_rate([row("autoencoder", 0.25), exact, row("avif", 0.3)])
    assert point.psnr is None and "interpolated: – dB" in rate_text(point)


def test_means_leave_out_infinite_values_and_count_them() -> None:
    columns = {metric.name: np.array([1.0, 2.0, 6.0]) for metric in image_metrics()}
    columns |= {"psnr": np.array([math.inf, 30.0, 40.0]), "ms_ssim": np.array([0.9]), "lpips": np.array([])}
    curve = CurveRows("autoencoder", "x_hat", 3, 3e6, columns)
    (summary,) = summarise([curve], {("autoencoder", "x_hat"): CurveDistances()})
    assert (summary.values["psnr"], summary.values["ms_ssim"], summary.values["bpp"]) == (35.0, 0.9, 3.0)
    assert summary.counts == {"psnr": 2, "ms_ssim": 1}
    text = summary_text([summary])
    assert "35.00 of 2" in text and "0.9000 of 1" in text and "∞" not in text and "nan" not in text
    assert SummaryRow.from_record(summary.to_record()) == summary
