"""Log to open runs: the parent run of a ``retrain`` and the child runs of its steps."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml

from pipelines.tracking.link import Link, connect
from pipelines.tracking.metric_logger import MetricLogger, WorkerLogger
from pipelines.tracking.redaction import flatten, one_line, plain, tag_texts
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.system_metrics import Sampler

MAX_PARAM_CHARS = 6000  # MLflow's limits, per value and per call
MAX_PARAMS = 100


class StepRun:
    """An open run; created by ``parent_run`` and ``ParentRun.child``.

    Metrics never wait for the server. Params, tags, artifacts and images wait, at most some seconds while it is
    unavailable, and then warn: log them between training steps, not in them. No method raises.
    """

    def __init__(self, link: Link | None, run_id: str) -> None:
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

            entries = [RunTag(key, value) for key, value in tag_texts(tags).items()]
            self._batches("log tags", tags=entries)

    def log_artifact(self, source: Path | bytes, *, name: str | None = None, folder: str | None = None) -> None:
        """Store a file (or ``bytes``, then with a ``name``) in the run, inside ``folder`` when given."""
        if self._link is None:
            return
        client = self._link.client

        def store() -> None:
            with tempfile.TemporaryDirectory() as scratch:  # its disk may be full: a failure like one of the server
                path = source if isinstance(source, Path) else Path(scratch) / (name or "artifact.bin")
                if isinstance(source, bytes):
                    path.write_bytes(source)
                elif name is not None and name != path.name:
                    path = Path(scratch) / name
                    path.symlink_to(source.resolve())
                client.log_artifact(self.run_id, str(path), artifact_path=folder)

        self._link.attempt(f"store {name or getattr(source, 'name', 'artifact.bin')}", store)

    def log_image(self, name: str, x: np.ndarray[Any, np.dtype[np.uint8]], step: int) -> None:
        """Show the picture ``x`` (uint8, H x W or H x W x {1, 3, 4}, 0 to 255) as ``name`` at ``step``."""
        if self._link is not None:
            client = self._link.client
            self._link.attempt(
                f"store image {name}",
                lambda: client.log_image(self.run_id, x, key=name, step=step, synchronous=True),
            )

    def worker_handle(self) -> WorkerLogger:
        """Return a handle with which a Ray worker logs metrics to this run."""
        return WorkerLogger(self._link.uri if self._link else None, self.run_id)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until the metrics logged so far are stored; return False after ``timeout`` s."""
        return self._logger.flush(timeout)

    def _log_params(self, params: Mapping[str, object], file: str, *, always: bool) -> None:
        if self._link is None or not params:
            return
        from mlflow.entities import Param

        flat = flatten(params)
        long = {key: len(text) for key, text in flat.items() if len(text) > MAX_PARAM_CHARS}
        flat |= {key: f"({count} characters: see {file})" for key, count in long.items()}
        self._batches("log params", params=[Param(key, text) for key, text in flat.items()])
        if long or always:
            text = yaml.safe_dump(plain(params), sort_keys=False, allow_unicode=True)
            self.log_artifact(text.encode(), name=file)

    def _batches(self, what: str, **entities: list[Any]) -> None:
        if self._link is not None:
            client = self._link.client
            for kind, items in entities.items():
                for at in range(0, len(items), MAX_PARAMS):
                    part = {kind: items[at : at + MAX_PARAMS]}
                    self._link.attempt(what, lambda part=part: client.log_batch(self.run_id, **part))  # type: ignore[misc]

    @contextlib.contextmanager
    def _open(self, *, sample: bool) -> Iterator[Self]:
        """Log while the block runs, then close the run with the status of its end."""
        if self._link is None:
            yield self
            return
        sampler = Sampler(self._logger) if sample else None
        status, error = "FAILED", ""
        try:
            yield self
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except BaseException as exc:
            error = one_line(exc)
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
        """Record one step. If its run cannot be created, warn and run the step unrecorded."""
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

    It ends FINISHED, FAILED (tag ``hfd.error``) or KILLED (Ctrl-C). Runs of this machine whose process has
    ended are marked KILLED first. ``settings.uri=None``: nothing is imported or recorded.

    Raises:
        ConfigError: an unusable ``tracking.uri`` or ``tracking.experiment``.
        HfdError: the server does not answer within 30 s.
    """
    if settings.uri is None:
        yield ParentRun(None, "")
        return
    link, run_id = connect(settings, settings.uri, name, tags or {})
    with ParentRun(link, run_id)._open(sample=False) as run:
        run._log_params(params or {}, "config.yaml", always=True)
        yield run
