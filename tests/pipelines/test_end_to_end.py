"""The whole job on a few made photographs, in this process: its outputs, skips and reruns."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hfd.cli.compress import compress
from hfd.cli.decompress import decompress
from hfd.cli.facts import facts_of
from hfd.codec.container import unpack
from hfd.config import Config
from hfd.errors import ConfigError, DataError, HfdError, TrainingError
from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from pipelines.context import Progress, Silent
from pipelines.retrain import list_inputs, plan, retrain
from pipelines.runs.step import Done
from pipelines.tracking.settings import tracking_settings
from pipelines.workflow import STEP_NAMES
from tests.support.tiny_run import tiny_config, write_photographs

pytestmark = pytest.mark.integration

STEPS = tuple(name for name in STEP_NAMES if name != "promote")
"""Those of a run without a registry."""


class Told(Silent):
    """Records the lines of a run, and the last progress of each bar."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: dict[str, tuple[int, int | None]] = {}

    @contextmanager
    def bar(self, label: str, unit: str) -> Iterator[Progress]:
        del unit

        def progress(done: int, total: int | None) -> None:
            self.bars[label] = (done, total)

        yield progress

    def say(self, line: str) -> None:
        self.lines.append(line)


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    config: Config
    done: list[Done]
    told: Told

    @property
    def report(self) -> Folder:
        return self.done[-1].folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("end to end") / "photo graphs")


@pytest.fixture(scope="module")
def finished(photographs: Path) -> Run:
    """A run, tracked in SQLite in its workspace, whose path has a space."""
    config = tiny_config(photographs, photographs.parent / "work space", "tracking.uri=auto")
    told = Told()
    return Run(config, retrain(config, told), told)


def images(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(run.report.read("images.parquet"))).to_pylist()
    return rows


def mlflow_runs(config: Config) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_settings(config).uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    return client, list(client.search_runs([experiment.experiment_id]))


def test_every_step_runs_and_prints_a_line(finished: Run) -> None:
    assert tuple(done.step.name for done in finished.done) == STEPS
    assert not any(done.skipped for done in finished.done)
    assert [line.split()[0] for line in finished.told.lines] == list(STEPS)
    bars = {name: finished.told.bars[name] for name in ("prepare", "reconstruct", "evaluate")}
    assert bars == {"prepare": (4, 4), "reconstruct": (8, 8), "evaluate": (2, 2)}
    assert not list(Path(finished.config.workspace_uri).rglob(".tmp-*"))


def test_the_report_and_the_tables_hold_every_system(finished: Run) -> None:
    systems = {"autoencoder", "sample", "jpeg", "webp", "avif"}
    rows = images(finished)
    assert {row["system"] for row in rows} == systems
    assert len({row["image"] for row in rows}) == 2
    summary = finished.report.read("summary.txt").decode()
    facts = finished.done[-1].manifest.facts
    notes = [line for line in summary.splitlines() if line.startswith(("FD-EffNet", "KD-EffNet"))]
    assert len(notes) == 3 and "got 16 patches, fewer than its 1280 features" in notes[-1]
    assert len(summary.splitlines()) == 3 + len(facts["summary"]) + len(facts["gains"]) + len(notes)
    assert "Pretrained networks in the training of stage 2: none." in summary.splitlines()
    assert [gain["metric"] for gain in facts["gains"]] == ["FD-EffNet", "KD-EffNet"]
    assert all(gain["low"] <= gain["high"] for gain in facts["gains"])
    assert facts["engine"] == "onnx"  # the model has its graphs
    page = finished.report.read("report.html").decode()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    for label in ("Autoencoder", "AVIF", "JPEG", "WebP"):
        assert label.lower() in summary.lower() and label.lower() in page.lower()
    sampled = next(row for row in facts["summary"] if row["system"] == "sample")["setting"]
    assert re.search(rf">\s*{re.escape(sampled)}: \d\.\d+ bpp, ", page), "a shown version is named by its setting"


def test_the_stored_file_is_measured(finished: Run) -> None:
    for row in images(finished):
        if row["system"] in ("autoencoder", "sample"):
            data = finished.report.read(f"files/{row['image']}.hfd")
            assert row["num_bytes"] == len(data)
            assert row["bpp"] == pytest.approx(8 * len(data) / (row["width"] * row["height"]))
            assert (unpack(data).width, unpack(data).height) == (row["width"], row["height"])


def test_mlflow_holds_a_finished_parent_and_a_child_for_every_step(finished: Run) -> None:
    client, runs = mlflow_runs(finished.config)
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {run.data.tags["hfd.step"]: run for run in runs if run is not parent}
    assert set(children) == set(STEPS) and len(runs) == 1 + len(STEPS)
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.data.params["decoder.unet.channels"] == "[16, 16]"

    for done in finished.done:
        child = children[done.step.name]
        assert child.data.tags["hfd.key"] == done.step.key
        stored = {entry.path for entry in client.list_artifacts(child.info.run_id)}
        assert "facts.json" in stored
        expected = {"train-autoencoder": "autoencoder", "train-decoder": "decoder", "evaluate": "report.html"}
        expected["finetune-decoder"] = "decoder"
        assert {expected.get(done.step.name, "facts.json")} <= stored
    steps = [point.step for point in client.get_metric_history(children["train-decoder"].info.run_id, "loss")]
    assert steps == [2, 4, 6]
    assert children["train-autoencoder"].data.metrics["bpp_est"] > 0
    assert any(name.startswith("sample 2 steps/psnr") for name in children["evaluate"].data.metrics)


def test_a_second_run_does_nothing_and_prints_a_line(finished: Run) -> None:
    config, told = finished.config, Told()
    _, runs_before = mlflow_runs(config)
    stamps = {
        path: path.stat().st_mtime_ns for path in Path(config.workspace_uri).rglob("*") if "mlflow" not in path.name
    }
    again = retrain(config, told)
    assert all(done.skipped for done in again)
    (line,) = told.lines
    assert line.startswith("nothing to do: all 6 steps are done for these settings and 8 photographs (")
    assert [done.digest for done in again] == [done.digest for done in finished.done]
    assert len(mlflow_runs(config)[1]) == len(runs_before)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert all(planned.done for planned in plan(config, list_inputs(config)))


def test_settings_of_the_decoder_leave_the_steps_before_it_alone(finished: Run, photographs: Path) -> None:
    config = tiny_config(
        photographs, finished.config.workspace_uri, "decoder.process.s=0.7", "evaluate.baselines=[jpeg]"
    )
    planned = plan(config, list_inputs(config))
    assert [step.done for step in planned] == [True, True, True, False, False, False]
    assert planned[3].step is not None and planned[4].step is None
    done = retrain(config, Silent())
    assert [one.skipped for one in done] == [True, True, True, False, False, False]
    assert done[3].digest != finished.done[3].digest
    rows = pq.read_table(io.BytesIO(done[5].folder.read("images.parquet"))).to_pylist()
    stage1 = {row["image"]: row["psnr"] for row in images(finished) if row["system"] == "autoencoder"}
    assert {row["image"]: row["psnr"] for row in rows if row["system"] == "autoencoder"} == stage1


def test_the_model_compresses_and_decompresses(
    finished: Run, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(finished.done[4].folder.path)
    picture = photographs / "photo 1.jpg"
    x = load_rgb(picture)
    file = str(tmp_path / "a.hfd")
    compress([str(picture)], model, file)
    size = Path(file).stat().st_size
    assert f"{x.shape[1]} x {x.shape[0]}, {size} bytes" in capsys.readouterr().out
    assert facts_of(file)[0]["bytes"] == size and "autoencoder" in facts_of(model)[0]
    outputs = {}
    for name, realism in (("reconstruction", 0.0), ("sample", 1.0), ("again", 1.0)):
        out = str(tmp_path / f"{name}.png")
        decompress([file], model, out, steps=2, sampler="auto", gamma=0.0, realism=realism, grain=False)
        outputs[name] = load_rgb(tmp_path / f"{name}.png")
        assert outputs[name].shape == x.shape
    assert np.array_equal(outputs["sample"], outputs["again"])
    assert not np.array_equal(outputs["sample"], outputs["reconstruction"])


def test_a_finished_model_is_taken_as_it_is(finished: Run, photographs: Path, tmp_path: Path) -> None:
    model = finished.done[4].folder.uri
    taken = [
        f"{stage}.{setting}"
        for stage in ("autoencoder", "decoder")
        for setting in (f"warm_start={model}", "frozen=true")
    ]
    run = retrain(tiny_config(photographs, tmp_path, *taken, "decoder.adversarial=null"), Silent())
    assert [done.step.name for done in run] == [name for name in STEPS if name != "finetune-decoder"]
    assert run[-2].digest == finished.done[4].digest
    rows = pq.read_table(io.BytesIO(run[-1].folder.read("images.parquet"))).to_pylist()
    quality = [(row["image"], row["setting"], row["psnr"]) for row in rows]
    assert quality == [(row["image"], row["setting"], row["psnr"]) for row in images(finished)]
    with pytest.raises(HfdError, match=r"decoder.warm_start: got a decoder for autoencoder \w{8}, expected one for"):
        retrain(
            tiny_config(photographs, tmp_path, *taken[2:], "autoencoder.lmbda=0.02", "decoder.adversarial=null"),
            Silent(),
        )


def test_a_step_alone_needs_those_before_it_and_starts_nothing_without(photographs: Path, tmp_path: Path) -> None:
    config = tiny_config(photographs, tmp_path, "tracking.uri=auto", "cluster.kind=local")
    with pytest.raises(ConfigError, match=r"^prepare: not done for these settings .* Run hfd prepare first$"):
        retrain(config, Silent(), only="reconstruct")
    assert not list(tmp_path.iterdir())
    inline = config.model_copy(update={"cluster": tiny_config(photographs, tmp_path).cluster})
    inline = inline.model_copy(update={"tracking": tiny_config(photographs, tmp_path).tracking})
    (done,) = retrain(inline, Silent(), only="prepare")
    assert done.step.name == "prepare" and not done.skipped
    with pytest.raises(ConfigError, match=r"^train-autoencoder: not done .* Run hfd train-autoencoder first$"):
        retrain(config, Silent(), only="reconstruct")


def test_missing_evaluation_pictures_are_reported_before_any_training(photographs: Path, tmp_path: Path) -> None:
    config = tiny_config(photographs, tmp_path, "prepare.validation_share=0")
    with pytest.raises(DataError, match=r"^evaluate\.data: missing, and the validation split is empty"):
        retrain(config, Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lease", "prepare"]


def test_a_mistake_inside_a_training_is_one_line_and_can_be_put_right(photographs: Path, tmp_path: Path) -> None:
    """Training diverges at this rate; the next run does not use its remains."""
    wrong = tiny_config(photographs, tmp_path, "autoencoder.train.lr=1", "autoencoder.train.grad_clip=1e30", steps=30)
    with pytest.raises(TrainingError) as caught:
        retrain(wrong, Silent())
    assert str(caught.value).startswith("train-autoencoder: loss: got a value")
    assert "\n" not in str(caught.value)
    (folder,) = (tmp_path / "train-autoencoder").iterdir()
    left = {path.name for path in folder.iterdir()}
    assert not left & {"error.json", "result.json", "manifest.json", "autoencoder"}


def test_evaluation_on_a_folder_rejects_files_that_are_not_pictures(
    finished: Run, photographs: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(photographs / "photo 2.png", pictures / "a.png")
    (pictures / "b.jpg").write_bytes(b"no picture")
    overrides = [f"evaluate.data={pictures}", "evaluate.baselines=[jpeg]"]
    workspace = finished.config.workspace_uri
    with pytest.raises(HfdError, match=r"^evaluate\.data: 1 of 2 pictures rejected \(b\.jpg: got "):
        retrain(tiny_config(photographs, workspace, *overrides), Silent())
    done = retrain(tiny_config(photographs, workspace, *overrides, "prepare.max_reject_share=0.5"), Silent())
    assert [one.skipped for one in done] == [True, True, True, True, True, False]
    assert done[-1].manifest.facts["rejected"] == 1
    assert "b.jpg" in done[-1].folder.read("report.html").decode()
