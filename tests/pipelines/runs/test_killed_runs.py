"""Runs that are killed in the middle of every step, and started again, give the result of an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from hfd.training.checkpoint import Checkpoints
from pipelines.context import Silent
from pipelines.retrain import retrain
from pipelines.workflow import STEP_NAMES
from tests.support.tiny_run import tiny_config, tiny_overrides, write_photographs

pytestmark = pytest.mark.integration

STEPS = tuple(name for name in STEP_NAMES if name != "promote")  # which has kills of its own
TRAIN_STEPS = 40
PHOTOGRAPHS = 32
SETTINGS = (
    "prepare.photos_per_shard=1",
    "autoencoder.train.checkpoint_every_s=0.2",
    "decoder.train.checkpoint_every_s=0.05",
    "decoder.adversarial.train.checkpoint_every_s=0.05",
    "evaluate.baselines=[jpeg]",
    "evaluate.max_images=3",
)


class Launched:
    """``hfd retrain`` in a process group of its own."""

    def __init__(self, photographs: Path, workspace: Path) -> None:
        overrides = tiny_overrides(photographs, workspace, *SETTINGS, steps=TRAIN_STEPS)
        command = [sys.executable, "-m", "hfd", "retrain", "-c", "demo", *overrides]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def stop_when(self, ready: Callable[[], bool], number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal to the group at the moment ``ready``; return code, standard output and error."""
        while not ready():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.002)
        os.killpg(self.process.pid, number)
        out, err = self.process.communicate()
        return self.process.returncode, out, err


def moment(workspace: Path, step: str) -> Callable[[], bool]:
    """Return a function that is true once a step has written more than existed before, in the middle of its work."""
    trains = step.endswith(("autoencoder", "decoder"))
    pattern = f"{step}/*/" + ("checkpoints/checkpoint-*.pt" if trains else "parts/*.json")

    def kept() -> set[Path]:
        return set(workspace.glob(pattern))

    before = kept()
    return lambda: not kept() <= before


def check_whole(folder: Path) -> None:
    """Every file that has its final name is whole."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".safetensors":
            load_file(path)


def visible(workspace: Path) -> set[str]:
    return {str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_run_that_is_killed_in_every_step_ends_like_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = write_photographs(tmp_path / "photographs", PHOTOGRAPHS)
    workspace = tmp_path / "killed"

    code, out, err = Launched(photographs, workspace).stop_when(moment(workspace, "prepare"), signal.SIGINT)
    assert (code, out) == (130, "")
    assert err == "hfd: stopped. Run the same command again to continue.\n"
    assert not list(workspace.rglob("manifest.json"))

    for index, step in enumerate(STEPS):
        code, out, _ = Launched(photographs, workspace).stop_when(moment(workspace, step), signal.SIGKILL)
        assert code == -signal.SIGKILL
        finished = {path.parent.parent.name for path in workspace.rglob("manifest.json")}
        assert finished == set(STEPS[:index]), f"the kill in {step} came too late"
        assert len(out.splitlines()) == index
        check_whole(workspace)
        if step == "train-decoder":
            shutil.copytree(workspace, tmp_path / "resumed")

    config = tiny_config(photographs, workspace, *SETTINGS, steps=TRAIN_STEPS)
    ended = retrain(config, Silent())
    assert [done.skipped for done in ended] == [True, True, True, True, True, False]

    undisturbed = tmp_path / "undisturbed"
    reference = retrain(tiny_config(photographs, undisturbed, *SETTINGS, steps=TRAIN_STEPS), Silent())
    assert [done.digest for done in ended] == [done.digest for done in reference]
    assert visible(workspace) == visible(undisturbed)
    assert ended[1].manifest.facts["steps"] == TRAIN_STEPS

    resumed = tmp_path / "resumed"
    (latest, *_) = sorted(resumed.glob("train-decoder/*/checkpoints/*.pt"), reverse=True)
    starts: list[int] = []

    def spy(self: Checkpoints) -> tuple[int, dict[str, object]] | None:
        found = original(self)
        starts.append(found[0] if found else 0)
        return found

    original = Checkpoints.latest
    monkeypatch.setattr(Checkpoints, "latest", spy)
    config = tiny_config(photographs, resumed, *SETTINGS, steps=TRAIN_STEPS)
    (decoder,) = retrain(config, Silent(), only="train-decoder")
    assert starts == [int(latest.stem.rpartition("-")[2])] and 0 < starts[0] < TRAIN_STEPS
    assert decoder.digest == reference[3].digest


def test_a_run_killed_after_its_training_does_not_train_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are there, their manifest is not: what remains is to write it."""
    photographs = write_photographs(tmp_path / "photographs")
    config = tiny_config(photographs, tmp_path / "workspace")
    first = [retrain(config, Silent(), only=step)[0] for step in ("prepare", "train-autoencoder")][1]
    first.folder.delete("manifest.json")

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("pipelines.engine.inline.Inline.train", never)
    (again,) = retrain(config, Silent(), only="train-autoencoder")
    assert not again.skipped and again.digest == first.digest
    assert again.manifest.facts == first.manifest.facts
