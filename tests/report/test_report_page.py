"""The page is self-contained, escapes text, and accepts missing values."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hfd.report.content import Extremes, FewerImages, Report, SummaryRow
from hfd.report.page import render
from tests.support.report_rows import image_row, summary_row, with_values
from tests.support.shown import shown_example

VOID = {"meta", "img", "input", "link", "br"}


def picture(seed: int, height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def summary(system: str, setting: str, bpp: float = 0.1, fd: float | None = 30.0) -> SummaryRow:
    return summary_row(system, setting, 3, bpp, None, 27.0, 0.9, 0.5, fd, None, 0.1, 0.2)


def report(**changes: object) -> Report:
    versions = {name: picture(i) for i, name in enumerate(("a", "b", "c"))}
    base = Report(
        title="An evaluation",
        summary=(
            summary("autoencoder", "", fd=61.0),
            summary("sample", "50 steps", fd=31.0),
            summary("avif", "at most our rate", 0.09, 70.0),
            summary("avif", "at least our rate", 0.12, 55.0),
            summary("avif", "dearest", 0.5, 5.0),
        ),
        images=(image_row("one.png", "sample", "50 steps", 40, 24, 12, 0.1, 0.09, 27.0, None, 0.9, 0.1, 2.0),),
        examples=(shown_example("one.png", versions), shown_example("two.png", versions)),
        facts=(("corpus digest", "sha256:12"),),
        warnings=("1 of 9 photographs rejected",),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


class Page(HTMLParser):
    """The tags, attributes and visible text of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text[self._open[-1]] = self.text.get(self._open[-1], "") + data


def test_nothing_is_loaded_from_outside() -> None:
    text = render(report())
    page = Page(text)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text
    assert "http://" not in text and "https://" not in text


def test_the_policy_allows_this_script_and_no_other() -> None:
    page = Page(render(report()))
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{}]
    digest = base64.b64encode(hashlib.sha256(page.text["script"].encode()).digest()).decode()
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_hostile_text_is_escaped_everywhere() -> None:
    bad = "\"><script>alert(1)</script><img src=x onerror=alert(1)>$title' & {{"
    x = picture(0)
    hostile = report(
        title=bad,
        summary=(*(dataclasses.replace(r, setting=bad) for r in report().summary), summary(bad, bad)),
        images=(dataclasses.replace(report().images[0], image=bad, system=bad, setting=bad),),
        examples=(shown_example(bad, {"original": x, bad: x}),) * 2,
        extremes=(Extremes(bad, "psnr", ((bad, 1.0),), ((bad, 1.0),)),),
        pictures_note=bad,
        facts=((bad, bad),),
        warnings=(bad,),
    )
    page = Page(render(hostile))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.text["dd"] == bad
    assert any(attributes.get("alt") == f"{bad}: {bad}" for _, attributes in page.tags)


def test_the_pictures_are_the_very_pixels() -> None:
    page = Page(render(report()))
    sources = [a["src"] for tag, a in page.tags if tag == "img" and a["alt"].startswith("one.png")]
    for index, source in enumerate(sources):
        webp = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")), picture(index))
    assert len(sources) == 3


def test_the_headline_uses_the_first_sample_and_rates_not_below_ours() -> None:
    text = render(report())
    assert "3 photographs at 0.100 bits per pixel, 240 times smaller than raw." in text
    assert "Stage 2 changes FD-EffNet from 61.0 to 31.0" in text
    tiles = text[text.index('class="tiles"') : text.index("<nav")]
    assert "<b>0.120</b>" in tiles  # the avif row that is nearest from above
    assert "<b>55.0</b>" in tiles
    assert "<b>0.500</b>" not in tiles
    assert "<b>0.090</b>" not in tiles


def test_a_codec_that_lacks_an_image_is_compared_on_the_images_that_both_have() -> None:
    webp = dataclasses.replace(summary("webp", "at least our rate", 0.07, 80.0), num_images=2)
    ours = dataclasses.replace(summary("sample", "50 steps", 0.06, 44.0), num_images=2)
    fewer = (FewerImages(("icon\n.png",), (webp,), (ours,)),)
    text = render(report(summary=(*report().summary, webp), fewer=fewer))
    assert "Compared on fewer images, in tables of their own: WebP at least our rate." in text
    assert '<h3 class="subset">Without icon .png: 2 images</h3>' in text
    tiles = text[text.index('class="tiles"') : text.index("<nav")]
    assert "<b>80.0 (ours 44.0 on its 2 images)</b>" in tiles and "<b>55.0</b>" in tiles


def test_of_a_codec_the_rows_with_the_most_images_come_first() -> None:
    """JPEG reaches a low rate on few pictures: that row would compare on few."""
    few = dataclasses.replace(summary("jpeg", "at our rate", 0.1, 9.0), num_images=1)
    text = render(report(summary=(*report().summary, few, summary("jpeg", "more", 0.2, 77.0))))
    tiles = text[text.index('class="tiles"') : text.index("<nav")]
    assert "<b>77.0</b>" in tiles and "<b>9.0</b>" not in tiles


def test_missing_and_infinite_values_are_shown_and_sort_as_values() -> None:
    base = report().images[0]
    rows = (with_values(base, psnr=math.inf, bpp_est=None, top_octave_energy=math.nan),)
    page = render(report(images=rows))
    table = page[page.index('id="images"') :]
    assert '<td data-value="Infinity">∞</td>' in table
    assert table.count('<td data-value="">–</td>') == 4  # bpp_est, MS-SSIM, energy, LPIPS
    assert "nan" not in re.findall(r'data-value="([^"]*)"', page)


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_headline_without_realism_makes_no_claim_of_it(value: float | None) -> None:
    rows = tuple(with_values(row, fd_effnet=value) for row in report().summary)
    text = render(report(summary=rows))
    assert "Stage 2 changes" not in text
    assert "FD-EffNet: not measured in this run" in text


def test_an_empty_report_names_the_missing_parts() -> None:
    text = render(Report("Empty", (), (), (), (), ()))
    Page(text)
    for sentence in (
        "This report has no results of this codec.",
        "This report has no pictures.",
        "This report has no results of single images.",
        "No facts were recorded.",
    ):
        assert sentence in text
    assert 'class="warnings"' not in text


def test_the_page_depends_on_the_report_alone() -> None:
    assert render(report()) == render(report())


def test_a_picture_of_a_list_opens_where_the_gallery_has_it() -> None:
    lists = (Extremes("sample (stage 2)", "psnr", (("two.png", 20.0), ("three.png", 21.0)), (("three.png", 21.0),)),)
    page = render(report(extremes=lists, pictures_note="Which ones, and how."))
    assert '<p class="protocols">Which ones, and how.</p>' in page
    entry = '<button type="button" data-picture="1" data-label="sample (stage 2)"><span>two.png</span> <b>20.00</b>'
    assert page.count(entry) == 1 and page.count("<p><span>three.png</span> <b>21.00</b></p>") == 2


def test_a_measured_optional_distance_has_a_plot() -> None:
    def plotted(rows: tuple[SummaryRow, ...]) -> bool:
        return "FID/256 against bits per pixel" in render(report(summary=rows))

    rows = report().summary
    assert not plotted(tuple(rows))
    assert plotted(tuple(with_values(row, fid_256=30.0) for row in rows))
