"""Record runs in MLflow: one parent run per ``retrain``, one child run per step that is not skipped.

Tracking never stops or slows a step. After the first connection every failure of the server is a warning; a background
thread sends metrics from a bounded queue, and lost metrics are counted. This is the only package that imports mlflow,
inside functions only, so that importing it stays fast.
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
