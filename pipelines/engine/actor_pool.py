"""A pool of Ray actors: each loads its model once, and a worker that keeps dying_workers on an item names that item.

Items go only to actors that have started, so that a cluster which cannot start all of them finishes with those that
it could. An actor is given its next item while it is at work, except near the end, where that would leave others
without any.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hfd.errors import HfdError
from pipelines.engine.devices import torch_threads

MAX_RETRIES = 2
"""An item on which this many more workers died than one is given up."""

START_S = 600.0
"""How long none of the actors may take to start: the first import of torch from a slow disk takes minutes."""

OnDeath = Callable[[Any], None]


class DyingWorkersError(HfdError):
    """Processes of a map or a training die or do not start, again and again."""


@dataclass(frozen=True)
class PoolSize:
    """``workers`` actors, each with so many logical ``cpus`` and ``gpus`` of the cluster, and torch ``threads``."""

    workers: int
    cpus: float
    gpus: float
    threads: int


class ModelActor:
    """What an actor is: a model, loaded once, and a call for each item."""

    def __init__(self, load: bytes, threads: int) -> None:
        self._load, self._threads = load, threads
        self._model: tuple[Any, ...] = ()
        self._refused: bytes | None = None

    def start(self) -> None:
        """Load the model; a user's mistake is kept for the first call, whose caller can tell of it."""
        load = pickle.loads(self._load)
        if load is None:
            return
        try:
            with torch_threads(self._threads):
                self._model = (load(),)
        except HfdError as error:
            self._refused = pickle.dumps(error)

    def call(self, work: bytes, item: bytes) -> bytes:
        """The result of ``work``, or the user's error, as bytes: Ray would wrap it in a traceback of its own."""
        if self._refused is not None:
            return self._refused
        try:
            with torch_threads(self._threads):
                return pickle.dumps(pickle.loads(work)(*self._model, pickle.loads(item)))
        except HfdError as error:
            return pickle.dumps(error)


@dataclass(eq=False)
class _Actor:
    handle: Any
    started: Any
    ready: bool
    queue: deque[tuple[Any, int]]
    """(reference, index of the item): the first is at work, the second waits in the actor's own queue."""


def map_on_actors(
    size: PoolSize,
    load: Callable[[], Any] | None,
    work: Callable[..., Any],
    items: Sequence[Any],
    on_done: Callable[[Any], None],
    on_death: OnDeath | None,
) -> None:
    """Call ``work(model, item)`` on every item (``work(item)`` without ``load``), ``on_done`` with each result, here.

    ``on_death`` is called with an item on which ``MAX_RETRIES + 1`` workers died. Raises :class:`HfdError` where it
    is None, where workers die before they have started, and where none starts at all.
    """
    pool = _Pool(size, load, work, items, on_done, on_death)
    try:
        pool.run()
    finally:
        pool.close()


class _Pool:
    def __init__(
        self,
        size: PoolSize,
        load: Callable[[], Any] | None,
        work: Callable[..., Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: OnDeath | None,
    ) -> None:
        import ray
        from ray import cloudpickle

        self._size, self._items, self._on_done, self._on_death = size, items, on_done, on_death
        self._load, self._work = cloudpickle.dumps(load), ray.put(cloudpickle.dumps(work))
        self._remote = ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_restarts=0, max_task_retries=0)(
            ModelActor
        )
        self._waiting = deque(range(len(items)))
        self._deaths = [0] * len(items)
        self._failed_starts = 0
        self._actors: list[_Actor] = []
        self._left = len(items)

    def run(self) -> None:
        self._actors = [self._new() for _ in range(min(self._size.workers, len(self._items)))]
        while self._left:
            for actor in self._actors:
                self._submit(actor)
            for actor, reference in self._next():
                self._handle(actor, reference)

    def close(self) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor.handle)

    def _new(self) -> _Actor:
        handle = self._remote.remote(self._load, self._size.threads)
        return _Actor(handle, handle.start.remote(), False, deque())

    def _submit(self, actor: _Actor) -> None:
        if not actor.ready:
            return
        from ray import cloudpickle

        ahead = 2 if len(self._waiting) > len(self._actors) else 1
        while self._waiting and len(actor.queue) < ahead:
            index = self._waiting.popleft()
            actor.queue.append((actor.handle.call.remote(self._work, cloudpickle.dumps(self._items[index])), index))

    def _next(self) -> list[tuple[_Actor, Any]]:
        """What is settled: an actor that has started or a call that has ended, each with its actor."""
        import ray

        by_reference = {actor.started: actor for actor in self._actors if not actor.ready}
        by_reference |= {reference: actor for actor in self._actors for reference, _ in actor.queue}
        alive = any(actor.ready for actor in self._actors)
        references = list(by_reference)
        settled, _ = ray.wait(references, num_returns=1, timeout=None if alive else START_S)
        if not settled:
            free = ray.available_resources()
            raise HfdError(
                f"cluster.map_workers: none of {len(self._actors)} workers ({self._size.cpus:g} CPU and "
                f"{self._size.gpus:g} GPU each) started within {START_S:g} s; the cluster has "
                f"{free.get('CPU', 0.0):g} CPU and {free.get('GPU', 0.0):g} GPU free. Ask for less, or wait for others"
            )
        settled, _ = ray.wait(references, num_returns=len(references), timeout=0)  # all that are, in one turn
        return [(by_reference[reference], reference) for reference in settled]

    def _handle(self, actor: _Actor, reference: Any) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        if actor not in self._actors:  # it died, and was told of, earlier in this turn
            return
        try:
            found = ray.get(reference)
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except RayError as error:
            self._replace_dead(actor, error)
            return
        if not actor.ready:
            actor.ready, self._failed_starts = True, 0
            return
        actor.queue = deque(pair for pair in actor.queue if pair[0] != reference)
        result = pickle.loads(found)
        if isinstance(result, HfdError):
            raise result
        self._left -= 1
        self._on_done(result)

    def _replace_dead(self, actor: _Actor, error: Exception) -> None:
        """An actor is gone: the item that it was at work on is to blame, the one that waited is not."""
        lost = [index for _, index in actor.queue]
        self._actors.remove(actor)
        if not actor.ready:
            self._failed_starts += 1
            if self._failed_starts > MAX_RETRIES:
                raise dying_workers("cluster.map_workers", error) from error
        elif lost:
            self._deaths[lost[0]] += 1
            if self._deaths[lost[0]] > MAX_RETRIES:
                if self._on_death is None:
                    raise dying_workers("cluster.map_workers", error) from error
                self._on_death(self._items[lost.pop(0)])
                self._left -= 1
        self._waiting.extendleft(reversed(lost))
        if self._left:
            self._actors.append(self._new())


def dying_workers(setting: str, error: BaseException) -> DyingWorkersError:
    """Return the error for workers that keep dying; ``setting`` is the key that sets their number."""
    return DyingWorkersError(
        f"{setting}: its worker processes do not start or keep dying ({type(error).__name__}), probably out of memory. "
        "Ask for fewer workers, or give the machine more memory, then run the same command again"
    )
