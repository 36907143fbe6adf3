"""Plots are valid, self-sufficient SVG that can stand many to a page."""

from __future__ import annotations

import dataclasses
import math
import re
import xml.etree.ElementTree as ET

import pytest

from hfd.metrics.table import METRICS, Metric
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


def points(svg: str) -> list[str]:
    groups = [group for group in ET.fromstring(svg).iter(f"{SVG}g") if "-point-" in group.get("id", "")]
    return [group.findtext(f"{SVG}title", "") for group in groups]


@pytest.mark.parametrize("metric", PLOTTED)
def test_each_row_is_a_point_that_tells_its_numbers(metric: Metric) -> None:
    svg = rate_plot(ROWS, metric)
    titles = points(svg)
    assert len(titles) == len(ROWS)
    assert any(title.startswith("sample (stage 2), 50 steps: 0.120 bpp") for title in titles)


def test_only_a_baseline_is_joined_and_in_order_of_rate() -> None:
    paths = ET.fromstring(rate_plot(ROWS, PSNR)).iter(f"{SVG}path")
    lines = [p for p in paths if "stroke-width: 1.8" in p.get("style", "")]
    assert len(lines) == 1
    assert "--c-avif" in lines[0].get("style", "")
    xs = [float(x) for x in re.findall(r"[ML] ([\d.]+)", lines[0].get("d", ""))]
    assert len(xs) == 2
    assert xs == sorted(xs)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_row_without_the_value_is_left_out_and_counted(missing: float | None) -> None:
    svg = rate_plot((*ROWS, with_values(ROWS[0], fd_effnet=missing)), METRICS["fd_effnet"])
    assert len(points(svg)) == len(ROWS)
    assert "1 without a finite value not shown" in svg


@pytest.mark.parametrize("rows", [(), (row("jpeg", "", 0.1, None),)])
def test_nothing_to_plot_says_so(rows: tuple[SummaryRow, ...]) -> None:
    svg = rate_plot(rows, METRICS["kd_effnet"])
    assert "not measured in this run" in svg
    assert points(svg) == []


def test_energy_of_every_row_is_written_out() -> None:
    rows = [with_values(ROWS[0], top_octave_energy=energy) for energy in (0.41, 1.7, math.nan, math.inf)]
    texts = [element.text for element in ET.fromstring(energy_chart(rows)).iter(f"{SVG}text")]
    assert {"0.41", "1.70", "–", "∞"} <= set(texts)
    assert "not measured in this run" in energy_chart([])


def test_identifiers_are_unique_over_a_page_and_references_hold() -> None:
    svgs = [*(rate_plot(ROWS, metric) for metric in PLOTTED), energy_chart(ROWS)]
    seen: set[str] = set()
    for svg in svgs:
        own = {element.get("id", "") for element in ET.fromstring(svg).iter()} - {""}
        assert own
        assert not own & seen
        seen |= own
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)) <= {
            pair for name in own for pair in ((name, ""), ("", name))
        }


def test_the_output_is_deterministic_and_undated() -> None:
    assert rate_plot(ROWS, PSNR) == rate_plot(ROWS, PSNR)
    assert "<metadata" not in rate_plot(ROWS, PSNR)


def test_no_style_sheet_reaches_beyond_the_plot() -> None:
    assert "<style" not in rate_plot(ROWS, PSNR)


def test_every_colour_follows_the_page() -> None:
    styles = " ".join(e.get("style", "") for e in ET.fromstring(rate_plot(ROWS, PSNR)).iter())
    bare = re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", styles)
    assert bare == []
    assert "var(--c-sample, #" in styles


def test_hostile_names_stay_text() -> None:
    hostile = dataclasses.replace(ROWS[0], system="_$x<script>", setting='$\\frac{</text><script>"')
    for svg in (rate_plot([hostile], PSNR), energy_chart([hostile])):
        root = ET.fromstring(svg)
        assert root.find(f".//{SVG}script") is None
        assert "<script" not in svg


def test_an_unknown_system_has_the_neutral_colour() -> None:
    assert system_colour("vtm").startswith("var(--c-other, #")
