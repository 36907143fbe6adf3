"""Charts are SVG files of their own, with a mark for every point."""

from __future__ import annotations

import base64
import dataclasses
import math
import xml.etree.ElementTree as ET

import pytest

from hfd.metrics.table import METRICS, Metric
from hfd.report.charts import Chart
from hfd.report.content import SummaryRow
from hfd.report.plots import energy_chart, rate_plot, system_colour
from tests.support.report_rows import summary_row, with_values

SVG = "{http://www.w3.org/2000/svg}"
PLOTTED = [metric for metric in METRICS.values() if metric.caption]
PSNR = METRICS["psnr"]


def row(system: str, setting: str, bpp: float, quality: float | None) -> SummaryRow:
    psnr = math.nan if quality is None else quality
    return summary_row(system, setting, 4, bpp, None, psnr, quality, 0.5, quality, quality, 0.1, 0.1)


ROWS = (
    row("autoencoder", "", 0.12, 28.0),
    row("sample", "50 steps", 0.12, 27.0),
    row("avif", "at least our rate", 0.2, 29.0),
    row("avif", "at most our rate", 0.1, 26.0),
)


def texts(chart: Chart) -> set[str]:
    return {element.text or "" for element in ET.fromstring(chart.svg).iter(f"{SVG}text")}


@pytest.mark.parametrize("metric", PLOTTED)
def test_each_row_is_a_mark_with_its_numbers(metric: Metric) -> None:
    rows = [with_values(row, **{metric.name: 0.5}) if metric.optional else row for row in ROWS]
    chart = rate_plot(rows, metric)
    assert len(chart.marks) == len(ROWS)
    assert chart.marks[1].text.startswith("sample (stage 2), 50 steps: 0.120 bpp")


def test_marks_lie_in_the_order_of_their_values() -> None:
    stage_1, sample, high, low = rate_plot(ROWS, PSNR).marks
    assert low.left < stage_1.left == sample.left < high.left
    assert high.top < stage_1.top < sample.top < low.top
    assert all(0 < mark.left < 100 and 0 < mark.top < 100 and mark.width > 1 for mark in (stage_1, sample, high, low))


def test_only_a_baseline_is_joined_by_a_line() -> None:
    paths = [element.get("style", "") for element in ET.fromstring(rate_plot(ROWS, PSNR).svg).iter(f"{SVG}path")]
    lines = [style for style in paths if "stroke-width: 1.8" in style]
    assert len(lines) == 1 and "#6a45bf" in lines[0] and system_colour("avif") == "var(--c-avif, #6a45bf)"


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_row_without_the_value_is_left_out_and_counted(missing: float | None) -> None:
    chart = rate_plot((*ROWS, with_values(ROWS[0], fd_effnet=missing)), METRICS["fd_effnet"])
    assert len(chart.marks) == len(ROWS)
    assert "1 without a finite value not shown" in texts(chart)


@pytest.mark.parametrize("rows", [(), (row("jpeg", "", 0.1, None),)])
def test_a_chart_without_data_has_a_note(rows: tuple[SummaryRow, ...]) -> None:
    chart = rate_plot(rows, METRICS["kd_effnet"])
    assert "not measured in this run" in texts(chart) and chart.label == "KD-EffNet: not measured in this run"
    assert chart.marks == ()


def test_energy_of_every_row_is_written_out() -> None:
    rows = [with_values(ROWS[0], top_octave_energy=energy) for energy in (0.41, 1.7, math.nan, math.inf)]
    assert {"0.41", "1.70", "–", "∞"} <= texts(energy_chart(rows))
    assert "not measured in this run" in texts(energy_chart([]))


def test_the_output_is_deterministic_and_undated() -> None:
    chart = rate_plot(ROWS, PSNR)
    assert chart == rate_plot(ROWS, PSNR)
    assert b"<dc:date>" not in chart.svg
    assert base64.b64decode(chart.uri.removeprefix("data:image/svg+xml;base64,")) == chart.svg


def test_names_with_markup_or_mathematics_stay_text() -> None:
    name = "_$x<script>"
    hostile = dataclasses.replace(ROWS[0], system=name, setting='$\\frac{</text><script>"')
    for chart in (rate_plot([hostile], PSNR), energy_chart([hostile])):
        assert ET.fromstring(chart.svg).find(f".//{SVG}script") is None
    assert any(text.startswith(name) for text in texts(energy_chart([hostile])))


def test_an_unknown_system_has_the_neutral_colour() -> None:
    assert system_colour("vtm").startswith("var(--c-other, #")
