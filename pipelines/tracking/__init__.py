"""MLflow as the view of a run: one parent run per ``retrain``, one child run per step that really runs.

Tracking never stops or slows the work it describes. After the first contact every failure of the server is
a warning, metrics leave through a bounded queue and a background thread, and what was lost is counted.
This is the only package that imports mlflow, and it does so inside functions: importing it stays cheap.
"""

from __future__ import annotations

from pipelines.tracking.metric_logger import MetricLogger, WorkerLogger
from pipelines.tracking.redaction import flatten, redact
from pipelines.tracking.runs import ParentRun, StepRun, parent_run
from pipelines.tracking.settings import TrackingSettings, check_uri, tracking_settings

__all__ = [
    "MetricLogger",
    "ParentRun",
    "StepRun",
    "TrackingSettings",
    "WorkerLogger",
    "check_uri",
    "flatten",
    "parent_run",
    "redact",
    "tracking_settings",
]
