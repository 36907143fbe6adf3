"""A workspace of the code before the move into rooms: every step of it is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import Hfd
from tests.support.recorded_workspace import RECORDED, copy_recorded
from tests.support.snapshots import snapshot
from tests.support.tiny_run import tiny_overrides

STEPS = ("prepare", "train-autoencoder", "reconstruct", "train-decoder", "finetune-decoder", "evaluate")


def test_the_recording_is_small_and_names_no_machine() -> None:
    files = [path for path in RECORDED.rglob("*") if path.is_file()]
    assert len(files) == len(STEPS) + 1 and sum(path.stat().st_size for path in files) < 100_000
    assert not any(b'"/' in path.read_bytes() or b"//" in path.read_bytes() for path in files)


def test_every_step_is_skipped(hfd: Hfd, tmp_path: Path) -> None:
    photographs, workspace = copy_recorded(tmp_path)
    before = snapshot(tmp_path)
    settings = tiny_overrides(photographs, workspace)
    ended = hfd("retrain", "-c", "demo", *settings)
    assert (ended.code, ended.err) == (0, "")
    report = json.loads((workspace / "latest.json").read_bytes())["report"].removesuffix("/report.html")
    assert ended.out == (
        f"nothing to do: all 6 steps are done for these settings and 8 photographs ({workspace}/{report})\n"
    )
    assert snapshot(tmp_path) == before


def test_the_plan_finds_every_step_done(hfd: Hfd, tmp_path: Path) -> None:
    photographs, workspace = copy_recorded(tmp_path)
    ended = hfd("retrain", "-c", "demo", "--dry-run", *tiny_overrides(photographs, workspace))
    planned = [line.split() for line in ended.out.rstrip("\n").split("\n\n")[-1].splitlines()]
    assert [(name, state) for name, state, _ in planned] == [(name, "done") for name in STEPS]


@pytest.mark.parametrize(
    ("override", "first"),
    [("autoencoder.lmbda=0.02", "train-autoencoder"), ("evaluate.bootstrap_draws=21", "evaluate")],
)
def test_other_settings_are_not_skipped(hfd: Hfd, tmp_path: Path, override: str, first: str) -> None:
    photographs, workspace = copy_recorded(tmp_path)
    ended = hfd("retrain", "-c", "demo", "--dry-run", *tiny_overrides(photographs, workspace, override))
    planned = [line.split() for line in ended.out.rstrip("\n").split("\n\n")[-1].splitlines()]
    assert next(name for name, state, *_ in planned if state != "done") == first


def set_format(workspace: Path, version: int | None) -> None:
    """Make every manifest one of another version of the program: another format, and so another key."""
    for path in sorted(workspace.glob("*/*/manifest.json")):
        found = json.loads(path.read_bytes())
        del found["format"]
        path.write_text(json.dumps(found if version is None else {"format": version, **found}))
        path.parent.rename(path.parent.with_name(path.parent.name[::-1]))
    latest = workspace / "latest.json"
    places = {name: place.split("/") for name, place in json.loads(latest.read_bytes()).items()}
    latest.write_text(json.dumps({name: "/".join([p[0], p[1][::-1], *p[2:]]) for name, p in places.items()}))


@pytest.mark.parametrize("version", [0, 2, None])
def test_outputs_of_another_version_are_announced_and_stay(hfd: Hfd, tmp_path: Path, version: int | None) -> None:
    photographs, workspace = copy_recorded(tmp_path)
    set_format(workspace, version)
    folder = json.loads((workspace / "latest.json").read_bytes())["model"]
    note = (
        f"{workspace}: got outputs of format {version} ({folder}), expected 1. Every step runs again in a new folder; "
        "the old folders stay, delete them once nothing needs them"
    )
    before = snapshot(tmp_path)
    ended = hfd("retrain", "-c", "demo", "--dry-run", *tiny_overrides(photographs, workspace))
    shown, planned = ended.out.rstrip("\n").split("\n\n")[-2:]
    assert (ended.code, shown) == (0, note)
    assert {line.split()[1] for line in planned.splitlines()} == {"would"}
    ended = hfd("evaluate", "-c", "demo", *tiny_overrides(photographs, workspace))
    assert ended.code == 2 and ended.out == f"{note}\n"
    assert ended.err.startswith("hfd: prepare: not done for these settings (") and ended.err.count("\n") == 1
    assert snapshot(tmp_path) == before


def test_an_unreadable_latest_is_reported_before_anything_runs(hfd: Hfd, tmp_path: Path) -> None:
    photographs, workspace = copy_recorded(tmp_path)
    (workspace / "latest.json").write_text("train-decoder/b63c6ece1bb0cccb\n")
    before = snapshot(tmp_path)
    ended = hfd("retrain", "-c", "demo", *tiny_overrides(photographs, workspace))
    assert (ended.code, ended.err) == (2, f"hfd: {workspace}/latest.json: not readable. Delete it and run again\n")
    assert snapshot(tmp_path) == before
