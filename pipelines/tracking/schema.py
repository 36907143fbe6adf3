"""Check and create the tables of a tracking database, which MLflow would otherwise change on opening."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from hfd.errors import ConfigError
from pipelines.tracking.redaction import redact

_LOCK = 0x686664
"""Number of the PostgreSQL lock that a process holds while it creates the tables."""

_VERSIONS = "alembic_version"

_ready: set[str] = set()
"""Databases that this process has checked."""


def prepare_tables(uri: str, make: Callable[[], None]) -> None:
    """Check the tables of a database, or create them with ``make`` where there are none.

    MLflow creates missing tables whenever it opens a database, also those of its own version in an older database,
    which servers of the older version then refuse; and two processes that create tables at once fail. On PostgreSQL one
    process creates them, and the others wait.

    Raises:
        ConfigError: the tables are of another version of MLflow.
        sqlalchemy.exc.SQLAlchemyError: the database does not answer.
    """
    if uri in _ready:
        return
    with _connection(uri) as connection:
        if not _is_current(connection, uri):
            if connection.dialect.name == "postgresql":
                from sqlalchemy import text

                connection.execute(text("select pg_advisory_lock(:key)"), {"key": _LOCK})  # ends with the connection
            if not _is_current(connection, uri):
                make()
    _ready.add(uri)


@contextlib.contextmanager
def _connection(uri: str) -> Iterator[Any]:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with create_engine(uri, poolclass=NullPool).connect() as connection:
        yield connection


def _is_current(connection: Any, uri: str) -> bool:
    """Return True for finished tables of the installed version, False for none. Raises :class:`ConfigError`."""
    from sqlalchemy import inspect, text

    versions: list[str] = []
    if {_VERSIONS, "experiments"} <= set(inspect(connection).get_table_names()):
        versions = [str(version) for (version,) in connection.execute(text(f"select version_num from {_VERSIONS}"))]
    connection.rollback()  # whoever creates tables would wait for the end of this transaction
    if not versions:  # created by a process that was killed; MLflow completes them
        return False
    _check_version(versions[0], uri)
    return True


def _check_version(found: str, uri: str) -> None:
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.version import VERSION

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    if found in scripts.get_heads():
        return
    try:
        known = scripts.get_revision(found) is not None
    except CommandError:
        known = False
    got = f"tracking.uri: got {redact(uri)}, a database of {'an older' if known else 'another'} MLflow (schema {found})"
    raise ConfigError(
        f"{got}, expected a database of the installed version of MLflow ({VERSION}). "
        + (f"Copy it, then run {upgrade_command(uri)}" if known else "Install the version that made it")
    )


def upgrade_command(uri: str) -> str:
    """Return the command that upgrades a database. An accepted URI has no password; a user name is shown."""
    return f"mlflow db upgrade {shlex.quote(uri)}"
