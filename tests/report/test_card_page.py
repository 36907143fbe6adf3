"""The card of a data set: counts that add up, text that cannot break out, and a sheet of the right pictures."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hfd.report.charts import Chart
from hfd.report.data_card import COLUMNS, TILE_PX, Card, Property, contact_sheet, render_card
from hfd.report.histograms import bars, bin_edges, histogram
from tests.support.pictures import photograph

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60)


def counts_of(chart: Chart) -> list[tuple[int, int]]:
    """(kept, rejected) of every bar, from its tooltip."""
    found = [re.fullmatch(r".*: (\d+) kept, (\d+) rejected", mark.text) for mark in chart.marks]
    return [(int(one[1]), int(one[2])) for one in found if one]


@settings(deadline=None, max_examples=5)  # each example draws a chart
@given(VALUES, VALUES, st.booleans())
def test_every_photograph_is_in_one_bar(kept: list[float], rejected: list[float], log: bool) -> None:
    pairs = counts_of(histogram("Title", np.array(kept), np.array(rejected), unit="px", log=log))
    assert sum(pair[0] for pair in pairs) == len(kept) and sum(pair[1] for pair in pairs) == len(rejected)


@given(VALUES, st.booleans())
def test_edges_rise_and_hold_every_value(values: list[float], log: bool) -> None:
    edges = bin_edges(np.array(values), log=log)
    assert (np.diff(edges) > 0).all() and edges[0] <= min(values) and max(values) <= edges[-1]


def test_bars_are_as_high_as_their_counts() -> None:
    chart = histogram("Quality", np.array([90.0, 90, 90, 91]), np.array([91.0, 91, 91]), unit="")
    assert counts_of(chart) == [(3, 0), (1, 3)]
    low, high = chart.marks
    assert low.height == pytest.approx(0.75 * high.height, abs=0.02) and low.left < high.left


def test_names_are_ordered_by_number() -> None:
    chart = bars("Reasons", {"few": (0, 2), "<b>many": (3, 4)})
    assert [mark.text for mark in chart.marks] == ["<b>many: 3 kept, 4 rejected", "few: 0 kept, 2 rejected"]
    assert chart.marks[0].width == pytest.approx(3.5 * chart.marks[1].width, abs=0.05)
    assert {"<b>many", "few", "7", "2"} <= {text.text for text in ET.fromstring(chart.svg).iter(f"{SVG}text")}


def test_a_card_without_photographs_has_a_note() -> None:
    for chart in (histogram("A", np.array([]), np.array([]), unit=""), bars("A", {})):
        assert chart.label in ("A: not measured", "A: none") and chart.marks == ()


def test_the_sheet_holds_the_middle_of_each_picture_in_order() -> None:
    pictures = [np.full((100, 160 + i, 3), (25 * i, 40, 80), dtype=np.uint8) for i in range(COLUMNS + 2)]
    for x in pictures:
        x[:, :20], x[:, -20:] = 255, 255  # outside the middle square
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(pictures))), dtype=int)
    assert sheet.shape == (2 * TILE_PX, COLUMNS * TILE_PX, 3)
    for i in range(COLUMNS + 2):
        top, left = i // COLUMNS * TILE_PX, i % COLUMNS * TILE_PX
        tile = sheet[top + 10 : top + TILE_PX - 10, left + 10 : left + TILE_PX - 10]
        assert abs(tile - [25 * i, 40, 80]).mean() < 4
    assert contact_sheet([]) == b""


CARD = Card(
    "Data card", "s3://bucket/a<b>", {"photographs": 1200}, [Property("Side", "px", np.array([1.0]), np.array([2.0]))],
    {"JPEG": (3, 1)}, {"</svg><script>": (0, 1)}, contact_sheet([photograph(50, 60)]), 1,
)  # fmt: skip


def test_the_page_is_self_contained_and_escapes_text() -> None:
    page = render_card(CARD)
    assert page == render_card(CARD)
    assert "<script" not in page and "a<b>" not in page and "a&lt;b&gt;" in page and "1,200" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "default-src 'none'" in page
    assert page.count("data:image/svg+xml;base64,") == 3 and "data:image/webp;base64," in page


def test_a_card_without_crops_has_no_sheet() -> None:
    assert "image/webp" not in render_card(replace(CARD, sheet=b"", sheet_images=0))


@pytest.mark.parametrize(("least", "most"), [(0.16, 2.9), (300.0, 1300.0), (700.0, 900.0), (1.0, 1e6)])
def test_labels_of_a_logarithmic_axis_are_few_and_plain(least: float, most: float) -> None:
    values = np.geomspace(least, most, 30)
    chart = histogram("Size", values, np.empty(0), unit="px", log=True)
    texts = ["".join(one.itertext()).strip() for one in ET.fromstring(chart.svg).iter(f"{SVG}text")]
    along = [text for text in texts if re.fullmatch(r"[\d.e+-]+", text) and least <= float(text) <= most]
    assert 1 <= len(along) <= 14 and not any("10^" in text or "\u00d7" in text for text in texts)
