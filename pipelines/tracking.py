"""MLflow as the view of a run: one parent run per ``retrain``, one child run per step that really runs.

Tracking never stops or slows the work it describes. After the first contact every failure of the server is
a warning, metrics leave through a bounded queue and a background thread, and what was lost is counted.
This is the only module that imports mlflow, and it does so inside functions: importing it stays cheap.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import json
import logging
import os
import posixpath
import re
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import numpy as np
import psutil
import yaml

from hfd.errors import ConfigError, HfdError

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_CONTACT_SECONDS = 30.0
SYSTEM_METRICS_SECONDS = 10.0
_MAX_PARAM_CHARS = 6000  # MLflow's limits, per value and per call
_MAX_PARAMS = 100
_MAX_METRICS = 1000
_MAX_ERROR_CHARS = 2000
_RETRY_SECONDS = (0.5, 1.0, 2.0)
_SCHEMES = re.compile(r"(sqlite|https?|databricks(-uc)?|postgresql|mysql|mssql)(\+\w+)?")
_USERINFO = re.compile(r"([a-zA-Z][\w+.-]*://)[^/\s@]+@")
_SECRET_QUERY = re.compile(
    r"([?&][\w-]*(?:password|token|secret|signature|credential|key)[\w-]*=)[^&\s]+", re.I
)
_SECRET_KEY = re.compile(
    r"(^|[_.-])(password|passwd|secret|token|api_?key|access_?key(_id)?|credentials?)$", re.I
)
_METRIC_KEY = re.compile(r"[\w. :/-]{1,250}")
_PERMANENT = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "PERMISSION_DENIED",
        "BAD_REQUEST",
        "INVALID_STATE",
    }
)


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs are recorded.

    ``uri``: ``None`` (off), ``sqlite:////absolute/path/mlflow.db``, ``http(s)://...``, ``databricks`` or a
    database. ``artifact_root``: absolute ``file://`` or object-store URI for the artifacts of a new
    experiment; ``None`` lets the server choose. ``system_metrics``: CPU, memory, disk, network and GPU use
    of the driver's machine, every ten seconds of each step.
    """

    uri: str | None
    experiment: str
    artifact_root: str | None = None
    system_metrics: bool = True


def redact(text: str) -> str:
    """``text`` with the user names, passwords and signatures of the URLs inside it replaced by ``***``."""
    return _SECRET_QUERY.sub(r"\1***", _USERINFO.sub(r"\1***@", text))


def check_uri(uri: str) -> None:
    """Raise ``ConfigError`` unless ``uri`` is of a known kind, absolute, and carries no credentials."""
    try:
        parts = urlsplit(uri)
        secret = parts.password is not None or (
            parts.scheme.startswith("http") and parts.username is not None
        )
    except ValueError as exc:
        raise ConfigError(f"tracking.uri: got {redact(uri)}, expected a URL ({exc}).") from exc
    if secret or _SECRET_QUERY.search(uri):
        raise ConfigError(
            f"tracking.uri: got {redact(uri)} with credentials in it, expected none. Set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or PGPASSWORD) in the environment."
        )
    known = _SCHEMES.fullmatch(parts.scheme or uri)
    if known is None or (parts.scheme == "sqlite" and not re.match(r"sqlite:////?(/|[A-Za-z]:)", uri)):
        raise ConfigError(
            f"tracking.uri: got {redact(uri)}, expected none, sqlite:////absolute/path/mlflow.db, "
            "http(s)://host:port or databricks. The path of a database file must be absolute."
        )


def flatten(params: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested mappings as ``{"dotted.key": text}``; secrets become ``***``, lists become JSON."""
    flat: dict[str, str] = {}
    for key, value in _plain(params).items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _plain(value: Any, key: str = "") -> Any:
    """``value`` in YAML's own types, without secrets."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item, str(name)) for name, item in value.items()}
    if value is not None and _SECRET_KEY.search(key):
        return "***"
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float):
        return value
    return redact(str(value))


def _one_line(error: BaseException) -> str:
    """The type and message of ``error`` on one line, without secrets, cut (with a mark) when very long."""
    text = redact(" ".join(f"{type(error).__name__}: {error}".split()))
    return text if len(text) <= _MAX_ERROR_CHARS else text[:_MAX_ERROR_CHARS] + "…"


def _is_permanent(error: BaseException) -> bool:
    """Whether sending the same thing again cannot help."""
    own = (TypeError, ValueError, FileNotFoundError, PermissionError, IsADirectoryError)
    return getattr(error, "error_code", None) in _PERMANENT or isinstance(error, own)


def _client(uri: str) -> Any:
    """An ``MlflowClient`` of ``uri``, with an mlflow that is silent on the terminal and on the network.

    A request is tried once (the retries are ours) and waits at most 20 s; explicit settings of the user win.
    The process-wide tracking URI is neither read nor set.
    """
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("DO_NOT_TRACK", "true"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
        ("GIT_PYTHON_REFRESH", "quiet"),
    ):
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


class MetricLogger:
    """Sends metrics of one run from a background thread, in batches; ``log_metrics`` only appends to memory.

    While the server is away the newest ``capacity`` metrics are kept and retried (1 s, 2 s, ... 30 s apart);
    the loss of older ones is counted in ``lost`` and reported by ``close``. Nothing here raises because of
    the server. Sending twice is harmless: time stamps are taken when a metric is logged, and MLflow ignores
    a metric that it has. A pickled copy keeps the settings, not the buffer. ``uri=None`` is off.
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
        """Take ``metrics`` at ``step``; microseconds, whatever the server does. Values: Python numbers.

        A name that MLflow would refuse, or a value that is not a number, is dropped and counted as lost.
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
                refused = _one_line(exc)
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
        """Wait until everything logged so far has been sent (or refused); ``False`` after ``timeout`` s."""
        with self._wake:
            self._flushing = True
            self._wake.notify_all()
            done = self._wake.wait_for(lambda: not self._buffer and not self._in_flight, timeout)
            self._flushing = False
        return done

    def close(self, timeout: float = 15.0) -> int:
        """Send the rest, waiting at most ``timeout`` seconds. Returns, and warns of, how many were lost."""
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
            log.warning(
                "tracking: %d metrics of run %s were lost (%s)", self.lost, self._run_id, self._reason
            )
        return self.lost

    def _start(self) -> None:
        if not self._closing:
            self._thread = threading.Thread(target=self._work, name="hfd-metrics", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # a daemon thread dies with the process: send what it still holds

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
                batch = [self._buffer.popleft() for _ in range(min(_MAX_METRICS, len(self._buffer)))]
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

    def _settle(
        self, batch: list[tuple[str, float, int, int]], error: Exception | None, failures: int
    ) -> int:
        """Keep or drop what could not be sent; the number of failures in a row."""
        if error is None:
            if failures:
                log.warning("tracking: the server answers again")
            return 0
        self._reason = _one_line(error)
        if _is_permanent(error):
            self._lose(len(batch), self._reason)
            log.warning("tracking: %d metrics refused (%s)", len(batch), self._reason)
            return 0
        if failures == 0:
            log.warning("tracking: the server is away, metrics are kept and sent later (%s)", self._reason)
        self._buffer.extendleft(reversed(batch))
        self._trim()
        return failures + 1

    def _back_off(self, failures: int) -> None:
        hurried = self._flushing or self._closing
        delay = 0.5 if hurried else min(30.0, 2.0 ** min(failures - 1, 5))
        self._wake.wait_for(lambda: not hurried and (self._flushing or self._closing), delay)

    def _send(self, batch: list[tuple[str, float, int, int]]) -> Exception | None:
        try:
            client = _client(str(self._uri))
            from mlflow.entities import Metric

            client.log_batch(self._run_id, metrics=[Metric(*row) for row in batch])
        except Exception as exc:  # whatever mlflow raises, training goes on
            return exc
        return None


@dataclass(frozen=True)
class WorkerLogger:
    """What a worker process needs to log to a run; picklable, holds no credentials."""

    uri: str | None
    run_id: str

    def open(self) -> MetricLogger:
        """A logger of this process; close it (or use it as a context manager) before the worker ends."""
        return MetricLogger(self.uri, self.run_id)


class _Sampler:
    """Samples the machine's use into a run's metrics, from its own thread, until ``stop``.

    MLflow's own monitor thread ends at the first failed request and may block at the end of a run for as
    long as the server is away; its collectors are used here without it.
    """

    def __init__(self, logger: MetricLogger) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._collectors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        try:
            self._collectors.append(GPUMonitor())
        except Exception as exc:
            if Path("/dev/nvidia0").exists():
                log.warning("tracking: no GPU metrics (%s). Install nvidia-ml-py", _one_line(exc))
        self._logger = logger
        self._step = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hfd-system-metrics", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        psutil.cpu_percent()  # the first call has no interval to speak of
        stopped = False
        while not stopped:
            stopped = self._stopping.wait(SYSTEM_METRICS_SECONDS)  # a last sample at the end: short steps too
            try:
                self._sample()
            except Exception as exc:  # a collector's trouble is not the run's
                log.warning("tracking: no system metrics (%s)", _one_line(exc))
                return

    def _sample(self) -> None:
        for collector in self._collectors:
            collector.collect_metrics()
            values = {f"system/{key}": value for key, value in collector.aggregate_metrics().items()}
            self._logger.log_metrics(self._step, values)
            collector.clear_metrics()
        self._step += 1

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)


class _Link:
    """A working connection: the client, the experiment and the tags that every run of this process gets."""

    def __init__(self, settings: TrackingSettings, uri: str) -> None:
        self.settings = settings
        self.uri = uri
        self.client = _client(uri)
        self.experiment_id = _experiment_id(self.client, settings)
        self._away = False

    def attempt(self, what: str, call: Callable[[], T]) -> T | None:
        """``call()``, again after 0.5, 1 and 2 s when the server is away; then a warning and ``None``.

        While the last attempt ended in failure there is one try only: an outage is waited for once.
        """
        for pause in (*(() if self._away else _RETRY_SECONDS), None):
            try:
                result = call()
            except Exception as exc:  # whatever mlflow raises, the work goes on
                if pause is None or _is_permanent(exc):
                    self._away = not _is_permanent(exc)
                    log.warning("tracking: could not %s (%s)", what, _one_line(exc))
                    return None
                time.sleep(pause)
            else:
                self._away = False
                return result
        return None

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a RUNNING run and return its id; raises what mlflow raises."""
        named = {"mlflow.runName": name, "mlflow.user": _user(), **_process_tags(), **_tag_texts(tags)}
        return str(self.client.create_run(self.experiment_id, tags=named).info.run_id)


class StepRun:
    """A run that is open for logging; made by ``parent_run`` and ``ParentRun.child``.

    Metrics never wait for the server. Params, tags, artifacts and images do, for some seconds at most
    while it is away, and then warn: log them between training steps, not in them. Nothing raises.
    """

    def __init__(self, link: _Link | None, run_id: str) -> None:
        self._link = link
        self.run_id = run_id  # "" when tracking is off
        self._logger = MetricLogger(link.uri if link else None, run_id)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue ``metrics`` (names of letters, digits, ``_-. :/``) at ``step``."""
        self._logger.log_metrics(step, metrics)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log nested ``params`` under dotted keys; with one over 6,000 characters, also ``params.yaml``."""
        self._log_params(params, "params.yaml", always=False)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set ``tags``; secrets inside URLs are redacted."""
        if self._link is not None:
            from mlflow.entities import RunTag

            entries = [RunTag(key, value) for key, value in _tag_texts(tags).items()]
            self._batches("log tags", tags=entries)

    def log_artifact(
        self, source: Path | bytes, *, name: str | None = None, folder: str | None = None
    ) -> None:
        """Store a file (or ``bytes``, then with a ``name``) in the run, inside ``folder`` when given."""
        if self._link is None:
            return
        client = self._link.client
        with tempfile.TemporaryDirectory() as scratch:
            path = source if isinstance(source, Path) else Path(scratch) / (name or "artifact.bin")
            if isinstance(source, bytes):
                path.write_bytes(source)
            elif name is not None and name != path.name:
                path = Path(scratch) / name
                path.symlink_to(source.resolve())
            self._link.attempt(
                f"store {path.name}",
                lambda: client.log_artifact(self.run_id, str(path), artifact_path=folder),
            )

    def log_image(self, name: str, x: np.ndarray[Any, np.dtype[np.uint8]], step: int) -> None:
        """Show the picture ``x`` (uint8, H x W or H x W x {1, 3, 4}, 0 to 255) as ``name`` at ``step``."""
        if self._link is not None:
            client = self._link.client
            self._link.attempt(
                f"store image {name}",
                lambda: client.log_image(self.run_id, x, key=name, step=step, synchronous=True),
            )

    def worker_handle(self) -> WorkerLogger:
        """What a Ray worker needs to log metrics to this run."""
        return WorkerLogger(self._link.uri if self._link else None, self.run_id)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until the metrics logged so far are stored; ``False`` when that took over ``timeout`` s."""
        return self._logger.flush(timeout)

    def _log_params(self, params: Mapping[str, object], file: str, *, always: bool) -> None:
        if self._link is None or not params:
            return
        from mlflow.entities import Param

        flat = flatten(params)
        long = {key: len(text) for key, text in flat.items() if len(text) > _MAX_PARAM_CHARS}
        flat |= {key: f"({count} characters: see {file})" for key, count in long.items()}
        self._batches("log params", params=[Param(key, text) for key, text in flat.items()])
        if long or always:
            text = yaml.safe_dump(_plain(params), sort_keys=False, allow_unicode=True)
            self.log_artifact(text.encode(), name=file)

    def _batches(self, what: str, **entities: list[Any]) -> None:
        if self._link is not None:
            client = self._link.client
            for kind, items in entities.items():
                for at in range(0, len(items), _MAX_PARAMS):
                    part = {kind: items[at : at + _MAX_PARAMS]}
                    self._link.attempt(what, lambda part=part: client.log_batch(self.run_id, **part))  # type: ignore[misc]

    @contextlib.contextmanager
    def _open(self, *, sample: bool) -> Iterator[Self]:
        """Log while the block runs, then close the run with the status that the block earned."""
        if self._link is None:
            yield self
            return
        sampler = _Sampler(self._logger) if sample else None
        status, error = "FAILED", ""
        try:
            yield self
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except BaseException as exc:
            error = _one_line(exc)
            raise
        finally:
            if sampler is not None:
                sampler.stop()
            self._logger.close()
            if error:
                self.log_tags({"hfd.error": error})
            client = self._link.client
            self._link.attempt(f"close run {self.run_id}", lambda: client.set_terminated(self.run_id, status))


class ParentRun(StepRun):
    """The run of a whole ``retrain``."""

    @contextlib.contextmanager
    def child(
        self, step: str, params: Mapping[str, object] | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[StepRun]:
        """Record one step. When its run cannot be created, a warning says so and the step runs unrecorded."""
        link, run_id = self._link, None
        if link is not None:
            named = {"mlflow.parentRunId": self.run_id, "hfd.step": step, **(tags or {})}
            run_id = link.attempt(f"record step {step}", lambda: link.start(step, named))
        run = StepRun(link if run_id else None, run_id or "")
        with run._open(sample=link is not None and link.settings.system_metrics):
            run.log_params(params or {})
            yield run


@contextlib.contextmanager
def parent_run(
    settings: TrackingSettings,
    *,
    name: str,
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[ParentRun]:
    """Open the run of a ``retrain``; ``params`` (nested) become params and the artifact ``config.yaml``.

    It ends FINISHED, FAILED (tag ``hfd.error``) or KILLED (Ctrl-C). Runs of this machine whose process is
    gone are marked KILLED first. ``settings.uri=None``: nothing is imported or recorded.

    Raises:
        ConfigError: an unusable ``tracking.uri`` or ``tracking.experiment``.
        HfdError: the server does not answer within 30 s.
    """
    if settings.uri is None:
        yield ParentRun(None, "")
        return
    link, run_id = _connect(settings, settings.uri, name, tags or {})
    with ParentRun(link, run_id)._open(sample=False) as run:
        run._log_params(params or {}, "config.yaml", always=True)
        yield run


def _connect(settings: TrackingSettings, uri: str, name: str, tags: Mapping[str, str]) -> tuple[_Link, str]:
    """The first contact and the parent run's id, within a bounded time unless the database is a file."""
    check_uri(uri)

    def contact() -> tuple[_Link, str]:
        link = _Link(settings, uri)
        link.attempt("close the runs of dead processes", lambda: _close_stale(link))
        return link, link.start(name, tags)

    try:
        if uri.startswith("sqlite:"):
            Path(urlsplit(uri).path[1:]).parent.mkdir(parents=True, exist_ok=True)
        # Creating a file's tables takes seconds on a slow disk but always ends; a network may never answer.
        return contact() if uri.startswith("sqlite:") else _within(FIRST_CONTACT_SECONDS, contact)
    except HfdError:
        raise
    except Exception as exc:
        raise HfdError(
            f"tracking.uri: got {redact(uri)}, expected a tracking server that answers "
            f"({_one_line(exc)[:300]}). Start it, correct the address, or set tracking.uri=null."
        ) from exc


def _within(seconds: float, call: Callable[[], T]) -> T:
    """``call()`` in a daemon thread, or ``TimeoutError``: name look-ups and drivers heed no time limit."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=work, name="hfd-first-contact", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    return results[0]


def _experiment_id(client: Any, settings: TrackingSettings) -> str:
    name = settings.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=settings.artifact_root))
        except Exception:
            found = client.get_experiment_by_name(name)  # made by another process meanwhile?
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment: got {name}, a deleted experiment, expected another name. Or restore it: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


def _tag_texts(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: "***" if _SECRET_KEY.search(key) else redact(str(value)) for key, value in tags.items()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())


def _process_tags() -> dict[str, str]:
    """Tags that tell later whether this process still lives.

    Containers may share a host name but number their processes separately: the PID name space tells.
    """
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = "host"
    started = f"{psutil.Process().create_time():.2f}"
    return {
        "hfd.host": socket.gethostname(),
        "hfd.pid_space": space,
        "hfd.pid": str(os.getpid()),
        "hfd.pid_started": started,
    }


def _is_alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        # The clock's correction moves start times by up to a second or so.
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 2.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _close_stale(link: _Link) -> None:
    """Mark RUNNING runs (parents and children) of this machine as KILLED when their process is gone."""
    own = ((key, _process_tags()[key]) for key in ("hfd.host", "hfd.pid_space"))
    where = " and ".join(
        ["attributes.status = 'RUNNING'", *(f"tags.`{key}` = '{text}'" for key, text in own)]
    )
    runs, token = [], None
    while token != "":
        page = link.client.search_runs([link.experiment_id], where, max_results=1000, page_token=token)
        runs += list(page)
        token = page.token or ""
    for run in runs:
        written = run.data.tags
        pid, started = written.get("hfd.pid", ""), written.get("hfd.pid_started", "")
        if not pid.isdigit() or _is_alive(int(pid), float(started or 0)):
            continue
        link.client.set_tag(run.info.run_id, "hfd.error", f"process {pid} ended without closing this run")
        link.client.set_terminated(run.info.run_id, "KILLED")
