"""Settings of tracking, and checks of its addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from hfd.config import Config
from hfd.errors import ConfigError
from hfd.io.storage import Folder
from pipelines.tracking.redaction import SECRET_QUERY, redact

_DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mssql"})
_SCHEMES = re.compile(r"(sqlite|https?|databricks(-uc)?|postgresql|mysql|mssql)(\+\w+)?")


@dataclass(frozen=True)
class TrackingSettings:
    """Address and options of tracking.

    ``uri``: ``None`` (off), ``sqlite:////absolute/path/mlflow.db``, ``http(s)://...``, ``databricks`` or a
    database. ``artifact_root``: absolute ``file://`` or object-store URI for the artifacts of a new
    experiment; ``None`` lets the server choose. ``system_metrics``: CPU, memory, disk, network and GPU use
    of the driver's machine, every ten seconds of each step.
    """

    uri: str | None
    experiment: str
    artifact_root: str | None = None
    system_metrics: bool = True


def is_registered(model: str) -> bool:
    """Return True if a setting names a model of the registry: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    return model.startswith("models:/")


def check_uri(uri: str) -> None:
    """Raise ``ConfigError`` unless ``uri`` is of a known kind, absolute, and carries no credentials."""
    try:
        parts = urlsplit(uri)
        secret = parts.password is not None or (parts.scheme.startswith("http") and parts.username is not None)
    except ValueError as exc:
        raise ConfigError(f"tracking.uri: got {redact(uri)}, expected a URL ({exc}).") from exc
    if secret or SECRET_QUERY.search(uri):
        raise ConfigError(
            f"tracking.uri: got {redact(uri)} with credentials in it, expected none. Set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or PGPASSWORD) in the environment."
        )
    if uri.startswith("sqlite") and "?" in uri and not re.search(r"\?\w+=[^/]*$", uri):
        raise ConfigError(
            f"tracking.uri: got {redact(uri)} (?, which begins a query), expected a file's path. Write %3F for a ?"
        )
    known = _SCHEMES.fullmatch(parts.scheme or uri)
    if known is None or (parts.scheme == "sqlite" and not re.match(r"sqlite:////?(/|[A-Za-z]:)", uri)):
        raise ConfigError(
            f"tracking.uri: got {redact(uri)}, expected none, sqlite:////absolute/path/mlflow.db, "
            "http(s)://host:port or databricks. The path of a database file must be absolute."
        )


def database_file(uri: str) -> Path:
    """Return the file of a ``sqlite:`` URI, as SQLAlchemy reads it."""
    return Path(unquote(uri.partition(":///")[2].partition("?")[0]))


def is_database(uri: str) -> bool:
    """Return True if a tracking URI names a database, which this process opens without an MLflow server."""
    return uri.partition(":")[0].partition("+")[0] in _DATABASES


def tracking_settings(config: Config) -> TrackingSettings:
    """Return the tracking of a configuration; ``auto`` is a SQLite file in the workspace, which must be local.

    Artifacts of a new experiment lie in the workspace where a database server is used without an MLflow server: by
    default MLflow would write them into the current folder of the process.
    """
    uri, artifacts = config.tracking.uri, None
    workspace = Folder(config.workspace_uri)
    if uri == "auto":
        if not workspace.is_local:
            raise ConfigError(
                f"tracking.uri: got auto with the remote workspace {config.workspace_uri}, expected the URI of an "
                "MLflow server. Or turn tracking off with tracking.uri=null"
            )
        uri = f"sqlite:///{quote(str(workspace.path))}/mlflow.db"  # SQLAlchemy drops the text after a ?
        artifacts = (workspace.path / "mlartifacts").as_uri()
    elif uri is not None and is_database(uri) and not uri.startswith("sqlite"):
        artifacts = (workspace.path / "mlartifacts").as_uri() if workspace.is_local else f"{workspace.uri}/mlartifacts"
    return TrackingSettings(uri, config.tracking.experiment, artifacts, config.tracking.system_metrics)
