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
