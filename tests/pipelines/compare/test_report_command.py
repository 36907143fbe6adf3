"""``hfd report``: the evaluations that it finds, the page that it writes, and one line for what it cannot use."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from hfd.io.storage import Folder
from pipelines.compare.command import Request, write_comparison
from pipelines.compare.find import find_all, parse_argument
from pipelines.compare.kept import RULE
from tests.support.command_line import Hfd
from tests.support.evaluations import JPEG, X_HAT, MadeEvaluation, write_evaluation

PSNR = {X_HAT: {"a.png": 30.0, "b.png": 20.0}, JPEG: {"a.png": 25.0, "b.png": 18.0}}


def write(workspace: Path, **more: object) -> Folder:
    return write_evaluation(Folder(str(workspace)), MadeEvaluation(PSNR, **more))  # type: ignore[arg-type]


@pytest.fixture
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs/one", shown=("a.png",))
    write(tmp_path / "elsewhere", bpp=0.5, shown=("a.png", "b.png"))
    return tmp_path


def test_folders_names_and_steps_are_found_each_once(workspaces: Path) -> None:
    step = write(workspaces / "runs/one", key="f" * 16, bpp=0.7)
    found = find_all(["one", "runs/one/evaluate/0123456789abcdef", f"label={workspaces}/elsewhere", step.uri], None)
    assert [(run.name, run.label, run.key[:1]) for run in found] == [
        ("one/ffffff", "one/ffffff", "f"), ("one/012345", "one/012345", "0"), ("elsewhere", "label", "0"),
    ]  # fmt: skip


def test_the_newest_is_taken_where_latest_names_none(workspaces: Path) -> None:
    write(workspaces / "w", key="a" * 16, finished="2026-03-01T00:00:00+00:00")
    write(workspaces / "w", key="b" * 16, finished="2026-02-01T00:00:00+00:00")
    (workspaces / "w/latest.json").unlink()
    assert [run.key for run in find_all(["w"], None)] == ["a" * 16]


def test_a_folder_with_an_equals_sign_is_a_folder(workspaces: Path) -> None:
    write(workspaces / "lr=3")
    assert parse_argument("lr=3").label == ""
    assert find_all(["lr=3"], None)[0].name == "lr=3"


def test_the_page_has_curves_tables_pictures_and_commands(workspaces: Path, hfd: Hfd) -> None:
    ended = hfd("report", "one", "elsewhere", "-o", "page.html", "--title", "Two <runs>")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("page.html: 2 evaluations, 2 pictures shown, ")
    page = (workspaces / "page.html").read_text()
    assert "<title>Two &lt;runs&gt;</title>" in page
    assert "hfd report one elsewhere -o page.html --title &#39;Two &lt;runs&gt;&#39;" in page
    for run in ("runs/one", "elsewhere"):
        assert f"hfd retrain -c {workspaces}/{run}/evaluate/0123456789abcdef/settings.yaml" in page
    assert page.count("name: made") == 2
    assert page.count('class="example"') == 2 and page.count('data-label="one: x_hat"') >= 1
    assert "The gallery shows 2 of 2 kept pictures, as they were decoded, at most their middle 1024 px. All" in page


@pytest.mark.usefixtures("workspaces")
def test_pictures_that_do_not_fit_are_shown_in_a_smaller_form(monkeypatch: pytest.MonkeyPatch) -> None:
    from hfd.report import gallery

    whole = write_comparison(Request(("one", "elsewhere"), Path("whole.html")))
    monkeypatch.setattr(gallery, "MAX_BYTES", 1700)
    write_comparison(Request(("one", "elsewhere"), Path("small.html")))
    assert "2 pictures shown" in whole
    small = Path("small.html").read_text()
    assert "The gallery shows 2 of 2 kept pictures, as WebP of quality" in small
    assert small.count("data:image/webp") == Path("whole.html").read_text().count("data:image/webp")


def test_the_pictures_of_the_lists_come_first_and_those_that_do_not_fit_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hfd.report import gallery

    names = [f"{number:02}.png" for number in range(50)]
    values = {name: 20.0 + number for number, name in enumerate(names)}
    kept = names[:48]  # the two best are not kept
    write_evaluation(Folder(str(tmp_path / "w")), MadeEvaluation({X_HAT: values}, shown=tuple(kept)))

    def page_of(pictures: int) -> str:
        write_comparison(Request((str(tmp_path / "w"),), tmp_path / "page.html", pictures=pictures))
        return (tmp_path / "page.html").read_text()

    def shown(page: str) -> list[str]:
        return re.findall(r'<h3 class="name">([^<]*)<', page)

    lost = "2 pictures of these lists were kept by no evaluation (evaluate.num_examples)"
    four = page_of(4)
    # The worst ten and the eight kept ones of the best: 00 is first, then 01, 02 and 47, the third best.
    assert shown(four)[:4] == ["00.png", "01.png", "02.png", "47.png"]
    assert sorted(shown(four)[4:]) == sorted([*names[3:10], *names[40:47]])
    assert "The gallery shows 4 of 48 kept pictures, as they were decoded" in four and RULE in four
    assert "14 more, of the lists of the worst and best, are shown as they were decoded" in four and lost in four
    assert sorted(shown(page_of(1000))) == kept and "(--pictures)" not in page_of(1000)
    assert shown(page_of(0)) == []
    monkeypatch.setattr(gallery, "MAX_BYTES", 2000)
    few = page_of(4)
    assert shown(few)[0] == "00.png" and "more did not fit" in few
    encoded = re.findall(r'alt="[^"]+: [^"]+"[^>]*src="data:image/webp;base64,([^"]*)"', few)
    assert 0 < sum(len(base64.b64decode(one)) for one in encoded) <= 2000


def test_an_evaluation_of_an_earlier_version_has_no_command(workspaces: Path) -> None:
    write(workspaces / "old", config="")
    write_comparison(Request(("old",), Path("page.html")))
    assert "This evaluation has no settings.yaml, so its command is not known." in Path("page.html").read_text()


def test_an_unusable_argument_is_one_line(workspaces: Path, hfd: Hfd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (workspaces / "empty").mkdir()
    other = json.loads((workspaces / "elsewhere/evaluate/0123456789abcdef/manifest.json").read_text())
    for name, record in (
        ("format", {**other, "format": 7}),
        ("step", {**other, "step": "prepare"}),
        ("facts", {**other, "facts": {}}),
    ):
        write(workspaces / name)
        (workspaces / name / "evaluate/0123456789abcdef/manifest.json").write_text(json.dumps(record))
    write(workspaces / "text")
    (workspaces / "text/evaluate/0123456789abcdef/manifest.json").write_text("{")
    write(workspaces / "table")
    (workspaces / "table/evaluate/0123456789abcdef/images.parquet").write_bytes(b"PAR1")
    for arguments, message in (
        (["nothing"], "nothing: got no such folder, expected a workspace with a finished evaluation"),
        (["empty"], "got no finished evaluation, expected one in evaluate/"),
        (["format"], "got an evaluation of format 7, expected 1"),
        (["step"], "got the output of 'prepare', expected a finished evaluation"),
        (["facts"], "manifest.json: got a record without 'summary'"),
        (["text"], "manifest.json: not readable, expected the record of a step"),
        (["table"], "images.parquet: not readable"),
        (["one", "-o", "empty"], "-o: got the folder empty, expected the name of a file"),
        (["0" * 32], "got an MLflow run without its server, expected --tracking or MLFLOW_TRACKING_URI"),
        (["0" * 32, "--tracking", "sqlite:////no/such/file.db"], "expected a database that exists"),
        (["s3://bucket/a//b"], "got an unusable URI"),
        ([], "Missing argument 'RUN...'"),
    ):
        ended = hfd("report", *arguments)
        assert ended.code == 2 and message in ended.err, (arguments, ended)
        assert len(ended.err.splitlines()) == 1, ended.err


def test_prefixes_of_s3_are_read_like_folders(s3: Folder, tmp_path: Path) -> None:
    write_evaluation(s3 / "mine", MadeEvaluation(PSNR, shown=("a.png",), features=True))
    (run,) = find_all([f"{s3.uri}/mine"], None)
    assert (run.name, run.summary[X_HAT].num_images) == ("mine", 2)
    line = write_comparison(Request((f"{s3.uri}/mine",), tmp_path / "page.html"))
    assert "1 evaluation, 1 picture shown" in line
    assert "hfd retrain -c settings.yaml" in (tmp_path / "page.html").read_text()
