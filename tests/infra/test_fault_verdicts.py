"""Verdicts of the fault matrices: which endings of a step count, and by which word."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.faults import steps as module
from benchmarks.faults.parts import Store
from benchmarks.faults.steps import Ended, Running, Steps, model_of, table

ONE_LINE = Ended(2, "", "hfd: S3 does not answer")


class Registry:
    uri = "http://127.0.0.1:1"

    def __init__(self, *versions: str) -> None:
        self._versions = list(versions)

    def versions(self, model: str) -> list[str]:
        return self._versions if model == "hfd-cell" else []


def local_store() -> Store:
    """A store that reads manifests of a local workspace; nothing listens at its address."""
    here = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    return Store({**here, "AWS_REGION": "us-east-1"})


def steps_of(
    workspace: Path,
    digest: str | None,
    monkeypatch: pytest.MonkeyPatch,
    *,
    rerun: str = "",
    versions: tuple[str, ...] = (),
) -> Steps:
    """Steps whose digest is expected to be ``d`` and is ``digest``; the command of a rerun is Python's ``rerun``."""
    if digest is not None:
        folder = workspace / "prepare/key"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"digest": digest}))
        (workspace / "promote/key").mkdir(parents=True)
        (workspace / "promote/key/manifest.json").write_text(json.dumps({"digest": digest}))
    found = Steps(local_store(), Registry(*versions), "10.0.0.1:6379", {}, expected={"prepare": "d", "promote": "d"})
    monkeypatch.setattr(found, "start", lambda *_: Running([sys.executable, "-c", rerun], os.environ))
    return found


def test_a_step_that_ended_by_itself_is_the_same_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = steps_of(tmp_path / "right", "d", monkeypatch)
    wrong = steps_of(tmp_path / "wrong", "e", monkeypatch)
    absent = steps_of(tmp_path / "absent", None, monkeypatch)
    words = [
        one.verdict("prepare", str(tmp_path / name), Ended(0, "", ""))[0]
        for one, name in ((right, "right"), (wrong, "wrong"), (absent, "absent"))
    ]
    assert words == ["same", "FAILED", "FAILED"]


@pytest.mark.parametrize(
    ("first", "killed", "rerun", "word"),
    [
        (ONE_LINE, False, "", "rerun"),
        (ONE_LINE, False, "raise SystemExit(2)", "FAILED"),
        (Ended(-9, "", ""), True, "", "rerun"),
        (Ended(-9, "", ""), False, "", "FAILED"),
        (Ended(1, "", "Traceback"), False, "", "FAILED"),
        (Ended(2, "", "hfd: one\ntwo"), False, "", "FAILED"),
        (Ended(2, "", "Usage: hfd"), False, "", "FAILED"),
    ],
)
def test_a_step_that_stopped_counts_with_one_line_or_killed_if_the_rerun_completes_it(
    first: Ended, killed: bool, rerun: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(tmp_path, "d", monkeypatch, rerun=rerun)
    assert steps.verdict("prepare", str(tmp_path), first, killed=killed)[0] == word


@pytest.mark.parametrize(
    ("versions", "word"), [(("1 champion",), "same"), (("1 champion", "2"), "FAILED"), (("1",), "FAILED")]
)
def test_a_promotion_leaves_one_version_that_is_champion(
    versions: tuple[str, ...], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "cell"
    steps = steps_of(workspace, "d", monkeypatch, versions=versions)
    assert model_of(str(workspace)) == "hfd-cell"
    assert steps.verdict("promote", str(workspace), Ended(0, "", ""))[0] == word


def test_lines_of_ray_itself_are_no_lines_of_the_command() -> None:
    code = "import sys; sys.stderr.write('(raylet, ip=1) x\\n(pid=3) y\\nhfd: one\\n'); raise SystemExit(2)"
    assert Running([sys.executable, "-c", code], os.environ).wait().is_one_line


def test_a_command_begins_with_what_enters_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(module, "Running", lambda command, _: seen.append(list(command)))
    Steps(local_store(), Registry(), "10.0.0.1:6379", {}, before=("enter", "head"), settings=("seed=7",)).start(
        "prepare", "s3://tests/cells/x", "seed=8"
    )
    (command,) = seen
    assert command[:7] == ["enter", "head", sys.executable, "-m", "hfd", "prepare", "-c"]
    assert "cluster.address=10.0.0.1:6379" in command
    assert [one for one in command if one.startswith("seed=")][-2:] == ["seed=7", "seed=8"]


def test_outcomes_are_a_table_of_markdown() -> None:
    rows = [("prepare", ["same", "rerun"]), ("promote", ["same", "-"])]
    expected = "| step | a | b |\n| --- | --- | --- |\n| prepare | same | rerun |\n| promote | same | - |"
    assert table(["a", "b"], rows) == expected
