"""Faults of a running command and of its servers: a kill, and outages that end after some seconds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

from benchmarks.faults.parts import Mlflow
from benchmarks.faults.steps import Running
from tests.support.s3_proxy import Proxy

PROXIED = {"s3-down": "down", "partition": "silent", "expired-credential": "expired"}
"""Outages that are a switch of the proxy in front of S3."""


@contextlib.contextmanager
def outages(proxy: Proxy, mlflow: Mlflow, away_s: float) -> Iterator[Mapping[str, Callable[[Running], None]]]:
    """Yield the function that begins each fault; each outage lasts ``away_s``, and the block's end waits for it."""
    timers: list[threading.Timer] = []

    def later(mend: Callable[[], None]) -> None:
        timers.append(threading.Timer(away_s, mend))
        timers[-1].start()

    def switch(name: str) -> Callable[[Running], None]:
        def act(_: Running) -> None:
            setattr(proxy, name, True)
            later(lambda: setattr(proxy, name, False))

        return act

    def mlflow_down(_: Running) -> None:
        mlflow.stop()
        later(mlflow.start)

    acts = {fault: switch(name) for fault, name in PROXIED.items()}
    try:
        yield {**acts, "mlflow-down": mlflow_down, "kill-driver": lambda running: running.kill()}
    finally:
        for timer in timers:
            timer.join()
