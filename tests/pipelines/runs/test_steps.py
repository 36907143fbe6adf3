"""Steps: inputs of their keys, skipping, and messages for a broken folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import Corpus
from pipelines.engine.inline import Inline
from pipelines.runs.step import Done, Manifest, Outcome, Step, naming_incomplete, point_latest, require, run_step
from pipelines.spec import MODEL
from pipelines.workflow import STEP_NAMES, STEPS
from tests.support.tiny_run import tiny_config

PHOTOGRAPHS = Corpus("photos", (), 0)


def done(name: str, digest: str) -> Done:
    step = Step(name, Folder("unused"), {}, {})
    return Done(step, Manifest(name, step.key, digest, {}, {}, {}, 0.0), skipped=True)


def keys(workspace: Path, *overrides: str, digests: dict[str, str] | None = None) -> dict[str, str]:
    """The key of every step under these settings, with inputs of the given digests."""
    config = tiny_config("photos", workspace, *overrides)
    context = Context(config, Folder(str(workspace)), Inline(config.cluster), inputs=Inputs(PHOTOGRAPHS))
    inputs = {name: done(name, (digests or {}).get(name, name)) for name in STEP_NAMES}
    inputs[MODEL] = inputs["finetune-decoder"]
    planned = [spec.plan(context, inputs) for spec in STEPS]
    names = tuple(one.step.name for one in planned if one is not None)
    assert names == STEP_NAMES
    return {one.step.name: one.step.key for one in planned if one is not None}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in STEP_NAMES if before[name] != after[name]}


def test_the_distance_of_near_duplicates_changes_the_key_of_prepare(tmp_path: Path) -> None:
    without = keys(tmp_path, "prepare.drop_duplicates=true")
    assert changed(without, keys(tmp_path, "prepare.drop_duplicates=true", "prepare.near_bits=3")) == {"prepare"}


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("seed=2", {"prepare", "train-autoencoder", "train-decoder", "finetune-decoder"}),
        ("prepare.source_crop_px=128", {"prepare"}),
        ("prepare.photos_per_shard=3", {"prepare"}),
        ("prepare.downscale=0.5", {"prepare"}),
        ("prepare.min_sharpness=9", {"prepare"}),
        ("prepare.drop_duplicates=true", {"prepare"}),
        ("prepare.max_pixels=1000000", {"prepare", "evaluate"}),
        ("autoencoder.lmbda=0.01", {"train-autoencoder"}),
        ("autoencoder.train.budget=7 steps", {"train-autoencoder"}),
        ("decoder.unet.channels=[16, 24]", {"train-decoder"}),
        ("decoder.train.lr=0.01", {"train-decoder"}),
        ("decoder.ema.choices=[0.07]", {"train-decoder"}),
        ("decoder.neighbours_share=0.1", {"train-decoder", "finetune-decoder"}),
        ("decoder.adversarial.weight=0.1", {"finetune-decoder"}),
        ("decoder.adversarial.train.lr=0.01", {"finetune-decoder"}),
        ("evaluate.samplers=[{steps: 3}]", {"evaluate"}),
        ("evaluate.baselines=[jpeg]", {"evaluate"}),
        ("promote.max_psnr_loss_db=0.5", {"promote"}),
    ],
)
def test_a_setting_changes_the_keys_of_the_steps_it_matters_to(tmp_path: Path, override: str, steps: set[str]) -> None:
    assert changed(keys(tmp_path), keys(tmp_path, override)) == steps


@pytest.mark.parametrize(
    "override",
    [
        "autoencoder.train.checkpoint_every_s=1",
        "decoder.train.checkpoint_every_s=1",
        "autoencoder.train.log_every_steps=9",
        "decoder.train.log_every_steps=9",
        "decoder.train.compile=true",
        "decoder.adversarial.train.log_every_steps=9",
        "prepare.max_reject_share=0.9",
        "cluster.kind=local",
        "cluster.num_cpus=7",
        "cluster.map_workers=3",
        "cluster.map_threads=3",
        "cluster.train_threads=3",
        "tracking.experiment=another",
        "data.uri=elsewhere",
        "name=another",
        "workspace=elsewhere",
    ],
)
def test_the_place_and_engine_of_a_run_change_no_key(tmp_path: Path, override: str) -> None:
    assert keys(tmp_path) == keys(tmp_path, override)


@pytest.mark.parametrize(
    ("step", "readers"),
    [
        ("prepare", {"train-autoencoder", "reconstruct", "evaluate"}),
        ("train-autoencoder", {"reconstruct", "train-decoder", "finetune-decoder"}),
        ("reconstruct", {"train-decoder", "finetune-decoder"}),
        ("train-decoder", {"finetune-decoder"}),
        ("finetune-decoder", {"evaluate", "promote"}),
        ("evaluate", {"promote"}),
        ("promote", set()),
    ],
)
def test_the_output_of_a_step_changes_the_keys_of_its_readers(tmp_path: Path, step: str, readers: set[str]) -> None:
    assert changed(keys(tmp_path), keys(tmp_path, digests={step: "other"})) == readers


def test_the_order_of_settings_changes_no_key() -> None:
    folder = Folder("unused")
    one = Step("s", folder, {"a": 1, "b": {"c": 2, "d": 3}}, {"x": "1", "y": "2"})
    other = Step("s", folder, {"b": {"d": 3, "c": 2}, "a": 1}, {"y": "2", "x": "1"})
    assert one.key == other.key and len(one.key) == 16
    assert Step("t", folder, one.settings, one.inputs).key != one.key
    assert Step("s", folder, one.inputs, one.settings).key != one.key
    assert Step("s", folder, {**one.settings, "b": {"c": 3, "d": 2}}, one.inputs).key != one.key


def test_the_identity_that_checkpoints_carry_is_flat() -> None:
    step = Step("s", Folder("unused"), {"a": {"b": 1}, "c": [1, 2]}, {"x": "1"})
    assert step.identity == {"settings.a.b": "1", "settings.c": "[1, 2]", "inputs.x": '"1"'}


class Work:
    """Writes a file and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Folder) -> Outcome:
        self.calls += 1
        folder.write("out/data.bin", b"data")
        return Outcome("d" * 64, {"count": 3})


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step("prepare", Folder(str(tmp_path)), {"a": 1}, {"corpus": "c"})


def test_a_step_is_done_once_and_then_skipped(step: Step) -> None:
    work = Work()
    first, second = run_step(step, work), run_step(step, work)
    assert work.calls == 1
    assert (first.skipped, second.skipped) == (False, True)
    assert first.manifest == second.manifest
    assert second.digest == "d" * 64 and second.manifest.facts == {"count": 3}
    assert second.manifest.settings == {"a": 1} and second.manifest.inputs == {"corpus": "c"}
    assert second.folder.uri == f"{step.workspace.uri}/prepare/{step.key}"


def test_without_its_manifest_a_step_is_done_again_in_its_folder(step: Step) -> None:
    work = Work()
    run_step(step, work)
    step.folder.write("kept.txt", b"from the broken run")
    step.folder.delete("manifest.json")
    again = run_step(step, work)
    assert work.calls == 2 and not again.skipped
    assert again.folder.read("kept.txt") == b"from the broken run"


def test_work_that_fails_leaves_no_manifest(step: Step) -> None:
    def fail(folder: Folder) -> Outcome:
        folder.write("half", b"")
        raise DataError("no luck")

    with pytest.raises(DataError, match="no luck"):
        run_step(step, fail)
    assert step.manifest() is None and step.folder.exists("half")


def test_remains_of_a_killed_writer_are_removed_at_any_depth_before_work_starts(step: Step) -> None:
    for name in (".tmp-a-1-x", "parts/.tmp-b-1-x", "autoencoder/deep/.tmp-c-1-x"):
        path = step.folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    run_step(step, Work())
    assert not list(step.folder.path.rglob(".tmp-*"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"{}", b'{"step": "prepare"}', b"\xff\xfe"])
def test_an_unreadable_manifest_is_named_with_advice(step: Step, content: bytes) -> None:
    step.folder.write("manifest.json", content)
    with pytest.raises(DataError) as caught:
        run_step(step, Work())
    assert str(caught.value) == f"{step.folder.uri}/manifest.json: not readable. Delete the folder and run again"


def test_a_finished_output_that_lacks_a_file_is_named_with_advice(step: Step) -> None:
    run_step(step, Work())
    step.folder.delete("out/data.bin")
    with pytest.raises(DataError) as caught, naming_incomplete(step.workspace):
        step.folder.read("out/data.bin")
    assert caught.value.reason == "missing"
    assert str(caught.value) == (
        f"{step.folder.uri}/out/data.bin: got no such file, expected one that exists. Restore it, or delete "
        f"{step.folder.uri}, which was finished with it, and run the same command again: that step runs anew"
    )
    step.workspace.delete(f"prepare/{step.key}")
    run_step(step, Work())
    assert step.folder.read("out/data.bin") == b"data"


@pytest.mark.parametrize("name", ["prepare/0123456789abcdef/data.bin", "latest.json", "../elsewhere/data.bin"])
def test_a_missing_file_of_no_finished_output_keeps_its_line(step: Step, name: str) -> None:
    run_step(step, Work())
    with pytest.raises(DataError, match=r"expected one that exists$"), naming_incomplete(step.workspace):
        step.workspace.read(name)


def test_a_step_that_is_required_names_the_command_to_run_first(step: Step) -> None:
    with pytest.raises(ConfigError) as caught:
        require(step, "prepare")
    assert str(caught.value) == f"prepare: not done for these settings ({step.folder.uri}). Run hfd prepare first"
    run_step(step, Work())
    assert require(step, "prepare").skipped


def test_latest_keeps_other_entries_and_is_written_only_on_a_change(tmp_path: Path) -> None:
    workspace, path = Folder(str(tmp_path)), tmp_path / "latest.json"
    point_latest(workspace, model="train-decoder/a")
    point_latest(workspace, report="evaluate/b/report.html")
    assert json.loads(path.read_text()) == {"model": "train-decoder/a", "report": "evaluate/b/report.html"}
    before = path.stat()
    point_latest(workspace, model="train-decoder/a")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    point_latest(workspace, model="train-decoder/c")
    assert json.loads(path.read_text()) == {"model": "train-decoder/c", "report": "evaluate/b/report.html"}


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_an_unreadable_latest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "latest.json").write_text(content)
    with pytest.raises(DataError, match=r"latest\.json: not readable"):
        point_latest(Folder(str(tmp_path)), model="m")
