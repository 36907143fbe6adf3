"""A pool of Ray actors that each load a model once, and that identifies items on which workers keep dying.

Only started actors get items, so a cluster that cannot start all actors finishes with those it could start. An actor
gets its next item while it works, except near the end, where other actors would run out of items.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hfd.errors import HfdError
from pipelines.engine.base import MapJob
from pipelines.engine.devices import torch_threads

MAX_RETRIES = 2
"""An item is a killer when ``MAX_RETRIES + 1`` workers have died on it."""

START_S = 600.0
"""Seconds until the first actor must have started: importing torch from a slow disk takes minutes."""


class DyingWorkersError(HfdError):
    """Worker processes of a map or a training keep dying or do not start."""


@dataclass(frozen=True)
class PoolSize:
    """Number of actors, logical ``cpus`` and ``gpus`` of each, and torch ``threads`` of each."""

    workers: int
    cpus: float
    gpus: float
    threads: int


def result_bytes(call: Callable[[], Any], threads: int) -> bytes:
    """Return the result or the user's error, pickled: Ray would wrap an exception in its own traceback."""
    try:
        with torch_threads(threads):
            return pickle.dumps(call())
    except HfdError as error:
        return pickle.dumps(error)


def result_from(data: bytes) -> Any:
    """Return the result, or raise the user's error, of :func:`result_bytes`."""
    result = pickle.loads(data)
    if isinstance(result, HfdError):
        raise result
    return result


class ModelActor:
    """The body of an actor: a model, loaded once, and a call for each item."""

    def __init__(self, load: bytes, threads: int) -> None:
        self._load, self._threads = load, threads
        self._model: tuple[Any, ...] = ()
        self._load_error: bytes | None = None

    def start(self) -> None:
        """Load the model. A user's error is kept for the first call, which returns it."""
        load = pickle.loads(self._load)
        if load is None:
            return
        try:
            with torch_threads(self._threads):
                self._model = (load(),)
        except HfdError as error:
            self._load_error = pickle.dumps(error)

    def call(self, work: bytes, item: bytes) -> bytes:
        if self._load_error is not None:
            return self._load_error
        return result_bytes(lambda: pickle.loads(work)(*self._model, pickle.loads(item)), self._threads)


@dataclass(eq=False)
class _Actor:
    handle: Any
    started: Any
    ready: bool
    queue: deque[tuple[Any, int]]
    """(reference, index of the item): the first is in progress, the second waits in the actor's queue."""


class ActorPool:
    """One map on a pool of actors."""

    def __init__(self, size: PoolSize, job: MapJob) -> None:
        import ray
        from ray import cloudpickle

        self._size, self._job = size, job
        self._load, self._work = cloudpickle.dumps(job.load), ray.put(cloudpickle.dumps(job.work))
        self._remote = ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_restarts=0, max_task_retries=0)(
            ModelActor
        )
        self._waiting = deque(range(len(job.items)))
        self._deaths = [0] * len(job.items)
        self._failed_starts = 0
        self._actors: list[_Actor] = []
        self._num_left = len(job.items)

    def run(self) -> None:
        """Map all items. An item on which ``MAX_RETRIES + 1`` workers died goes to ``on_death``.

        Raises :class:`HfdError` where that is None, where workers keep dying before they start, and where none starts.
        """
        import ray

        try:
            self._actors = [self._new() for _ in range(min(self._size.workers, self._num_left))]
            while self._num_left:
                for actor in self._actors:
                    self._submit(actor)
                for actor, reference in self._next():
                    self._handle(actor, reference)
        finally:
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
            actor.queue.append((actor.handle.call.remote(self._work, cloudpickle.dumps(self._job.items[index])), index))

    def _next(self) -> list[tuple[_Actor, Any]]:
        """Wait for actors that start and calls that end; return the actor and reference of each."""
        import ray

        by_reference = {actor.started: actor for actor in self._actors if not actor.ready}
        by_reference |= {reference: actor for actor in self._actors for reference, _ in actor.queue}
        alive = any(actor.ready for actor in self._actors)
        references = list(by_reference)
        ended, _ = ray.wait(references, num_returns=1, timeout=None if alive else START_S)
        if not ended:
            free = ray.available_resources()
            raise HfdError(
                f"cluster.map_workers: none of {len(self._actors)} workers ({self._size.cpus:g} CPU and "
                f"{self._size.gpus:g} GPU each) started within {START_S:g} s; the cluster has "
                f"{free.get('CPU', 0.0):g} CPU and {free.get('GPU', 0.0):g} GPU free. Ask for less, or wait for others"
            )
        ended, _ = ray.wait(references, num_returns=len(references), timeout=0)  # all that have ended by now
        return [(by_reference[reference], reference) for reference in ended]

    def _handle(self, actor: _Actor, reference: Any) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        if actor not in self._actors:  # its death was handled earlier in this round
            return
        try:
            answer = ray.get(reference)
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except RayError as error:
            self._replace_dead(actor, error)
            return
        if not actor.ready:
            actor.ready, self._failed_starts = True, 0
            return
        actor.queue = deque(pair for pair in actor.queue if pair[0] != reference)
        result = result_from(answer)
        self._num_left -= 1
        self._job.on_done(result)

    def _replace_dead(self, actor: _Actor, error: Exception) -> None:
        """Replace a dead actor. Its item in progress counts a death; its waiting item does not."""
        lost = [index for _, index in actor.queue]
        self._actors.remove(actor)
        if not actor.ready:
            self._failed_starts += 1
            if self._failed_starts > MAX_RETRIES:
                raise dying_workers("cluster.map_workers", error) from error
        elif lost:
            self._deaths[lost[0]] += 1
            if self._deaths[lost[0]] > MAX_RETRIES:
                if self._job.on_death is None:
                    raise dying_workers("cluster.map_workers", error) from error
                self._job.on_death(self._job.items[lost.pop(0)])
                self._num_left -= 1
        self._waiting.extendleft(reversed(lost))
        if self._num_left:
            self._actors.append(self._new())


def dying_workers(setting: str, error: BaseException) -> DyingWorkersError:
    """Return the error for workers that keep dying; ``setting`` is the key that sets their number."""
    return DyingWorkersError(
        f"{setting}: its worker processes do not start or keep dying ({type(error).__name__}), probably out of memory. "
        "Ask for fewer workers, or give the machine more memory, then run the same command again"
    )
