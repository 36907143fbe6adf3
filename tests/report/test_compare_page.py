"""The page of a comparison: columns by protocol, intervals, escaped text, nothing from outside."""

from __future__ import annotations

import dataclasses
import re

import pytest

from hfd.metrics.table import METRICS
from hfd.report.compare.content import (
    ComparedRow,
    ComparedRun,
    ComparedSet,
    ComparedTable,
    Comparison,
    curve_name,
)
from hfd.report.compare.curves import curve_plot
from hfd.report.compare.page import protocol_columns, render_comparison
from hfd.report.content import Extremes, ShownExample, ShownVersion
from hfd.report.gallery import thumbnail
from hfd.report.template import webp_uri
from tests.report.test_report_page import Page, picture
from tests.support.report_rows import summary_row

LINE = re.compile(r'<path d="M [\d.]+ [\d.]+ \nL [\d.]+ [\d.]+ \n"[^>]*stroke: #0b5fc4; stroke-width: 1.8')
"""A line of two points in the first colour."""
SMALL, LARGE = "patches of 64 px", "patches of 256 px"


def row(run: str, system: str, bpp: float, fd: float | None, protocol: str = SMALL, setting: str = "s") -> ComparedRow:
    ours = system in ("autoencoder", "sample")
    values = summary_row(system, setting, 2, bpp, None, 27.0, 0.9, 0.5, fd, None, 0.1, 0.2)
    protocols = {"fd_effnet": protocol, "kd_effnet": protocol}
    return ComparedRow(curve_name(run, values, ours=ours), run, ours, values, {"psnr": (26.0, 28.5)}, protocols)


def comparison(*rows: ComparedRow, **changes: object) -> Comparison:
    versions = [ShownVersion(name, "caption", webp_uri(b"x")) for name in ("original", *(one.label for one in rows))]
    example = ShownExample("a.png", 40, 24, thumbnail(picture(0)), versions)
    extremes = Extremes(rows[0].label, "psnr", (("b.png", 20.0), ("a.png", 30.0)), (("a.png", 30.0), ("b.png", 20.0)))
    one = ComparedSet("2 pictures", ("a.png", "b.png"), (ComparedTable("", rows),), (extremes,), (example,), "note")
    run = ComparedRun("one", (("Place", "runs/one"),), "hfd retrain -c settings.yaml", "name: one\n")
    return dataclasses.replace(
        Comparison("Two runs", (one,), (run,), ("a warning",), "hfd report one two"),
        **changes,  # type: ignore[arg-type]
    )


def cells(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.S)
    return [[re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", one)] for one in rows]


def test_numbers_of_two_protocols_are_in_two_columns() -> None:
    rows = (row("one", "sample", 0.2, 31.0, SMALL), row("two", "sample", 0.3, 62.0, LARGE))
    names = [(column.metric.name, column.protocol) for column in protocol_columns(rows)]
    assert [name for name in names if name[0] == "fd_effnet"] == [("fd_effnet", SMALL), ("fd_effnet", LARGE)]
    head, first, second = cells(render_comparison(comparison(*rows)))
    at = [head.index(f"FD-EffNet · {protocol}") for protocol in (SMALL, LARGE)]
    assert "FD-EffNet" not in head and head.count("PSNR dB") == 1
    assert [[line[place] for place in at] for line in (first, second)] == [["31.0", "–"], ["–", "62.0"]]
    plots = [
        curve_plot(rows, METRICS["fd_effnet"], protocol, [one.curve for one in rows]) for protocol in (SMALL, LARGE)
    ]
    assert [[mark.text.partition(":")[0] for mark in plot.marks] for plot in plots] == [["one"], ["two"]]


def test_one_protocol_is_one_column_and_named_below_the_table() -> None:
    page = render_comparison(comparison(row("one", "sample", 0.2, 31.0), row("two", "sample", 0.3, 62.0)))
    assert cells(page)[0].count("FD-EffNet") == 1
    assert f"FD-EffNet, KD-EffNet: {SMALL}." in page


def test_an_interval_is_beside_its_number_and_at_its_mark() -> None:
    rows = (row("one", "sample", 0.2, 31.0), row("one", "avif", 0.3, None))
    page = render_comparison(comparison(*rows))
    assert '<td data-value="27.0" title="95 % between 26.00 and 28.50">27.00 <small>±1.25</small></td>' in page
    chart = curve_plot(rows, METRICS["psnr"], "", [one.curve for one in rows])
    assert next(mark.text for mark in chart.marks).endswith("PSNR dB 27.00, 95 % 26.00 to 28.50")
    assert len(curve_plot(rows, METRICS["fd_effnet"], SMALL, [one.curve for one in rows]).marks) == 1


def test_points_of_one_curve_are_joined() -> None:
    apart = [row("one", "sample", 0.2, 31.0), row("two", "sample", 0.3, 62.0)]
    joined = [row("ours", "sample", 0.2, 31.0), row("ours", "sample", 0.3, 62.0)]
    counts = []
    for rows in (apart, joined):
        svg = curve_plot(rows, METRICS["fd_effnet"], SMALL, list(dict.fromkeys(one.curve for one in rows))).svg.decode()
        counts.append(len(LINE.findall(svg)))
    assert counts == [0, 1]


def test_nothing_is_loaded_and_all_text_is_escaped() -> None:
    bad = "\"><script>alert(1)</script><img src=x onerror=alert(1)>$' & {{"
    made = comparison(row(bad, "sample", 0.2, 31.0, bad, bad), row(bad, bad, 0.2, 31.0, bad, bad))
    run = ComparedRun(bad, ((bad, bad),), bad, bad)
    text = render_comparison(dataclasses.replace(made, title=bad, runs=(run,), warnings=(bad,), command=bad))
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    for _, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert "http://" not in text and "https://" not in text


def test_a_page_without_pictures_says_so() -> None:
    made = comparison(row("one", "sample", 0.2, 31.0))
    bare = dataclasses.replace(made.sets[0], examples=(), extremes=(), pictures_note="")
    page = render_comparison(dataclasses.replace(made, sets=(bare,)))
    assert "This report has no pictures." in page and "No evaluation here has results of single pictures." in page


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1 evaluation, 1 system, 2 pictures."), (2, "2 evaluations, 1 system")]
)
def test_the_claim_counts_what_is_compared(number: int, text: str) -> None:
    made = comparison(row("one", "sample", 0.2, 31.0))
    assert text in render_comparison(dataclasses.replace(made, runs=made.runs * number))
