"""Work of a step in fixed parts, each done once, in any order, by any worker.

Part ``i`` is done when ``parts/00012-of-00128.json``, written after the part's other files, exists. That file holds the
part's result (a JSON object with a ``digest``), so a resumed step reads the result instead of working again.

A part may consist of items, any of which can kill the process that works on it. If the payload is :class:`Divisible`
and workers keep dying on the part, each item is tried alone. The items that kill their worker again are marked in the
payload, which must reject them, and the part is done again without them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from hfd.errors import HfdError
from hfd.io.storage import Folder
from pipelines.engine.base import Engine, MapJob

KILLED_WORKER = "killed-worker"
"""Reject reason of an item on which every worker process died."""

MAX_DEAD_PARTS = 4
MAX_DEAD_SHARE = 0.2
"""If more parts than both limits die, the cause is not single items."""

READ_THREADS = 16

P = TypeVar("P")


@runtime_checkable
class Divisible(Protocol):
    """The payload of a part that consists of items."""

    def __len__(self) -> int:
        """Return the number of items."""

    def only(self, index: int) -> Divisible:
        """Return the payload with this item alone."""

    def rejecting(self, indices: frozenset[int]) -> Divisible:
        """Return the payload that rejects these items, with :func:`killed_worker`, without reading them."""


@dataclass(frozen=True)
class StepPart(Generic[P]):
    """Part ``index`` of ``count``: its ``payload``, and the step's output ``folder``. Picklable."""

    index: int
    count: int
    folder: Folder
    payload: P


PartWork = Callable[..., dict[str, Any]]
"""``work(part)``, or ``work(part, model)`` in workers that hold a model; returns the result, a JSON object."""


@dataclass(frozen=True)
class PartTask:
    """Do a part unless it is done, and return its index and result."""

    part: StepPart[Any]
    work: PartWork

    def __call__(self, *model: Any) -> tuple[int, dict[str, Any]]:
        part, name = self.part, part_name(self.part.index, self.part.count)
        if part.folder.exists(name):  # if a worker dies after this part, the engine repeats its other parts
            return part.index, json.loads(part.folder.read(name))
        result = self.work(part, *model)
        part.folder.write(name, json.dumps(result).encode() + b"\n")
        return part.index, result


@dataclass(frozen=True)
class IsolatedItem:
    """Try one item of a part alone, and discard its output."""

    task: PartTask
    item: int

    def __call__(self, *model: Any) -> None:
        part = self.task.part
        with tempfile.TemporaryDirectory(prefix="hfd-isolated-item-") as scratch:
            self.task.work(replace(part, folder=Folder(scratch), payload=part.payload.only(self.item)), *model)


def call_task(*arguments: Any) -> Any:
    """Call a task with the worker's model, if any: ``call_task(task)`` or ``call_task(model, task)``."""
    *model, task = arguments
    return task(*model)


def run_parts(
    engine: Engine,
    folder: Folder,
    payloads: Sequence[Any],
    work: PartWork,
    on_progress: Callable[[int, int], None],
    *,
    load: Callable[[], Any] | None = None,
) -> list[dict[str, Any]]:
    """Do the parts that are not done, one for each payload, and return the results of all parts in order.

    ``load``: makes the model of ``work(part, model)``, once in each worker of a pool; None: ``work(part)`` runs in any
    worker. Raises :class:`HfdError` where workers keep dying and no single item is to blame.
    """
    count = len(payloads)
    results = _finished(folder, count)
    on_progress(len(results), count)

    def finished(result: tuple[int, dict[str, Any]]) -> None:
        results[result[0]] = result[1]
        on_progress(len(results), count)

    parts = [StepPart(index, count, folder, payload) for index, payload in enumerate(payloads) if index not in results]
    dead: list[PartTask] = []

    def died(task: PartTask) -> None:
        dead.append(task)
        if len(dead) > max(MAX_DEAD_PARTS, MAX_DEAD_SHARE * count):
            raise _too_many_deaths(len(dead), count)

    def give_up(_: PartTask) -> None:
        raise _too_many_deaths(1, count)

    divisible = all(isinstance(payload, Divisible) for payload in payloads)
    engine.map(MapJob(call_task, [PartTask(part, work) for part in parts], finished, died if divisible else None, load))
    if dead:
        engine.map(MapJob(call_task, _without_killers(engine, load, dead), finished, give_up, load))
    return [results[index] for index in range(count)]


def killed_worker(key: str) -> dict[str, str]:
    """Return the row of a killer item in a table of rejects."""
    message = f"{key}: got a worker process that died every time, expected a picture that fits its memory"
    return {"photo": key, "reason": KILLED_WORKER, "message": message}


def _without_killers(engine: Engine, load: Callable[[], Any] | None, dead: Sequence[PartTask]) -> list[PartTask]:
    """Return the tasks of dead parts, with the items that also kill a worker alone marked to be rejected."""
    killers: dict[int, set[int]] = {task.part.index: set() for task in dead}
    items = [IsolatedItem(task, item) for task in dead for item in range(len(task.part.payload))]

    def mark_killer(killer: IsolatedItem) -> None:
        killers[killer.task.part.index].add(killer.item)

    engine.map(MapJob(call_task, items, lambda _: None, mark_killer, load, pooled=True))
    return [_rejecting(task, frozenset(killers[task.part.index])) for task in dead]


def _rejecting(task: PartTask, killers: frozenset[int]) -> PartTask:
    if not killers:
        return task
    return replace(task, part=replace(task.part, payload=task.part.payload.rejecting(killers)))


def _too_many_deaths(num_dead: int, count: int) -> HfdError:
    return HfdError(
        f"cluster.map_workers: worker processes keep dying on {num_dead} of {count} parts, and no single item is to "
        "blame; probably out of memory. Ask for fewer workers, or give the machine more memory, then run the same "
        "command again"
    )


def _finished(folder: Folder, count: int) -> dict[int, dict[str, Any]]:
    """Read the results of the parts that are done, by index."""
    names = {part_name(index, count): index for index in range(count)}
    if not folder.exists("parts"):
        return {}
    existing = [name for entry in (folder / "parts").files() if (name := f"parts/{entry.key}") in names]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        found = pool.map(lambda name: json.loads(folder.read(name)), existing)
        return {names[name]: result for name, result in zip(existing, found, strict=True)}


def part_name(index: int, count: int) -> str:
    """Return the name of a part's result file."""
    return f"parts/{index:05d}-of-{count:05d}.json"


def digest_of_parts(results: Sequence[dict[str, Any]]) -> str:
    """Return the SHA-256 hex of the parts' digests in order."""
    return hashlib.sha256("".join(result["digest"] for result in results).encode()).hexdigest()
