"""Checkpoints written in the background: complete, one at a time, errors reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.training.background import BackgroundWriter, on_host
from hfd.training.checkpoint import Checkpoints
from hfd.training.loop import Listener
from tests.support.tiny_training import MemoryLoader, decoder_task, differing, run


class Gated(Checkpoints):
    """Writes when it is let."""

    def gate(self) -> threading.Event:
        return GATES.setdefault(self.folder.uri, threading.Event())

    def save(self, step: int, state: dict[str, Any]) -> None:
        self.gate().wait()
        super().save(step, state)


GATES: dict[str, threading.Event] = {}


def test_a_snapshot_equals_the_state_at_its_step(tmp_path: Path) -> None:
    checkpoints = Gated(Folder(str(tmp_path)), {})
    weights = torch.zeros(3)
    with BackgroundWriter(checkpoints) as writer:
        writer.save(1, {"weights": weights, "all": [weights]})
        weights.fill_(7.0)  # the training goes on
        assert checkpoints.latest() is None
        checkpoints.gate().set()
    step, state = checkpoints.latest()
    assert step == 1 and state["weights"].tolist() == state["all"][0].tolist() == [0.0] * 3


def test_on_host_keeps_the_shape_of_a_state() -> None:
    task = decoder_task()
    state = task.state()
    copy = on_host(state)
    assert differing(copy, state) == []
    task.net.stem.weight.data.add_(1.0)
    assert differing(copy, task.state()) == ["/net/stem.weight"]


def test_busy_until_the_write_has_ended(tmp_path: Path) -> None:
    checkpoints = Gated(Folder(str(tmp_path)), {})
    with BackgroundWriter(checkpoints) as writer:
        assert not writer.busy
        writer.save(1, {})
        assert writer.busy
        checkpoints.gate().set()
        assert writer.finish() is None
        assert not writer.busy


def test_a_slow_write_does_not_hold_up_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps end while the first checkpoint is being written; the last one follows it."""
    saved, ended, save = [], threading.Event(), Checkpoints.save

    def slow(self: Checkpoints, step: int, state: dict[str, Any]) -> None:
        assert ended.wait(60)
        saved.append(step)
        save(self, step, state)

    def at_step(step: int, _planned: int | None) -> None:
        time.sleep(0.01)  # more than the interval
        if step == 10:
            ended.set()

    monkeypatch.setattr(Checkpoints, "save", slow)
    settings = {"steps": 10, "checkpoint_every_s": 0.005}
    assert run(decoder_task(), MemoryLoader(32), tmp_path, Listener(on_step=at_step), **settings).steps == 10
    assert saved == [1, 10]


def test_one_is_in_flight_at_most(tmp_path: Path) -> None:
    checkpoints = Gated(Folder(str(tmp_path)), {})
    with BackgroundWriter(checkpoints) as writer:
        writer.save(1, {})
        second = threading.Thread(target=writer.save, args=(2, {}))
        second.start()
        assert second.is_alive() and sum(t.name == "hfd-checkpoint" for t in threading.enumerate()) == 1
        checkpoints.gate().set()
        second.join()
        assert writer.finish() is None
    assert checkpoints.newest() == 2


def test_an_error_stops_the_training_at_its_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    steps: list[int] = []

    def on_step(step: int, _planned: int | None) -> None:
        steps.append(step)
        for thread in threading.enumerate():
            if thread.name == "hfd-checkpoint":
                thread.join()

    with pytest.raises(DataError, match=r"file/checkpoints/.*: a folder of its path is a file") as caught:
        run(decoder_task(), MemoryLoader(32), tmp_path / "file/checkpoints", Listener(on_step=on_step),
            checkpoint_every_s=0.0)  # fmt: skip
    assert "\n" not in str(caught.value)
    assert steps == [1, 2]  # saved after the first, which failed while the second ran


def test_an_error_of_the_last_checkpoint_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="a folder of its path is a file"):
        run(decoder_task(), MemoryLoader(32), tmp_path / "file/checkpoints", steps=2)


def test_a_training_on_s3_resumes_from_its_bucket(s3: Folder) -> None:
    checkpoints = Checkpoints(s3, {})
    with BackgroundWriter(checkpoints) as writer:
        for step in (1, 2, 3):
            writer.save(step, {"weights": torch.full((1000,), float(step))})
    assert [entry.key for entry in s3.files()] == ["checkpoint-000000002.pt", "checkpoint-000000003.pt"]
    step, state = checkpoints.latest()
    assert step == 3 and state["weights"].unique().tolist() == [3.0]


UPLOAD = """
import sys, torch
from hfd.io.storage import Folder
from hfd.training.background import BackgroundWriter
from hfd.training.checkpoint import Checkpoints

with BackgroundWriter(Checkpoints(Folder(sys.argv[1]), {})) as writer:
    writer.save(1, {"weights": torch.ones(10)})
    assert writer.finish() is None
    writer.save(2, {"weights": torch.rand(int(sys.argv[2]))})
    print("uploading", flush=True)
"""
LARGE = 50_000_000
"""Numbers, 200 MB: ten parts of an upload and more."""


@pytest.mark.integration
def test_a_kill_in_the_middle_of_an_upload_leaves_the_one_before(s3: Folder) -> None:
    killed = 0
    for wait_s in (0.15, 0.3, 0.6):
        process = subprocess.Popen(
            [sys.executable, "-c", UPLOAD, s3.uri, str(LARGE)], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert process.stdout is not None and process.stdout.readline() == "uploading\n"
        threading.Event().wait(wait_s)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        found = Checkpoints(s3, {}).latest()
        assert found is not None
        step, state = found
        assert state["weights"].numel() == {1: 10, 2: LARGE}[step]
        if step == 1:
            assert [entry.key for entry in s3.files()] == ["checkpoint-000000001.pt"]
        for entry in s3.files():
            s3.delete(entry.key)
    assert killed  # one of these at least came in the middle


def test_a_damaged_newest_one_on_s3_gives_way(s3: Folder) -> None:
    checkpoints = Checkpoints(s3, {})
    checkpoints.save(1, {"a": 1})
    s3.write("checkpoint-000000002.pt", b"half of something")
    assert checkpoints.latest() == (1, {"a": 1})
