"""Parts: done once, divided where their workers die, and resumed where an earlier run stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hfd.errors import HfdError
from hfd.io.storage import Folder
from pipelines.engine.base import MapJob, Worker
from pipelines.engine.inline import Inline
from pipelines.runs.parts import StepPart, killed_worker, part_name, run_parts


class DeathError(Exception):
    """Stands for the death of a process."""


class DyingEngine:
    """An engine that reports a dead worker where the work raises :class:`DeathError`."""

    def __init__(self) -> None:
        self.calls = 0

    def with_gpus(self) -> DyingEngine:
        return self

    def map(self, job: MapJob) -> None:
        for item in job.items:
            self.calls += 1
            try:
                job.on_done(job.work(*(() if job.load is None else (job.load(),)), item))
            except DeathError:
                if job.on_death is None:
                    raise
                job.on_death(item)

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        raise AssertionError(f"{name}, {work}: no test of parts trains")


@dataclass(frozen=True)
class Batch:
    """Words; "poison" kills its worker."""

    words: tuple[str, ...]
    killers: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.words)

    def only(self, index: int) -> Batch:
        return Batch((self.words[index],))

    def rejecting(self, indices: frozenset[int]) -> Batch:
        return replace(self, killers=self.killers | indices)


def shout(part: StepPart[Batch], *model: str) -> dict[str, Any]:
    batch = part.payload
    said = []
    for index, word in enumerate(batch.words):
        if index in batch.killers:
            continue
        if word == "poison":
            raise DeathError
        said.append(word.upper() + "".join(model))
    part.folder.write(f"said/{part.index:05d}-of-{part.count:05d}", " ".join(said).encode())
    rejects = [killed_worker(batch.words[index]) for index in sorted(batch.killers)]
    return {"digest": " ".join(said), "rejects": rejects}


BATCHES = [Batch(("a", "b")), Batch(("c", "poison", "d", "poison")), Batch(("poison",)), Batch(("e",))]


@pytest.mark.parametrize("load", [None, "!".__str__])
def test_killer_items_are_named_and_the_others_are_done(tmp_path: Path, load: Callable[[], str] | None) -> None:
    told: list[tuple[int, int]] = []
    mark = "!" if load else ""
    folder = Folder(str(tmp_path))
    results = run_parts(DyingEngine(), folder, BATCHES, shout, lambda *now: told.append(now), load=load)
    assert [result["digest"] for result in results] == [f"A{mark} B{mark}", f"C{mark} D{mark}", "", f"E{mark}"]
    assert [len(result["rejects"]) for result in results] == [0, 2, 1, 0]
    assert {reject["reason"] for result in results for reject in result["rejects"]} == {"killed-worker"}
    assert told[0] == (0, 4) and told[-1] == (4, 4)
    # Isolated items left nothing behind, and a second run has nothing to do.
    assert sorted(entry.key for entry in (folder / "said").files()) == [f"{i:05d}-of-00004" for i in range(4)]
    engine = DyingEngine()
    assert run_parts(engine, folder, BATCHES, shout, lambda *_: None, load=load) == results and engine.calls == 0


def test_a_part_that_dies_without_a_killer_ends_the_run(tmp_path: Path) -> None:
    def only_together(part: StepPart[Batch]) -> dict[str, Any]:
        if len(part.payload) > 1:
            raise DeathError
        return {"digest": ""}

    with pytest.raises(HfdError, match=r"^cluster\.map_workers: worker processes keep dying on 1 of 2 parts, and no "):
        run_parts(DyingEngine(), Folder(str(tmp_path)), BATCHES[:2], only_together, lambda *_: None)
    assert not (tmp_path / "parts").exists()


def test_where_everything_dies_nothing_is_taken_apart(tmp_path: Path) -> None:
    engine = DyingEngine()
    with pytest.raises(HfdError, match=r"keep dying on 5 of 20 parts") as caught:
        run_parts(engine, Folder(str(tmp_path)), [Batch(("poison",))] * 20, shout, lambda *_: None)
    assert engine.calls == 5 and "\n" not in str(caught.value)


def test_payloads_that_cannot_be_taken_apart_die_as_they_always_did(tmp_path: Path) -> None:
    def die(_part: StepPart[str]) -> dict[str, Any]:
        raise DeathError

    with pytest.raises(DeathError):
        run_parts(DyingEngine(), Folder(str(tmp_path)), ["word"], die, lambda *_: None)


def test_only_parts_of_this_plan_are_taken_up(tmp_path: Path) -> None:
    """Results of another number of parts, and other files, do not count."""
    folder = Folder(str(tmp_path))
    folder.write(part_name(0, 3), json.dumps({"digest": "other"}).encode())
    folder.write(part_name(1, 2), json.dumps({"digest": "kept"}).encode())
    folder.write("parts/notes.txt", b"no part")
    engine = DyingEngine()
    results = run_parts(engine, folder, [Batch(("a",)), Batch(("b",))], shout, lambda *_: None)
    assert [result["digest"] for result in results] == ["A", "kept"] and engine.calls == 1


def test_in_one_process_a_model_is_loaded_once_and_only_for_work(tmp_path: Path) -> None:
    from hfd.config import ClusterConfig

    loaded: list[int] = []

    def load() -> str:
        loaded.append(1)
        return "?"

    engine = Inline(ClusterConfig())
    for _ in range(2):
        results = run_parts(
            engine, Folder(str(tmp_path)), [Batch(("a",)), Batch(("b",))], shout, lambda *_: None, load=load
        )
    assert [result["digest"] for result in results] == ["A?", "B?"] and len(loaded) == 1
