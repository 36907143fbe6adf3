"""An evaluation without a model: codecs and pictures decoded elsewhere, by one step, with nothing trained or read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hfd.config.presets import load_config
from hfd.errors import ConfigError
from hfd.image.square import centre_square
from hfd.io.storage import Folder
from hfd.metrics.original import Original
from pipelines.context import Silent
from pipelines.evaluate.measure import MeasureSettings, measure_others
from pipelines.evaluate.results import ExamplePictures
from pipelines.retrain import retrain
from pipelines.workflow import model_step, steps_of
from tests.support.command_line import Hfd
from tests.support.pictures import photograph
from tests.support.tiny_run import tiny_config

ABSENT = (
    "[{name: absent, encode: [no-such-program, '{input}', '{output}', '{quality}'], "
    "decode: [no-such-program, '{input}', '{output}'], smallest: 1, largest: 2, extension: x}]"
)


def write_pictures(folder: Path, error: int = 0) -> Path:
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        x = np.clip(photograph(72, 80, seed=number).astype(int) + error, 0, 255)
        Image.fromarray(x.astype(np.uint8)).save(folder / name)
    return folder


def test_evaluate_is_the_only_step() -> None:
    config = load_config("score", ["evaluate.data=pictures", "evaluate.model=none"])
    assert [(spec.name, spec.needs) for spec in steps_of(config)] == [("evaluate", ())]
    assert model_step(config) is None
    assert config.evaluate.absolute_bpp == (0.125, 0.25, 0.5, 1.0)
    assert load_config("score", ["evaluate.data=pictures"]).evaluate.absolute_bpp == ()


def test_baselines_are_measured_on_both_sides_of_each_rate() -> None:
    settings = MeasureSettings((), 128, ("jpeg",), (1.0,), 1 << 20, 1 << 20, baseline_bpp=(1.0, 2.5))
    measured = measure_others("a.png", Original(photograph(72, 80)), settings)
    sizes = {row.setting: row.num_bytes for row in measured.rows}
    assert list(sizes) == ["at most 1 bpp", "at least 1 bpp", "at most 2.5 bpp", "at least 2.5 bpp"]
    for bpp in ("1", "2.5"):
        target = float(bpp) * 72 * 80 / 8
        assert sizes[f"at most {bpp} bpp"] <= target <= sizes[f"at least {bpp} bpp"]
    assert {row.system for row in measured.rows} == {"jpeg"}


def test_an_impossible_combination_is_one_line(hfd: Hfd, tmp_path: Path) -> None:
    score = ["-c", "score", "evaluate.model=none", f"workspace={tmp_path}/w", "tracking.uri=none"]
    for command, overrides, message in (
        ("evaluate", (), "evaluate.data: missing with model=none, expected a folder of pictures"),
        ("evaluate", ("evaluate.data=d", "evaluate.baselines=[]"), "got none without baselines, external and decoded"),
        ("evaluate", ("evaluate.data=d", "promote.model=m", "tracking.uri=sqlite:////tmp/x"), "expected a model to"),
        ("prepare", ("evaluate.data=d",), "evaluate.model: got none, expected trained for hfd prepare. Remove it"),
        ("evaluate", ("evaluate.data=d", "evaluate.model=some"), "evaluate.model: got 'some', expected"),
    ):
        ended = hfd(command, *score, *overrides)
        assert message in ended.complaint


def test_settings_that_came_later_leave_older_keys_as_they_are() -> None:
    content = load_config("score", ["evaluate.data=d"]).evaluate.content()
    assert not {"model", "baseline_bpp", "curves"} & set(content)


@pytest.mark.integration
def test_centre_squares_are_measured_instead_of_whole_pictures(tmp_path: Path) -> None:
    """Each value equals that of an evaluation of squares cut before."""
    whole, cut = write_pictures(tmp_path / "whole"), tmp_path / "cut"
    cut.mkdir()
    for path in whole.iterdir():
        Image.fromarray(centre_square(np.asarray(Image.open(path)), 64)).save(cut / path.name)
    common = ("evaluate.model=none", "evaluate.max_images=null", "evaluate.baselines=[jpeg]")
    tables = []
    for folder, *settings in ((whole, "evaluate.square_px=64"), (cut,)):
        config = tiny_config(tmp_path, tmp_path / "runs", *common, f"evaluate.data={folder}", *settings)
        (done,) = retrain(config, Silent())
        tables.append(pq.read_table(io.BytesIO(done.folder.read("images.parquet"))))
    first, second = (table.drop_columns(["encode_s", "decode_s"]) for table in tables)
    assert first.num_rows > 2 and first.equals(second)
    assert set(first["width"].to_pylist()) == set(first["height"].to_pylist()) == {64}


@pytest.mark.integration
def test_codecs_and_folders_are_judged_alone(tmp_path: Path, hfd: Hfd, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("hfd.codec.codec.Codec.load", refuse)
    pictures, theirs = write_pictures(tmp_path / "pictures"), write_pictures(tmp_path / "theirs", error=6)
    (tmp_path / "sizes.csv").write_text("name,size\na,500\nb,600\n")
    (tmp_path / "results.csv").write_text(
        'system,protocol,bpp,PSNR\nHiFiC,"CLIC 2020, mean",0.2,30.5\nHiFiC,"CLIC 2020, mean",0.4,33\nother,,0.3,31\n'
    )
    config = tiny_config(
        "no-photographs", tmp_path / "runs", f"evaluate.data={pictures}", "evaluate.model=none",
        f"evaluate.decoded=[{{name: theirs, uri: {theirs}, bytes: {tmp_path}/sizes.csv}}]",
        f"evaluate.external={ABSENT}", "evaluate.baselines=[jpeg]", "evaluate.baseline_bpp=[1, 2]",
        "evaluate.patch_px=128", f"evaluate.curves={tmp_path}/results.csv", "evaluate.num_examples=2",
    )  # fmt: skip
    monkeypatch.setattr("pipelines.evaluate.report.MAX_EXAMPLES", 1)
    (done,) = retrain(config, Silent())
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["evaluate"]
    rows = pq.read_table(io.BytesIO(done.folder.read("images.parquet"))).to_pylist()
    assert {row["system"] for row in rows} == {"jpeg", "theirs"} and len(rows) == 2 * 5
    summary = {(row["system"], row["setting"]): row for row in done.manifest.facts["summary"]}
    assert summary["theirs", "decoded elsewhere"]["num_images"] == 2
    assert summary["absent", "no-such-program not found"]["num_images"] == 0
    assert "engine" not in done.manifest.facts and "model" not in done.step.inputs
    text, page = done.folder.read("summary.txt").decode(), done.folder.read("report.html").decode()
    assert "2 photographs, without a model: JPEG, theirs, absent." in page
    for said in (text, page):
        assert "results.csv: line 4 without a protocol: left out" in said
        assert "x_hat" not in said and "stage 2" not in said.split("<script>")[0]
    assert "published: HiFiC (CLIC 2020, mean): 0.200 bpp, PSNR 30.50 dB" in text
    assert page.count("published: HiFiC (CLIC 2020, mean): 0.400 bpp, PSNR dB 33.00") == 1
    assert "The gallery shows 1 of 2 kept pictures, as they were decoded" in page
    assert "1 more, of the lists of the worst and best, are shown as they were decoded" in page
    assert page.count('class="example"') == 2 and done.folder.exists("pictures/00000001/example.json")
    curves = ExamplePictures.read(done.folder / "pictures/00000000").curves
    assert curves == (("original", ""), ("jpeg", "at most 2 bpp"), ("theirs", "decoded elsewhere"))
    assert retrain(config, Silent(), only="evaluate")[0].skipped

    ended = hfd("report", tmp_path / "runs", "-o", tmp_path / "page.html")
    assert ended.code == 0, ended.err
    compared = (tmp_path / "page.html").read_text()
    assert "published: HiFiC (CLIC 2020, mean): 0.200 bpp" in compared and "absent" in compared
    again = load_config(str(done.folder.path / "settings.yaml"), [f"workspace={tmp_path}/again", "tracking.uri=null"])
    assert again.evaluate == config.evaluate


def test_without_a_model_only_the_pictures_are_listed(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    config = load_config("score", [f"evaluate.data={pictures}", "evaluate.model=none", "data.uri=no-such-folder"])
    from pipelines.retrain import list_inputs, plan

    inputs = list_inputs(config)
    assert inputs.pictures is not None and len(inputs.pictures.photos) == 2
    (state,) = plan(config, inputs)
    assert state.step is not None and set(state.step.inputs) == {"images"}
    assert Folder(state.step.workspace.uri).uri.endswith("runs/score")


def test_a_model_is_still_required_by_its_steps() -> None:
    with pytest.raises(ConfigError, match=r"promote\.model: missing"):
        retrain(load_config("score", ["tracking.uri=none"]), Silent(), only="promote")
