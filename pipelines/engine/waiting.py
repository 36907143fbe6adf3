"""Wait for nodes that the autoscaler of a cluster adds, before a step needs them and while a training runs."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from hfd.errors import ConfigError
from pipelines.engine.ray_session import nodes
from pipelines.engine.workers import Nodes, Wanted, describe_nodes

POLL_S = 1.0

ABORT_S = 10.0
"""Time for a training to abort, before it is interrupted again."""

REPORT_S = 60.0
"""Time between two lines while nothing changes."""

Say = Callable[[str], None]


class Waiting:
    """A wait for ``wanted``, at most ``limit_s`` seconds from its first look at nodes that do not fit."""

    def __init__(self, wanted: Wanted, limit_s: float, say: Say) -> None:
        self._wanted, self._limit_s, self._say = wanted, limit_s, say
        self._since_s: float | None = None
        self._said_s, self._said_nodes = 0.0, ""

    def fits(self, present: Nodes) -> bool:
        """Return True if the nodes fit; say what is asked and present when that changes, and from time to time.

        Raises :class:`ConfigError` when the time is over.
        """
        now_s, fitting, wanted = time.monotonic(), self._wanted.fitting(present), self._wanted
        if fitting >= wanted.count:
            if self._since_s is not None:
                self._say(f"cluster.wait: {wanted.text} fit the nodes after {now_s - self._since_s:.0f} s")
            self._since_s = None
            return True
        if self._since_s is None:
            self._since_s, self._said_nodes = now_s, ""
        waited_s, has = now_s - self._since_s, describe_nodes(present)
        if waited_s > self._limit_s:
            raise ConfigError(
                f"cluster.{wanted.setting}: got {wanted.text}, expected what fits the nodes within cluster.wait, which "
                f"is {self._limit_s:g} s ({has}): {fitting} of these. Ask for less, wait longer, or raise the limits "
                "of the autoscaler (ray status shows them)"
            )
        if has != self._said_nodes or now_s - self._said_s > REPORT_S:
            self._said_s, self._said_nodes = now_s, has
            self._say(
                f"cluster.wait: waiting for {wanted.text}, {fitting} of these fit the nodes ({has}); "
                f"{waited_s:.0f} s of {self._limit_s:g} s"
            )
        return False


def wait_for(wanted: Wanted, limit_s: float, say: Say) -> None:
    """Ask the autoscaler for workers that do not fit the nodes, and wait. Raises :class:`ConfigError` at the end."""
    waiting = Waiting(wanted, limit_s, say)
    if waiting.fits(nodes()):
        return
    with demand_for(wanted):
        while not waiting.fits(nodes()):
            time.sleep(POLL_S)


@contextlib.contextmanager
def demand_for(wanted: Wanted) -> Iterator[None]:
    """Ask for the workers while the block runs.

    A placement group that waits for its resources is a demand of its owner alone; ``request_resources`` would replace
    that of other runs on the cluster.
    """
    from ray.util import placement_group, remove_placement_group

    bundle = {"CPU": wanted.cpus, **({"GPU": wanted.gpus} if wanted.gpus else {})}
    group: Any = placement_group([bundle] * wanted.count, strategy="PACK")
    try:
        yield
    finally:
        remove_placement_group(group)


def _interrupt_until(stop: threading.Event) -> None:
    """Interrupt the main thread, as Ctrl-C does, until ``stop`` is set.

    At the first signal Ray Train asks its controller to abort, which answers only once its workers have started or the
    ten minutes for their start are over; at the third it exits.
    """
    while True:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if stop.wait(ABORT_S):
            return


@contextlib.contextmanager
def watched(wanted: Wanted, limit_s: float, say: Say) -> Iterator[None]:
    """Interrupt the block, as Ctrl-C does, when nodes that were lost do not return within the time.

    Ray Train itself asks for the nodes of a running training, and waits for ever. Runs in the main thread.
    Raises :class:`ConfigError` then.
    """
    waiting, stop = Waiting(wanted, limit_s, say), threading.Event()
    over: list[ConfigError] = []

    def watch() -> None:
        while not stop.wait(POLL_S):
            try:
                waiting.fits(nodes())
            except ConfigError as error:
                over.append(error)
                _interrupt_until(stop)
                return
            except Exception:  # a head that does not answer ends the training by itself
                continue

    thread = threading.Thread(target=watch, name="hfd-nodes", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if over:
            raise over[0] from None
        raise
    finally:
        stop.set()
        thread.join()
