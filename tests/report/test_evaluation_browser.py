"""The page that an evaluation writes itself, of more pictures than its gallery has, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hfd.report import gallery
from pipelines.context import Silent
from pipelines.evaluate.report import RULE
from pipelines.retrain import retrain
from tests.support.pictures import photograph
from tests.support.tiny_run import tiny_config

pytestmark = pytest.mark.integration

NUMBER = 60
BUDGET = 500_000


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 kept pictures of JPEG and WebP, without a model; they are too large to be shown as they were decoded."""
    home = tmp_path_factory.mktemp("evaluation")
    (home / "pictures").mkdir()
    for number in range(NUMBER):
        Image.fromarray(photograph(64, 80, seed=number)).save(home / f"pictures/{number:02}.png")
    config = tiny_config(
        "no-photographs", home / "runs", f"evaluate.data={home}/pictures", "evaluate.model=none",
        "evaluate.baselines=[jpeg,webp]", "evaluate.baseline_bpp=[1]", "evaluate.patch_px=64",
        f"evaluate.num_examples={NUMBER}", f"evaluate.max_images={NUMBER}",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "MAX_BYTES", BUDGET)
        (done,) = retrain(config, Silent())
    path = home / "report.html"
    path.write_bytes(done.folder.read("report.html"))
    return path


def test_the_worst_of_every_list_opens_by_the_keyboard(page: Any) -> None:
    system, metric = page.locator(".pickers select").all()
    assert system.locator("option").all_inner_texts()[0] == "JPEG, at most 1 bpp"
    for row in system.locator("option").all_inner_texts():
        system.select_option(label=row)
        for name in metric.locator("option").all_inner_texts():
            metric.select_option(label=name)
            assert page.locator(".lists:visible li").count() == 20
            button = page.locator(".lists:visible li button").first
            image = button.locator("span").inner_text()
            assert page.locator(".lists:visible li").first.inner_text().startswith(image)
            button.focus()
            page.keyboard.press("Enter")
            assert page.locator(".example:visible .name").inner_text().startswith(image)
            assert page.evaluate("document.activeElement.className").startswith("layers")


def test_the_gallery_has_24_pictures_and_those_of_the_lists(page: Any, page_file: Path) -> None:
    note = page.locator("#pictures > .protocols").inner_text()
    assert note.startswith(f"The gallery shows 24 of {NUMBER} kept pictures, as WebP of quality") and RULE in note
    more = int(note.split(" more, of the lists")[0].rpartition(" ")[2])
    assert page.locator(".strip button").count() == 24 + more
    pictures = page.locator(".layer img").evaluate_all("all => all.map(e => e.src.length)")
    assert 0.3 * BUDGET < sum(pictures) * 3 / 4 <= BUDGET
    assert page_file.stat().st_size < 15_000_000


def test_every_picture_is_drawn(page: Any) -> None:
    drawn = page.locator(".layer img").evaluate_all(
        "all => Promise.all(all.map(e => e.decode().then(() => e.naturalWidth)))"
    )
    assert min(drawn) > 0 and len(drawn) >= 3 * 24
