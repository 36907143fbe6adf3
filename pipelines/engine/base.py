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


class Engine(Protocol):
    """Runs maps and trainings."""

    def with_gpus(self) -> Engine:
        """Return the same engine with the GPUs of ``cluster.map_gpus`` for its maps."""

    def map(
        self,
        work: Callable[[Any], Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        """Call ``work`` on every item, in any order and possibly in parallel; ``on_done`` with each result, here.

        ``on_death`` is called, here, with an item on which worker processes keep dying; None: such an item ends the
        map with an error.
        """

    def map_with_model(
        self,
        load: Callable[[], Any] | None,
        work: Callable[..., Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        """Like ``map``, but call ``work(model, item)`` in long-lived workers, each of which calls ``load`` once.

        ``load`` None: call ``work(item)`` in such workers.
        """

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        """Call ``work`` once for each training worker. It must resume where a killed worker stopped."""
