"""A step's work cut into fixed parts: each part done once, in any order, by anyone.

Part ``i`` is done when ``parts/00012-of-00128.json`` is there, written after the part's other files. Its
result (a JSON object with a ``digest``) is kept there, so a resumed step reads it back in place of working.

A part may be made of items, any of which can kill the process that works on it. Where its payload is
:class:`Divisible` and an engine tells that workers keep dying on the part, each of its items is tried alone;
those that kill their worker then, too, are marked in the payload, which has to reject them, and the part
is done again without them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from hfd.errors import HfdError
from hfd.io.storage import Folder
from pipelines.engine.base import Engine

KILLED_WORKER = "killed-worker"
"""The reason of an item that is rejected because every process that worked on it died."""

MAX_DEAD_PARTS = 4
MAX_DEAD_SHARE = 0.2
"""Above both, dying workers say nothing about single items any more."""

READ_THREADS = 16

Do = Callable[..., dict[str, Any]]
"""``do(index, count, folder, payload)``, with the worker's model as fifth argument where there is one."""


@runtime_checkable
class Divisible(Protocol):
    """A part's payload that is made of items."""

    def __len__(self) -> int:
        """How many items."""

    def only(self, index: int) -> Divisible:
        """The payload with this item alone."""

    def rejecting(self, indices: frozenset[int]) -> Divisible:
        """The payload of which these items are to be rejected, as :func:`killed_worker` words it, untouched."""


@dataclass(frozen=True)
class PartTask:
    """One part: its index, how many there are, where the step's outputs go, and what ``do`` is given."""

    index: int
    count: int
    folder: Folder
    do: Do
    payload: Any

    def __call__(self, *model: Any) -> dict[str, Any]:
        name = part_name(self.index, self.count)
        if self.folder.exists(name):  # a worker that died after this part has its other parts tried again
            done: dict[str, Any] = json.loads(self.folder.read(name))
            return done
        result = self.do(self.index, self.count, self.folder, self.payload, *model)
        self.folder.write(name, json.dumps(result).encode() + b"\n")
        return result


@dataclass(frozen=True)
class IsolatedItem:
    """One item of a part on which workers died, to be tried alone; what comes out is thrown away."""

    task: PartTask
    item: int

    def __call__(self, *model: Any) -> None:
        task = self.task
        with tempfile.TemporaryDirectory(prefix="hfd-isolated-item-") as scratch:
            task.do(task.index, task.count, Folder(scratch), task.payload.only(self.item), *model)


def call_part(task: PartTask) -> tuple[int, dict[str, Any]]:
    return task.index, task()


def call_part_with_model(model: Any, task: PartTask) -> tuple[int, dict[str, Any]]:
    return task.index, task(model)


def try_isolated(item_alone: IsolatedItem) -> None:
    item_alone()


def try_isolated_with_model(model: Any, item_alone: IsolatedItem) -> None:
    item_alone(model)


def run_parts(
    engine: Engine,
    folder: Folder,
    payloads: Sequence[Any],
    do: Do,
    on_progress: Callable[[int, int], None],
    *,
    load: Callable[[], Any] | None = None,
) -> list[dict[str, Any]]:
    """Results of all parts in order, working only on those that are not done. ``do(index, count, folder, payload)``.

    ``load``: makes what ``do`` is given as its fifth argument, once in each worker of a pool; None: nothing, and any
    worker does. Raises :class:`HfdError` where workers keep dying and no single item is to blame.
    """
    count = len(payloads)
    results = _finished(folder, count)
    on_progress(len(results), count)

    def finished(result: tuple[int, dict[str, Any]]) -> None:
        results[result[0]] = result[1]
        on_progress(len(results), count)

    missing = [PartTask(i, count, folder, do, payloads[i]) for i in range(count) if i not in results]
    dead: list[PartTask] = []

    def died(task: PartTask) -> None:
        dead.append(task)
        if len(dead) > max(MAX_DEAD_PARTS, MAX_DEAD_SHARE * count):
            raise too_many_deaths(len(dead), count)

    divisible = all(isinstance(payload, Divisible) for payload in payloads)
    _map_parts(engine, load, missing, finished, died if divisible else None)
    if dead:
        _map_parts(engine, load, _without_killers(engine, load, dead), finished, _give_up)
    return [results[index] for index in range(count)]


def killed_worker(key: str) -> dict[str, str]:
    """The row of an item in a table of rejects."""
    message = f"{key}: got a worker process that died every time, expected a picture that fits its memory"
    return {"photo": key, "reason": KILLED_WORKER, "message": message}


def _map_parts(
    engine: Engine,
    load: Callable[[], Any] | None,
    tasks: Sequence[PartTask],
    finished: Callable[[Any], None],
    on_death: Callable[[Any], None] | None,
) -> None:
    if load is None:
        engine.map(call_part, tasks, finished, on_death)
    else:
        engine.map_with_model(load, call_part_with_model, tasks, finished, on_death)


def _without_killers(engine: Engine, load: Callable[[], Any] | None, dead: Sequence[PartTask]) -> list[PartTask]:
    """The parts, to be done again: what kills a worker alone, too, is marked to be rejected."""
    killers: dict[int, set[int]] = {task.index: set() for task in dead}
    isolated = [IsolatedItem(task, item) for task in dead for item in range(len(task.payload))]

    def mark_killer(item_alone: IsolatedItem) -> None:
        killers[item_alone.task.index].add(item_alone.item)

    work = try_isolated if load is None else try_isolated_with_model
    engine.map_with_model(load, work, isolated, lambda _: None, mark_killer)
    return [
        replace(task, payload=task.payload.rejecting(frozenset(killers[task.index]))) if killers[task.index] else task
        for task in dead
    ]


def _give_up(task: PartTask) -> None:
    raise too_many_deaths(1, task.count)


def too_many_deaths(num_dead: int, count: int) -> HfdError:
    return HfdError(
        f"cluster.map_workers: worker processes keep dying on {num_dead} of {count} parts, and no single item is "
        "to blame; probably out of memory. Ask for fewer workers, or give the machine more memory, then run the same "
        "command again"
    )


def _finished(folder: Folder, count: int) -> dict[int, dict[str, Any]]:
    """Results of the parts that are done, by index."""
    names = {part_name(index, count): index for index in range(count)}
    if not folder.exists("parts"):
        return {}
    existing = [name for entry in (folder / "parts").files() if (name := f"parts/{entry.key}") in names]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        found = pool.map(lambda name: json.loads(folder.read(name)), existing)
        return {names[name]: result for name, result in zip(existing, found, strict=True)}


def part_name(index: int, count: int) -> str:
    return f"parts/{index:05d}-of-{count:05d}.json"


def digest_of_parts(results: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256("".join(result["digest"] for result in results).encode()).hexdigest()
