"""Create a silent client of a tracking server, and classify its errors."""

from __future__ import annotations

import logging
import os
from typing import Any

from hfd.errors import HfdError
from pipelines.tracking.database import ensure_tables, is_file, mistake
from pipelines.tracking.schema import prepare_tables
from pipelines.tracking.settings import is_database

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
    """Create an ``MlflowClient`` of ``uri``, with mlflow's output and telemetry turned off.

    A request is sent once (the callers retry) and waits at most 20 s, unless the user's environment states otherwise.
    The process-wide tracking URI is neither read nor set. The tables of a database file are created first, atomically.

    Raises:
        HfdError: a database file that cannot be used, or a database of another version of MLflow.
        sqlalchemy.exc.SQLAlchemyError: a database server that does not answer.
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
            prepare_tables(uri, lambda: None)
        except HfdError:
            raise
        except Exception as error:  # SQLite's, SQLAlchemy's, MLflow's and the file system's
            raise mistake(uri, error) from error
    elif is_database(uri):
        prepare_tables(uri, lambda: MlflowClient(tracking_uri=uri).search_experiments(max_results=1))
    return MlflowClient(tracking_uri=uri)


def is_permanent(error: BaseException) -> bool:
    """Return True for an error that a retry of the same request would raise again."""
    own = (TypeError, ValueError, FileNotFoundError, PermissionError, IsADirectoryError)
    return getattr(error, "error_code", None) in _PERMANENT or isinstance(error, own)


def is_missing(error: BaseException) -> bool:
    """Return True if a working server answers that it has no such run, model, version or file."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
