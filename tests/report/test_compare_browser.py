"""The page of a comparison in a real browser: lists, gallery side by side, tables, keyboard, nothing requested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfd.report.compare.content import (
    ComparedRow,
    ComparedRun,
    ComparedSet,
    ComparedTable,
    Comparison,
    curve_name,
)
from hfd.report.compare.page import render_comparison
from hfd.report.content import Extremes
from tests.support.report_rows import summary_row
from tests.support.shown import shown_example

pytestmark = pytest.mark.integration

NAMES = ("one", "two")


def row(run: str, bpp: float) -> ComparedRow:
    values = summary_row("sample", "1 step", 3, bpp, None, 27.0, 0.9, 0.5, 31.0, None, 0.1, 0.2)
    return ComparedRow(curve_name(run, values, ours=True), run, True, values, {"psnr": (26.0, 28.5)}, {})


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs; the gallery has a.png and b.png, plain greys: 0 for the original, 100 and 200 for the runs."""
    rows = (row("one", 0.2), row("two", 0.1))
    labels = ["original", *(one.label for one in rows)]
    greys = [np.full((100, 160, 3), 100 * place, np.uint8) for place in range(3)]
    examples = tuple(shown_example(name, dict(zip(labels, greys, strict=True))) for name in ("a.png", "b.png"))
    extremes = [
        Extremes(one.label, metric, (("c.png", 1.0), ("b.png", 2.0)), (("a.png", 3.0), ("b.png", 2.0)))
        for one in rows
        for metric in ("psnr", "ms_ssim")
    ]
    made = ComparedSet("3 pictures", ("a.png", "b.png", "c.png"), (ComparedTable("", rows),), tuple(extremes), examples)
    runs = tuple(ComparedRun(name, (("Place", name),), "hfd retrain", "name: a\n") for name in NAMES)
    path = tmp_path_factory.mktemp("compare") / "report.html"
    page = render_comparison(Comparison("Compared", (made,), runs, ("A warning.",), "hfd report one two"))
    path.write_text(page, encoding="utf-8")
    return path


def tags(page: Any) -> list[str]:
    texts: list[str] = page.locator(".example:visible .tags span").all_inner_texts()
    return texts


def transforms(page: Any) -> list[str]:
    script = (
        "[...document.querySelectorAll('.example:not([hidden]) .layer img')].map(e => getComputedStyle(e).transform)"
    )
    found: list[str] = page.evaluate(script)
    return found


def test_a_list_is_chosen_and_opens_its_picture_beside_the_original(page: Any) -> None:
    assert page.locator(".lists:visible").count() == 1
    system, metric = page.locator(".pickers select").all()
    system.select_option(label="two: sample, 1 step")
    metric.select_option(label="MS-SSIM")
    assert page.locator(".lists:visible .subset").inner_text() == "two: sample, 1 step: MS-SSIM"
    assert page.locator(".lists:visible li p").inner_text().split() == ["c.png", "1.0000"]  # not in the gallery
    page.locator(".lists:visible button", has_text="b.png").first.click()
    assert page.locator(".example:visible .name").inner_text().startswith("b.png")
    assert tags(page) == ["original", "two: sample, 1 step"]


def test_any_two_systems_stay_chosen_from_picture_to_picture(page: Any) -> None:
    page.get_by_role("button", name="two: sample, 1 step on the left").first.click()
    page.get_by_role("button", name="one: sample, 1 step on the right").first.click()
    page.locator(".strip").get_by_role("button", name="b.png").click()
    assert tags(page) == ["two: sample, 1 step", "one: sample, 1 step"]


def test_side_by_side_both_pictures_zoom_and_move_together_by_keyboard(page: Any) -> None:
    stage = page.locator(".example:visible .layers")
    button = page.locator(".example:visible .sides")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    box = stage.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(2 * 160 / 100, rel=0.02)
    boxes = [page.locator(f".example:visible .on-{side}").bounding_box() for side in ("left", "right")]
    assert boxes[0]["x"] + boxes[0]["width"] == pytest.approx(boxes[1]["x"], abs=1.0)
    page.locator(".example:visible [data-zoom='2']").focus()
    page.keyboard.press("Enter")
    before = transforms(page)
    assert len(set(before)) == 1 and before[0].startswith("matrix(2,")
    stage.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    after = transforms(page)
    assert len(set(after)) == 1 and after != before
    page.locator(".strip").get_by_role("button", name="b.png").click()
    assert page.locator(".example:visible .layers.beside").count() == 1


def test_every_control_is_reached_by_the_tab_key(page: Any) -> None:
    wanted = page.evaluate(
        """[...document.querySelectorAll('a, button, select, summary, [role=slider], pre, [role=region]')]
           .filter(e => e.checkVisibility()).length"""
    )
    seen = set()
    for _ in range(2 * wanted):
        page.keyboard.press("Tab")
        place = page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)")
        if place in seen:
            break
        seen.add(place)
    tags_reached = page.evaluate("places => places.map(i => document.querySelectorAll('*')[i].tagName)", list(seen))
    assert {"A", "BUTTON", "SELECT", "SUMMARY", "PRE"} <= set(tags_reached)
    assert len(seen) >= wanted


def test_the_table_sorts_by_a_heading(page: Any) -> None:
    first = page.locator("#table-0 tbody tr td:first-child")
    assert [text.partition(":")[0] for text in first.all_inner_texts()] == ["one", "two"]
    page.locator("#table-0 th", has_text="bpp").first.get_by_role("button").click()
    assert [text.partition(":")[0] for text in first.all_inner_texts()] == ["two", "one"]


def test_without_scripts_every_list_and_picture_is_visible(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(page_file.as_uri())
    assert plain.locator(".lists:visible").count() == 4
    assert plain.locator(".layer img:visible").count() == 6
    context.close()
