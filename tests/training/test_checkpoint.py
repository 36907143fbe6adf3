"""Checkpoints: kept, read, rejected, and never executed."""

from __future__ import annotations

import io
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from hfd.errors import DataError, TrainingError
from hfd.training.checkpoint import KEEP
from tests.support.tiny_training import checkpoints_in, decoder_task, differing


def state(step: int) -> dict[str, Any]:
    return {"task": {"weights": torch.full((3,), float(step))}, "planned": None}


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_none_at_first(tmp_path: Path) -> None:
    assert checkpoints_in(tmp_path / "missing").latest() is None
    assert checkpoints_in(tmp_path).latest() is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    for step in (5, 50, 500, 1_000_000):
        checkpoints.save(step, state(step))
    assert KEEP == 2
    assert names(tmp_path) == ["checkpoint-000000500.pt", "checkpoint-001000000.pt"]
    step, back = checkpoints.latest()
    assert step == 1_000_000 and differing(back, state(1_000_000)) == []


def test_a_full_disk_is_one_line_and_leaves_the_one_before(small_disk: Path) -> None:
    checkpoints = checkpoints_in(small_disk)
    checkpoints.save(1, state(1))
    with pytest.raises(DataError, match="the disk is full") as error:
        checkpoints.save(2, {"task": {"weights": torch.zeros(500_000)}})
    assert error.value.reason == "disk-full"
    assert names(small_disk) == ["checkpoint-000000001.pt"]


def test_everything_a_task_holds_comes_back(tmp_path: Path) -> None:
    task = decoder_task()
    held = {"task": task.state(), "planned": 17}
    checkpoints_in(tmp_path).save(3, held)
    assert differing(checkpoints_in(tmp_path).latest()[1], held) == []


def damage(kind: str, data: bytes) -> bytes:
    pickled = io.BytesIO()
    torch.save([1, 2, 3], pickled)
    return {
        "empty": b"",
        "truncated": data[: len(data) // 2],
        "almost whole": data[:-1],
        "zeros": bytes(len(data)),
        "text": b"not a checkpoint",
        "another archive": pickled.getvalue(),
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "truncated", "almost whole", "zeros", "text", "another archive"])
def test_an_unreadable_one_gives_way_to_the_one_before(tmp_path: Path, kind: str) -> None:
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.save(1, state(1))
    checkpoints.save(2, state(2))
    newest = tmp_path / "checkpoint-000000002.pt"
    newest.write_bytes(damage(kind, newest.read_bytes()))
    step, back = checkpoints.latest()
    assert step == 1 and differing(back, state(1)) == []
    # It is gone, and takes no room among the two that are kept.
    assert names(tmp_path) == ["checkpoint-000000001.pt"]


def test_all_unreadable_is_none(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step))
        (tmp_path / f"checkpoint-{step:09d}.pt").write_bytes(b"\x80\x04.")
    assert checkpoints.latest() is None


def test_no_damage_ends_in_a_traceback(tmp_path: Path) -> None:
    rng = random.Random(0)
    checkpoints = checkpoints_in(tmp_path)
    legacy = io.BytesIO()
    torch.save({"identity": {}, "step": 1}, legacy, _use_new_zipfile_serialization=False)
    read = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch remarks on odd pickle protocols
        for _ in range(150):
            broken = bytearray(legacy.getvalue())
            for _ in range(rng.randint(1, 4)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            (tmp_path / "checkpoint-000000001.pt").write_bytes(broken)
            try:
                read += checkpoints.latest() is not None
            except TrainingError as error:  # it may still read, as one of another configuration
                assert "another configuration" in str(error)
    assert read == 0


def test_another_configuration_is_refused_by_its_keys(tmp_path: Path) -> None:
    checkpoints_in(tmp_path, seed="1", old="x").save(4, state(4))
    with pytest.raises(TrainingError) as caught:
        checkpoints_in(tmp_path, seed="2", new="y").latest()
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/checkpoint-000000004.pt: belongs to another configuration")
    assert "(new was absent, is y; old was x, is absent; seed was 1, is 2)" in message
    assert "decoder.s" not in message
    # Refused is not removed.
    assert checkpoints_in(tmp_path, seed="1", old="x").latest()[0] == 4


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_malicious_checkpoint_is_not_run(tmp_path: Path) -> None:
    mark, folder = tmp_path / "ran", tmp_path / "checkpoints"
    folder.mkdir()
    archive = io.BytesIO()
    torch.save({"identity": {"decoder.s": "0.5"}, "step": 1, "state": Touch(mark)}, archive)
    for data in (pickle.dumps(Touch(mark)), archive.getvalue()):
        (folder / "checkpoint-000000001.pt").write_bytes(data)
        assert checkpoints_in(folder).latest() is None
        assert not mark.exists()
    torch.load(io.BytesIO(archive.getvalue()), weights_only=False)
    assert mark.exists()  # the bomb works


def test_clear_keeps_other_files(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.save(1, state(1))
    (tmp_path / "result.json").write_text("{}")
    checkpoints.save(2, state(2))
    checkpoints.clear()
    assert names(tmp_path) == ["result.json"]
    assert checkpoints.latest() is None
    checkpoints_in(tmp_path / "missing").clear()
