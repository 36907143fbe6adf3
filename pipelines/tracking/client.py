"""The client of a tracking server, quiet, and what its errors mean."""

from __future__ import annotations

import logging
import os
from typing import Any

from hfd.errors import HfdError
from pipelines.tracking.database import ensure_tables, is_file, mistake

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
    The process-wide tracking URI is neither read nor set. A database file gets its tables first, whole or not at all.

    Raises:
        HfdError: a database file that cannot be used.
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
    if is_file(uri):
        try:
            ensure_tables(uri, lambda fresh: MlflowClient(tracking_uri=fresh).search_experiments(max_results=1))
        except HfdError:
            raise
        except Exception as error:  # SQLite's, SQLAlchemy's, MLflow's and the file system's
            raise mistake(uri, error) from error
    return MlflowClient(tracking_uri=uri)


def is_permanent(error: BaseException) -> bool:
    """Return True for an error that the same request would meet again."""
    own = (TypeError, ValueError, FileNotFoundError, PermissionError, IsADirectoryError)
    return getattr(error, "error_code", None) in _PERMANENT or isinstance(error, own)


def is_missing(error: BaseException) -> bool:
    """Report whether a server answers that it has no such run, model, version or file: it is there, and works."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
