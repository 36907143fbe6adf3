"""The page in a real browser: the divider, the zoom, the versions, the tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hfd.report.content import Report
from hfd.report.page import render
from tests.support.report_rows import image_row, summary_row
from tests.support.shown import shown_example

pytestmark = pytest.mark.integration

LABELS = ("original", "autoencoder (x_hat)", "sample", "AVIF")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose pictures are plain grey: 0, 60, 120, 180 in the order of LABELS."""
    grey = [np.full((200, 300, 3), 60 * i, dtype=np.uint8) for i in range(4)]
    versions = dict(zip(LABELS, grey, strict=True))
    rates = {"c.png": None, "b.png": 0.3, "a.png": 0.1, "d.png": 0.02}
    images = tuple(
        image_row(name, "sample", "", 300, 200, 9, 0.1, rate, 30.0, None, 1.0, 0.1, 0.1) for name, rate in rates.items()
    )
    row = summary_row("sample", "", 4, 0.1, None, 30.0, None, 1.0, 9.0, None, 0.1, 0.1)
    report = Report(
        "A <b>report</b>",
        (row,),
        images,
        (shown_example("first", versions), shown_example("second", dict(list(versions.items())[:2]))),
        (("a fact", "a value"),),
        (),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


def _split(page: Any) -> float:
    """Return the position of the divider in percent, as the browser computes it: ``inset(0px 48% 0px 0px)``."""
    clip = page.evaluate("getComputedStyle(document.querySelector('.on-left')).clipPath")
    return 100.0 - float(clip.removeprefix("inset(").split()[1].rstrip("%"))


def _box(page: Any) -> dict[str, float]:
    stage = page.locator(".layers").first
    stage.scroll_into_view_if_needed()
    box: dict[str, float] = stage.bounding_box()
    return box


def _greys(page: Any) -> tuple[int, int]:
    """The grey values that are really on screen at a quarter and three quarters of the stage."""
    shot = Image.open(io.BytesIO(page.locator(".layers").first.screenshot())).convert("L")
    y = int(shot.height * 0.8)
    values = [shot.getpixel((int(shot.width * at), y)) for at in (0.25, 0.75)]
    return int(values[0]), int(values[1])


def test_opens_on_original_against_sample(page: Any) -> None:
    assert page.locator(".tags span").all_inner_texts()[:2] == ["original", "sample"]
    assert _greys(page) == (0, 120)
    assert page.locator("h1").inner_text() == "A <b>report</b>"


def test_dragging_moves_the_cut(page: Any) -> None:
    box = _box(page)
    assert _split(page) == pytest.approx(50.0)
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, y, steps=4)
    page.mouse.up()
    assert _split(page) == pytest.approx(90.0, abs=0.5)
    assert _greys(page) == (0, 0)
    page.mouse.move(box["x"] + box["width"] * 0.1, y)
    assert _split(page) == pytest.approx(90.0, abs=0.5)  # released: the pointer no longer drags


def test_touch_drags_too(browser: Any, page_file: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    phone = context.new_page()
    phone.goto(page_file.as_uri())
    box = _box(phone)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    client = context.new_cdp_session(phone)
    for kind, at in (("touchStart", x), ("touchMove", x - 20), ("touchMove", x - 0.3 * box["width"])):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at, "y": y}]})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert _split(phone) == pytest.approx(20.0, abs=1.0)
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_arrow_keys_move_the_divider(page: Any) -> None:
    divider = page.get_by_role("slider").first
    divider.focus()
    page.keyboard.press("ArrowRight")
    assert _split(page) == pytest.approx(52.0)
    assert divider.get_attribute("aria-valuenow") == "52"
    page.keyboard.press("Shift+ArrowLeft")
    assert _split(page) == pytest.approx(42.0)
    page.keyboard.press("End")
    assert _split(page) == pytest.approx(100.0)
    page.keyboard.press("ArrowRight")
    assert _split(page) == pytest.approx(100.0)


def _matrices(page: Any) -> list[list[float]]:
    script = "[...document.querySelectorAll('.example:not([hidden]) .layer img')]"
    texts = page.evaluate(f"{script}.map(e => getComputedStyle(e).transform)")
    return [[float(part) for part in text[7:-1].split(",")] for text in texts]


def test_zoom_keeps_the_middle_and_moves_all_layers_alike(page: Any) -> None:
    box = _box(page)
    page.get_by_role("button", name="4×").first.click()
    first, *others = _matrices(page)
    expected = [4, 0, 0, 4, -1.5 * box["width"], -1.5 * box["height"]]
    assert first == pytest.approx(expected, abs=0.5)
    assert all(other == first for other in others)
    rendering = page.evaluate("getComputedStyle(document.querySelector('.layer img')).imageRendering")
    assert rendering == "pixelated"


def test_dragging_pans_when_zoomed_and_stops_at_the_edge(page: Any) -> None:
    page.get_by_role("button", name="2×").first.click()
    box = _box(page)
    x, y = box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y - 20, steps=3)
    assert _matrices(page)[0][4:] == pytest.approx([-box["width"] / 2 + 30, -box["height"] / 2 - 20], abs=0.5)
    page.mouse.move(x + 5000, y + 5000, steps=3)
    page.mouse.up()
    assert _matrices(page)[0][4:] == [0, 0]
    assert _split(page) == pytest.approx(50.0)
    page.get_by_role("button", name="1×").first.click()
    assert _matrices(page)[0] == [1, 0, 0, 1, 0, 0]


def test_wheel_zooms_with_ctrl_and_scrolls_without(page: Any) -> None:
    box = _box(page)
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -50)
    page.keyboard.up("Control")
    page.locator(".layers.zoomed").first.wait_for()
    zoom = _matrices(page)[0][0]
    assert zoom > 1
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, 120)
    for _ in range(200):  # a wheel scrolls when the browser next draws
        if page.evaluate("scrollY") != before:
            break
        page.wait_for_timeout(25)
    assert page.evaluate("scrollY") > before
    assert _matrices(page)[0][0] == zoom


def test_buttons_choose_the_versions(page: Any) -> None:
    page.get_by_role("button", name="AVIF on the right").first.click()
    assert _greys(page) == (0, 180)
    page.get_by_role("button", name="autoencoder (x_hat) on the left").first.click()
    assert _greys(page) == (60, 180)
    page.get_by_role("button", name="AVIF on the left").first.click()  # taken on the right: they change places
    assert _greys(page) == (180, 60)
    assert page.locator(".tags span").all_inner_texts()[:2] == ["AVIF", "autoencoder (x_hat)"]
    pressed = page.locator("[data-side][aria-pressed=true]:visible").all_inner_texts()
    assert len(pressed) == 2


def test_the_strip_shows_one_example_at_a_time(page: Any) -> None:
    assert page.locator(".example:visible .name").all_inner_texts() == ["first300 × 200 pixels"]
    page.get_by_role("button", name="second").click()
    assert page.locator(".example:visible .name").all_inner_texts() == ["second300 × 200 pixels"]
    assert page.locator(".example:visible .layers").bounding_box()["width"] > 100


def _column(page: Any, index: int) -> list[str]:
    texts: list[str] = page.locator(f"#images tbody tr:visible td:nth-child({index})").all_inner_texts()
    return texts


def test_a_heading_sorts_by_number_with_missing_values_last(page: Any) -> None:
    heading = page.locator("#images th", has_text="bpp est.")
    heading.get_by_role("button").click()
    assert _column(page, 1) == ["d.png", "a.png", "b.png", "c.png"]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert _column(page, 1) == ["b.png", "a.png", "d.png", "c.png"]
    page.locator("#images th", has_text="image").get_by_role("button").click()
    assert _column(page, 1) == ["a.png", "b.png", "c.png", "d.png"]
    assert heading.get_attribute("aria-sort") is None


def test_the_filter_hides_other_rows(page: Any) -> None:
    page.locator(".filter input").fill("B.png sample")
    assert _column(page, 1) == ["b.png"]
    page.locator(".filter input").fill("")
    assert len(_column(page, 1)) == 4


def test_dark_follows_the_reader(browser: Any, page_file: Path) -> None:
    luminances = []
    for scheme in ("light", "dark"):
        opened = browser.new_page(color_scheme=scheme)
        opened.goto(page_file.as_uri())
        colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        luminances.append(int(colour.removeprefix("rgb(").split(",")[0]))
        opened.close()
    assert luminances[0] > 200 > 60 > luminances[1]


def test_without_scripts_every_version_is_visible(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(page_file.as_uri())
    assert plain.locator(".layer img:visible").count() == 6
    assert plain.locator(".divider:visible").count() == 0
    context.close()
