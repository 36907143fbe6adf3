"""The engine protocol: maps and trainings, in this process or on Ray.

All engines call the same functions on the same items with the same number of torch threads, so the results do not
depend on the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Worker:
    """One training worker. ``device`` is ``cpu`` or ``cuda:0``; ``strategy`` as in ``cluster.strategy``.

    ``most``: number of workers when all have started; None: ``world``.
    """

    rank: int
    world: int
    device: str
    strategy: Literal["ddp", "fsdp"] = "ddp"
    most: int | None = None


@dataclass(frozen=True)
class MapJob:
    """Call ``work(item)`` on every item, in any order and possibly in parallel, and ``on_done`` with each result.

    ``on_death``: called with an item on which worker processes keep dying; None: such an item ends the map with an
    error. Both callbacks run in this process. ``load``: makes a model, once in each long-lived worker, for
    ``work(model, item)``. ``pooled``: use long-lived workers even without a model.
    """

    work: Callable[..., Any]
    items: Sequence[Any]
    on_done: Callable[[Any], None]
    on_death: Callable[[Any], None] | None = None
    load: Callable[[], Any] | None = None
    pooled: bool = False


class Engine(Protocol):
    """Runs maps and trainings."""

    def with_gpus(self) -> Engine:
        """Return the same engine with the GPUs of ``cluster.map_gpus`` for its maps."""

    def map(self, job: MapJob) -> None:
        """Run a map."""

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        """Call ``work`` once for each training worker. It must resume where a killed worker stopped."""
