"""A step's work cut into fixed parts: each part done once, in any order, by anyone.

Part ``i`` is done when ``parts/00012-of-00128.json`` is there, written after the part's other files. Its
result (a JSON object with a ``digest``) is kept there, so a resumed step reads it back in place of working.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hfd.storage import Folder


class Engine(Protocol):
    """Where parts run: see :mod:`pipelines.cluster`."""

    def map(self, work: Callable[[Any], Any], items: Sequence[Any], on_done: Callable[[Any], None]) -> None:
        """Call ``work`` on every item, in any order and maybe at once; ``on_done`` with each result, here."""


@dataclass(frozen=True)
class PartTask:
    """One part: its index, how many there are, where the step's outputs go, and what ``do`` is given."""

    index: int
    count: int
    folder: Folder
    do: Callable[[int, int, Folder, Any], dict[str, Any]]
    payload: Any

    def __call__(self) -> dict[str, Any]:
        name = part_name(self.index, self.count)
        if self.folder.exists(name):  # a worker that died after this part has its other parts tried again
            done: dict[str, Any] = json.loads(self.folder.read(name))
            return done
        result = self.do(self.index, self.count, self.folder, self.payload)
        self.folder.write(name, json.dumps(result).encode() + b"\n")
        return result


def call_part(task: PartTask) -> tuple[int, dict[str, Any]]:
    return task.index, task()


def run_parts(
    engine: Engine,
    folder: Folder,
    payloads: Sequence[Any],
    do: Callable[[int, int, Folder, Any], dict[str, Any]],
    on_progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Results of all parts in order, working only on those that are not done. ``do(index, count, folder, payload)``."""
    count = len(payloads)
    results: dict[int, dict[str, Any]] = {}
    existing = {entry.key for entry in folder.files()} if folder.exists() else set()
    for index in range(count):
        if part_name(index, count) in existing:
            results[index] = json.loads(folder.read(part_name(index, count)))
    on_progress(len(results), count)
    missing = [PartTask(i, count, folder, do, payloads[i]) for i in range(count) if i not in results]

    def finished(result: tuple[int, dict[str, Any]]) -> None:
        results[result[0]] = result[1]
        on_progress(len(results), count)

    engine.map(call_part, missing, finished)
    return [results[index] for index in range(count)]


def part_name(index: int, count: int) -> str:
    return f"parts/{index:05d}-of-{count:05d}.json"


def digest_of_parts(results: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256("".join(result["digest"] for result in results).encode()).hexdigest()
