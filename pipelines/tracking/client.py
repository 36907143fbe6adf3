"""The client of a tracking server, quiet, and what its errors mean."""

from __future__ import annotations

import logging
import os
from typing import Any

_PERMANENT = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "PERMISSION_DENIED",
        "BAD_REQUEST",
        "INVALID_STATE",
    }
)


def open_client(uri: str) -> Any:
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
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("GIT_PYTHON_REFRESH", "quiet"),
    ):
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def is_permanent(error: BaseException) -> bool:
    """Whether sending the same thing again cannot help."""
    own = (TypeError, ValueError, FileNotFoundError, PermissionError, IsADirectoryError)
    return getattr(error, "error_code", None) in _PERMANENT or isinstance(error, own)
