"""Send metrics of one run from a bounded queue in a background thread."""

from __future__ import annotations

import atexit
import logging
import posixpath
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipelines.tracking.client import is_permanent, open_client
from pipelines.tracking.redaction import one_line

log = logging.getLogger(__name__)

MAX_METRICS = 1000  # MLflow's limit per call
_METRIC_KEY = re.compile(r"[\w. :/-]{1,250}")


class MetricLogger:
    """Sends metrics of one run from a background thread, in batches; ``log_metrics`` only appends to memory.

    While the server is unavailable, the newest ``capacity`` metrics are kept and retried (1 s, 2 s, ... 30 s apart);
    ``lost`` counts the older ones, and ``close`` reports them. No method raises because of the server. Sending twice is
    harmless: time stamps are taken when a metric is logged, and MLflow ignores a metric that it has. A pickled copy
    keeps the settings, not the buffer. ``uri=None`` is off.
    """

    def __init__(
        self,
        uri: str | None,
        run_id: str,
        flush_seconds: float = 5.0,
        flush_count: int = 500,
        capacity: int = 100_000,
    ) -> None:
        self._settings = (uri, run_id, flush_seconds, flush_count, capacity)
        self._uri, self._run_id, self._flush_seconds, self._flush_count, self._capacity = self._settings
        self._buffer: deque[tuple[str, float, int, int]] = deque()
        self._in_flight = 0
        self._flushing = self._closing = False
        self._abandoned = threading.Event()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._reason = ""
        self.lost = 0

    def __reduce__(self) -> tuple[type[MetricLogger], tuple[object, ...]]:
        return MetricLogger, self._settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue ``metrics`` (Python numbers) at ``step``. Takes microseconds and never waits for the server.

        A name that MLflow would refuse and a value that is not a number are dropped and counted as lost.
        """
        if self._uri is None or not metrics:
            return
        now = time.time_ns() // 1_000_000
        rows, refused = [], ""
        for key, value in metrics.items():
            try:
                if not _METRIC_KEY.fullmatch(key) or posixpath.normpath(key).lstrip("./") != key:
                    raise ValueError(f"{key!r} is not a metric name")
                rows.append((key, float(value), now, int(step)))
            except (TypeError, ValueError) as exc:
                refused = one_line(exc)
        with self._wake:
            if self._closing:
                refused, rows = "logged after close()", []
            self._buffer.extend(rows)
            self._lose(len(metrics) - len(rows), refused)
            self._trim()
            if len(self._buffer) >= self._flush_count:
                self._wake.notify_all()
            if self._thread is None or not self._thread.is_alive():
                self._start()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all metrics so far are sent or refused; return False after ``timeout`` s."""
        with self._wake:
            self._flushing = True
            self._wake.notify_all()
            done = self._wake.wait_for(lambda: not self._buffer and not self._in_flight, timeout)
            self._flushing = False
        return done

    def close(self, timeout: float = 15.0) -> int:
        """Send the rest, waiting at most ``timeout`` s. Return the number of lost metrics, and warn if above 0."""
        with self._wake:
            if self._closing:
                return self.lost
            self._closing = True
            self._wake.notify_all()
        if self._thread is not None:
            atexit.unregister(self.close)
            self._thread.join(timeout)
        with self._wake:
            self._abandoned.set()
            self._lose(len(self._buffer) + self._in_flight, self._reason)
            self._buffer.clear()
        if self.lost:
            log.warning("tracking: %d metrics of run %s were lost (%s)", self.lost, self._run_id, self._reason)
        return self.lost

    def _start(self) -> None:
        if not self._closing:
            self._thread = threading.Thread(target=self._work, name="hfd-metrics", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # a daemon thread ends with the process: send its remaining metrics

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        self._reason = reason if count and reason else self._reason

    def _trim(self) -> None:
        excess = len(self._buffer) - self._capacity
        for _ in range(excess):
            self._buffer.popleft()
        self._lose(max(excess, 0), "")

    def _due(self) -> bool:
        full = len(self._buffer) >= self._flush_count
        return self._closing or bool(self._buffer and (self._flushing or full))

    def _work(self) -> None:
        failures = 0
        while True:
            with self._wake:
                if failures == 0:
                    self._wake.wait_for(self._due, self._flush_seconds)
                batch = [self._buffer.popleft() for _ in range(min(MAX_METRICS, len(self._buffer)))]
                self._in_flight = len(batch)
                if self._abandoned.is_set() or (self._closing and not batch):
                    return
            error = self._send(batch) if batch else None
            with self._wake:
                if self._abandoned.is_set():
                    return
                self._in_flight = 0
                failures = self._settle(batch, error, failures)
                self._wake.notify_all()
                if failures:
                    self._back_off(failures)

    def _settle(self, batch: list[tuple[str, float, int, int]], error: Exception | None, failures: int) -> int:
        """Keep or drop unsent metrics; return the number of consecutive failures."""
        if error is None:
            if failures:
                log.warning("tracking: the server answers again")
            return 0
        self._reason = one_line(error)
        if is_permanent(error):
            self._lose(len(batch), self._reason)
            log.warning("tracking: %d metrics refused (%s)", len(batch), self._reason)
            return 0
        if failures == 0:
            log.warning("tracking: the server is unavailable, metrics are kept and sent later (%s)", self._reason)
        self._buffer.extendleft(reversed(batch))
        self._trim()
        return failures + 1

    def _back_off(self, failures: int) -> None:
        hurried = self._flushing or self._closing
        delay = 0.5 if hurried else min(30.0, 2.0 ** min(failures - 1, 5))
        self._wake.wait_for(lambda: not hurried and (self._flushing or self._closing), delay)

    def _send(self, batch: list[tuple[str, float, int, int]]) -> Exception | None:
        try:
            client = open_client(str(self._uri))
            from mlflow.entities import Metric

            client.log_batch(self._run_id, metrics=[Metric(*row) for row in batch])
        except Exception as exc:  # no error of mlflow stops the training
            return exc
        return None


@dataclass(frozen=True)
class WorkerLogger:
    """Handle for a worker process to log to a run; picklable, holds no credentials."""

    uri: str | None
    run_id: str

    def open(self) -> MetricLogger:
        """Create a logger of this process; close it (or use it as a context manager) before the worker ends."""
        return MetricLogger(self.uri, self.run_id)
