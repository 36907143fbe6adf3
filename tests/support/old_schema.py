"""Tracking databases as earlier versions of MLflow made them."""

from __future__ import annotations

from typing import Any


def revisions() -> list[str]:
    """Return the schemas of MLflow's tables, the newest first."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return [found.revision for found in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()]


def make_database(uri: str, revision: str) -> None:
    """Create the tables of a schema in an empty database, with one experiment in them."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine, text

    engine = create_engine(uri)
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
    config: Any = _get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(
            text(
                "insert into experiments (experiment_id, name, artifact_location, lifecycle_stage) "
                "values (7, 'earlier', 'mlflow-artifacts:/7', 'active')"
            )
        )
    engine.dispose()
