"""The gallery of many pictures in a real browser: the worst and best are viewable, in a page of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hfd.io.storage import Folder
from hfd.report import gallery
from pipelines.compare.command import Request, write_comparison
from pipelines.compare.kept import RULE
from tests.support.evaluations import JPEG, X_HAT, MadeEvaluation, write_evaluation

pytestmark = pytest.mark.integration

NAMES = tuple(f"{number:02}.png" for number in range(60))
BUDGET = 230_000


def psnr(seed: int) -> dict[str, float]:
    """Distinct values, in another order for each seed."""
    return {name: 20.0 + (number * 7 * seed + seed) % 61 / 7 for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 60 pictures are kept; the gallery takes 24, and the lists of both systems name others."""
    home = tmp_path_factory.mktemp("gallery")
    made = MadeEvaluation({X_HAT: psnr(2), JPEG: psnr(5)}, size=(192, 256), shown=NAMES)
    write_evaluation(Folder(str(home / "one")), made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "MAX_BYTES", BUDGET)
        write_comparison(Request((str(home / "one"),), home / "page.html"))
    return home / "page.html"


def test_the_worst_and_best_of_every_list_open_and_are_drawn(page: Any) -> None:
    system, metric = page.locator(".pickers select").all()
    opened = set()
    for row in system.locator("option").all_inner_texts():
        system.select_option(label=row)
        for name in metric.locator("option").all_inner_texts():
            metric.select_option(label=name)
            entries = page.locator(".lists:visible li")
            buttons = page.locator(".lists:visible li button")
            assert entries.count() == buttons.count() == 20
            for button in buttons.all():
                button.click()
                shown = page.locator(".example:visible")
                assert shown.locator(".name").inner_text().startswith(button.locator("span").inner_text())
                drawn = shown.locator(".layer img").evaluate_all(
                    "all => Promise.all(all.map(e => e.decode().then(() => e.naturalWidth)))"
                )
                assert len(drawn) == 3 and min(drawn) > 0
                opened.add(button.locator("span").inner_text())
    by_row = [sorted(psnr(seed), key=psnr(seed).__getitem__) for seed in (2, 5)]
    assert opened == {name for names in by_row for name in (*names[:10], *names[-10:])}


def test_the_page_states_how_many_pictures_it_shows_and_which_rule_chose_them(page: Any, page_file: Path) -> None:
    note = page.locator("#pictures-0 > .protocols").inner_text()
    assert note.startswith("The gallery shows 24 of 60 kept pictures, as WebP of quality")
    assert RULE in note and "more, of the lists of the worst and best, are shown as WebP" in note
    assert "did not fit" not in note and "were kept by no evaluation" not in note
    number = int(note.split(" more, of the lists")[0].rpartition(" ")[2])
    assert page.locator(".strip button").count() == 24 + number
    pictures = page.locator(".layer img").evaluate_all("all => all.map(e => e.src.length)")
    assert 0.3 * BUDGET < sum(pictures) * 3 / 4 <= BUDGET
    assert page_file.stat().st_size < 15_000_000
