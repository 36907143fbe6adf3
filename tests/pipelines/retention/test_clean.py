"""Cleaning of real workspaces, local and on S3: deleted outputs, kept ones, and the state after a kill."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hfd.config import Config
from hfd.errors import ConfigError, HfdError
from hfd.io.storage import Folder
from pipelines.context import Silent
from pipelines.retention.commands import Cleaning, clean, list_runs, parse_age, run_table
from pipelines.retention.contents import read_contents
from pipelines.runs.lease import lease
from pipelines.runs.step import MARKS, Done, Outcome, Step, point_latest, run_step
from tests.support.command_line import Hfd
from tests.support.mlflow_server import Server
from tests.support.tiny_run import tiny_config, tiny_overrides

ALL = Cleaning(keep_last=0, older_than="0s", yes=True)


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def made(workspace: Folder, name: str, number: int, *before: Done) -> Done:
    step = Step(name, workspace, {"number": number}, {one.step.name: one.digest for one in before})

    def work(folder: Folder) -> Outcome:
        for i in range(3):
            folder.write(f"parts/{i}.json", b"{}")
        folder.write("data.bin", bytes(1000))
        if name == "train-decoder":
            folder.write("checkpoints/checkpoint-000000002.pt", bytes(500))
        return Outcome(f"digest of {name} {number}", {})

    return run_step(step, work)


def run_of(workspace: Folder, number: int) -> list[Done]:
    prepared = made(workspace, "prepare", 1)
    decoder = made(workspace, "train-decoder", number, prepared)
    return [prepared, decoder, made(workspace, "evaluate", number, decoder)]


def place(done: Done) -> str:
    return f"{done.step.name}/{done.step.key}"


def config_of(workspace: Folder, *more: str) -> Config:
    return tiny_config("unused", workspace.uri, *more)


def left(workspace: Folder) -> set[str]:
    return set(read_contents(workspace).folders)


@pytest.mark.integration
def test_unneeded_outputs_go_and_the_rest_stays(workspace: Folder) -> None:
    runs = [run_of(workspace, number) for number in (1, 2)]
    point_latest(workspace, model=place(runs[0][1]), report=f"{place(runs[0][2])}/report.html")
    workspace.write("notes.txt", b"of a person")
    workspace.write("prepare/mine/a.png", b"of a person, too")
    before = {entry.key for entry in workspace.files()}

    listed = Lines()
    clean(config_of(workspace), Cleaning(keep_last=0, older_than="0s"), listed)
    assert {entry.key for entry in workspace.files()} == before
    assert listed.lines[0] == f"{workspace.uri}: left alone, not the output of a step: notes.txt, prepare/mine"
    assert {line.split()[0] for line in listed.lines[1:-1]} == {place(runs[1][1]), place(runs[1][2])}
    assert listed.lines[-1].startswith("2 of 5 outputs, ") and "would be deleted with --yes" in listed.lines[-1]

    clean(config_of(workspace), Cleaning(keep_last=0, older_than="1h", yes=True), Lines())
    clean(config_of(workspace), Cleaning(keep_last=2, older_than="0s", yes=True), Lines())
    assert {entry.key for entry in workspace.files()} == before
    clean(config_of(workspace), ALL, done := Lines())
    assert done.lines[-1].startswith("2 of 5 outputs") and ": deleted; 3 kept, " in done.lines[-1]
    assert left(workspace) == {place(one) for one in runs[0]}
    expected = {key for key in before if not key.startswith((place(runs[1][1]), place(runs[1][2])))}
    assert {entry.key for entry in workspace.files()} == expected
    clean(config_of(workspace), ALL, again := Lines())
    assert again.lines[-1].startswith("0 of 3 outputs")


@pytest.mark.parametrize("killed_at", range(1, 5))
def test_a_killed_deletion_leaves_nothing_that_looks_done_and_is_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    workspace = Folder(str(tmp_path / "w"))
    prepared = made(workspace, "prepare", 1)
    calls = 0
    real_write, real_delete = Folder.write, Folder.delete

    def counted(real: Any) -> Any:
        def call(self: Folder, *arguments: Any) -> None:
            nonlocal calls
            if self.uri == workspace.uri:
                calls += 1
                if calls == killed_at:
                    if arguments[0] == place(prepared):  # half of the folder
                        real_delete(self, f"{arguments[0]}/data.bin")
                    raise KeyboardInterrupt
            real(self, *arguments)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write", counted(real_write))
        patched.setattr(Folder, "delete", counted(real_delete))
        with pytest.raises(KeyboardInterrupt):
            clean(config_of(workspace), ALL, Silent())
    # A run that needs the step after all: whole, or from an empty folder.
    again = made(workspace, "prepare", 1)
    assert again.folder.read("data.bin") == bytes(1000) and again.folder.exists("parts/2.json")
    clean(config_of(workspace), Cleaning(keep_last=1, older_than="0s", yes=True), Silent())
    assert left(workspace) == {place(prepared)} and not workspace.exists(f"{MARKS}/{place(prepared)}")
    clean(config_of(workspace), ALL, Silent())
    with pytest.raises(ConfigError):
        read_contents(workspace)


def test_links_are_neither_followed_nor_deleted(tmp_path: Path) -> None:
    workspace, elsewhere = Folder(str(tmp_path / "w")), Folder(str(tmp_path / "elsewhere"))
    mine, other = made(workspace, "prepare", 1), made(elsewhere, "prepare", 2)
    (workspace.path / place(other)).symlink_to(elsewhere.path / place(other))
    clean(config_of(workspace), ALL, said := Lines())
    assert place(other) in said.lines[0] and not workspace.exists(place(mine))
    assert other.folder.read("data.bin") and (workspace.path / place(other)).is_symlink()


def test_checkpoints_of_finished_trainings_go_alone(tmp_path: Path) -> None:
    workspace = Folder(str(tmp_path))
    _, decoder, _ = run_of(workspace, 1)
    workspace.write("train-decoder/0123456789abcdef/checkpoints/checkpoint-1.pt", b"unfinished")
    before = {entry.key for entry in workspace.files()}
    clean(config_of(workspace), Cleaning(3, "1d", checkpoints=True), said := Lines())
    assert said.lines[-1] == "checkpoints of 1 finished trainings, 500 B: would be deleted with --yes"
    clean(config_of(workspace), Cleaning(3, "1d", checkpoints=True, yes=True), Lines())
    gone = before - {entry.key for entry in workspace.files()}
    assert gone == {f"{place(decoder)}/checkpoints/checkpoint-000000002.pt"}


def test_while_a_run_works_nothing_is_deleted(tmp_path: Path) -> None:
    workspace = Folder(str(tmp_path))
    run_of(workspace, 1)
    config = config_of(workspace)
    with lease(workspace, config.lease), pytest.raises(HfdError, match="held by"):
        clean(config, ALL, Silent())
    assert len(left(workspace)) == 3


def test_runs_are_listed_with_what_they_need(tmp_path: Path) -> None:
    workspace = Folder(str(tmp_path))
    runs = [run_of(workspace, number) for number in (1, 2)]
    workspace.write("train-decoder/0123456789abcdef/checkpoints/checkpoint-1.pt", b"unfinished")
    point_latest(workspace, model=place(runs[1][1]))
    found = list_runs(config_of(workspace))
    assert {run.end.name for run in found[:2]} == {place(run[2]) for run in runs}
    records = {run.end.name: run.to_record(time.time()) for run in found}
    assert records[place(runs[1][2])]["marks"] == ["latest model"]
    assert set(records[place(runs[0][2])]["outputs"]) == {place(one) for one in runs[0]}
    assert records["train-decoder/0123456789abcdef"]["marks"] == ["unfinished"]
    text = run_table(found, time.time() + 7200)
    assert text.splitlines()[0].split()[1:3] == ["2", "h"] and "latest model" in text


@pytest.mark.parametrize(("text", "seconds"), [("90 s", 90), ("12h", 43200), ("1.5d", 129600), ("2 w", 1209600)])
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["clean", "--older-than", "soon"], "--older-than: got 'soon', expected a number and one of s, min, h, d, w"),
        (["clean", "tracking.uri=http://127.0.0.1:9", "--yes"], "tracking.uri: got http://127.0.0.1:9, expected"),
        (["runs", "workspace={folder}/none"], "expected one that exists"),
        (["clean", "workspace={folder}/photos", "--yes"], "without the output of a step, expected a workspace"),
    ],
)
def test_bad_input_is_one_line_and_deletes_nothing(tmp_path: Path, hfd: Hfd, arguments: list[str], line: str) -> None:
    workspace = Folder(str(tmp_path / "w"))
    run_of(workspace, 1)
    Folder(str(tmp_path / "photos")).write("a.png", b"a photograph")
    command, *rest = (one.format(folder=tmp_path) for one in arguments)
    ended = hfd(command, "-c", "demo", *tiny_overrides("unused", workspace.uri), *rest)
    assert ended.code == 2 and line in ended.err and ended.err.count("\n") == 1
    assert len(left(workspace)) == 3
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]


@pytest.mark.integration
def test_a_registered_model_keeps_its_outputs(tmp_path: Path, server: Server) -> None:
    from pipelines.registry.champion import CHAMPION, DIGEST
    from pipelines.tracking.client import open_client

    workspace = Folder(str(tmp_path))
    runs = [run_of(workspace, number) for number in (1, 2)]
    client = open_client(server.uri)
    run = client.create_run(client.create_experiment("retention")).info
    client.create_registered_model("kept-model")
    version = client.create_model_version(
        "kept-model", f"{run.artifact_uri}/model", run.run_id, tags={DIGEST: runs[0][1].digest}
    )
    client.set_registered_model_alias("kept-model", CHAMPION, version.version)
    config = config_of(workspace, f"tracking.uri={server.uri}")
    marks = {run.end.name: list(run.marks) for run in list_runs(config)}
    assert marks[place(runs[0][2])] == [f"kept-model version {version.version}, champion"]
    clean(config, ALL, Silent())
    assert left(workspace) == {place(runs[0][0]), place(runs[0][1])}


def test_a_damaged_manifest_stops_the_cleaning(tmp_path: Path) -> None:
    workspace = Folder(str(tmp_path))
    done = made(workspace, "prepare", 1)
    workspace.write(f"{place(done)}/manifest.json", json.dumps({"step": "prepare"}).encode())
    with pytest.raises(HfdError, match="not readable"):
        clean(config_of(workspace), ALL, Silent())
    assert done.folder.exists("data.bin")
