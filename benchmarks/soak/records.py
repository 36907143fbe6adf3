"""Records of what a week left, as they are read from S3 and MLflow, and of the week itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Output:
    """The output of a step, ``name`` is STEP/KEY. ``files``: bytes of each. Unfinished: ``digest`` is None."""

    name: str
    files: Mapping[str, int]
    digest: str | None = None
    inputs: frozenset[str] = frozenset()
    finished: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> str:
        return self.name.partition("/")[0]

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())


@dataclass(frozen=True)
class Workspace:
    """All outputs by name, and the names of those that ``latest.json`` points to."""

    outputs: Mapping[str, Output]
    latest: frozenset[str]

    @property
    def num_bytes(self) -> int:
        return sum(one.num_bytes for one in self.outputs.values())

    def newest(self, step: str) -> Output | None:
        """Return the finished output of a step that ended last."""
        found = [one for one in self.outputs.values() if one.step == step and one.digest is not None]
        return max(found, key=lambda one: (one.finished, one.name), default=None)

    def reached(self, roots: Sequence[str]) -> set[str]:
        """Return the names of the outputs that the roots need, directly or not, and the roots that exist."""
        found: set[str] = set()
        waiting = [name for name in roots if name in self.outputs]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                inputs = self.outputs[name].inputs
                waiting += [other.name for other in self.outputs.values() if other.digest in inputs]
        return found


@dataclass(frozen=True)
class PhotoRow:
    """A row of the photo table: ``stamp`` is an ETag; ``first`` and ``crops``: its rows in the shard of its split."""

    name: str
    stamp: str
    reason: str | None
    shard: str = ""
    first: int | None = None
    crops: int = 0


@dataclass(frozen=True)
class Champion:
    """The champion of the registered model, and the digest of the training that made it."""

    version: int
    digest: str


@dataclass(frozen=True)
class Criterion:
    """A line of the gate: figures of champion and candidate; None: not measured."""

    name: str
    champion: float | None
    candidate: float | None
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """The result of a promotion. ``version``: of the promoted model."""

    promoted: bool
    version: int | None
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True)
class TrackedRun:
    """A run in MLflow; ``parent``: the id of its parent run."""

    run_id: str
    status: str
    parent: str | None


@dataclass(frozen=True)
class WeekRecord:
    """The result of a week. ``figures``: of the champion after it, as the gate recorded them."""

    number: int
    fault: str
    moment: str
    outcome: str
    photos: int
    rejected: int
    champion: Champion | None
    promoted: bool
    figures: Mapping[str, float]
    num_bytes: int
    largest_run: int
    running: tuple[str, ...]
    cpu_s: float
    wall_s: float
    message: str
    problems: tuple[str, ...]


class Journal:
    """The finished weeks of a soak, one JSON line each, in a file that a killed soak continues."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[WeekRecord]:
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        return [_decode(line) for line in lines]

    def add(self, record: WeekRecord) -> None:
        records = [*self.read(), record]
        text = "".join(json.dumps(asdict(one)) + "\n" for one in records)
        scratch = self._path.with_suffix(".new")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(self._path)  # whole, or as it was


def _decode(line: str) -> WeekRecord:
    found = json.loads(line)
    champion = Champion(**found["champion"]) if found["champion"] else None
    lists = {name: tuple(found[name]) for name in ("running", "problems")}
    return WeekRecord(**{**found, **lists, "champion": champion})
