"""Databases of other versions of MLflow are refused unchanged, and upgraded by the command that the line names."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hfd.errors import ConfigError, HfdError
from pipelines.registry.artifacts import find_artifacts
from pipelines.registry.champion import open_registry
from pipelines.tracking import TrackingSettings, parent_run, tracking_settings
from pipelines.tracking.schema import prepare_tables
from tests.support.old_schema import make_database, revisions
from tests.support.postgres_server import PostgresServer
from tests.support.tiny_run import tiny_config

pytestmark = pytest.mark.integration

AGO = (1, 12)
"""Migrations since the old database: with one, all tables are there; with twelve, some are missing."""


@pytest.fixture(params=["file", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database of the test's own, of either kind; the environment holds its password."""
    if request.param == "file":
        return f"sqlite:///{tmp_path}/mlflow.db"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    return postgres.create_database(re.sub(r"\W", "_", request.node.name)[-60:])


def record(uri: str, folder: Path) -> None:
    with parent_run(TrackingSettings(uri, "hfd", folder.as_uri(), False), name="n") as run:
        run.log_tags({"a": "b"})


def tables_of(uri: str) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the tables, the schema and the names of the experiments."""
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.pool import NullPool

    with create_engine(uri, poolclass=NullPool).connect() as connection:
        rows = [connection.execute(text(f"select {one}")).scalars().all() for one in (
            "version_num from alembic_version", "name from experiments order by name",
        )]  # fmt: skip
        return sorted(inspect(connection).get_table_names()), list(rows[0]), list(rows[1])


@pytest.mark.parametrize("ago", AGO)
def test_an_older_database_stays_as_it_is_until_its_command_is_run(uri: str, ago: int, tmp_path: Path) -> None:
    head, old = revisions()[0], revisions()[ago]
    make_database(uri, old)
    before = tables_of(uri)
    config = tiny_config(tmp_path, tmp_path / "w", f"tracking.uri={uri}", "promote.model=x")
    lines = set()
    uses: list[Callable[[], object]] = [
        lambda: record(uri, tmp_path),
        lambda: open_registry(config),
        lambda: find_artifacts(uri, "models:/x@champion"),
    ]
    for use in uses:
        with pytest.raises(ConfigError) as caught:
            use()
        lines.add(str(caught.value))
    (line,) = lines
    assert line.startswith("tracking.uri: got ") and "\n" not in line
    assert f"a database of an older MLflow (schema {old}), expected a database of the installed version of" in line
    assert tables_of(uri) == before

    program, *arguments = shlex.split(line.partition("Copy it, then run ")[2])
    assert (program, arguments) == ("mlflow", ["db", "upgrade", uri])
    subprocess.run([sys.executable, "-m", program, *arguments], check=True, capture_output=True, env=os.environ)
    record(uri, tmp_path)
    assert tables_of(uri)[1] == [head] and {"earlier", "hfd"} <= set(tables_of(uri)[2])


def test_a_database_of_a_newer_version_is_refused(uri: str, tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text

    make_database(uri, "heads")
    engine = create_engine(uri)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'fedcba987654'"))
    engine.dispose()
    with pytest.raises(
        ConfigError, match=r"of another MLflow \(schema fedcba987654\).* Install the version that made it$"
    ):
        record(uri, tmp_path)
    assert tables_of(uri)[1] == ["fedcba987654"]


def test_runs_that_start_at_once_on_an_empty_server_all_work(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    uri = postgres.create_database("at_once")
    code = "import sys; from pathlib import Path; from tests.pipelines.tracking.test_schema import record; "
    code += "record(sys.argv[1], Path(sys.argv[2]))"
    started = [
        subprocess.Popen([sys.executable, "-c", code, uri, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ends
    assert postgres.query("at_once", "select status, count(*) from runs group by status") == [("FINISHED", 3)]


def test_tables_left_by_a_killed_process_are_completed(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow creates its first tables in one transaction and the migrations in another."""
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    monkeypatch.setenv("PGPASSWORD", postgres.password)
    uri = postgres.create_database("half_made")
    engine = create_engine(uri)
    Base.metadata.create_all(engine)
    engine.dispose()
    record(uri, tmp_path)
    assert tables_of(uri)[1] == [revisions()[0]]


def test_a_refused_password_is_one_line_without_it(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uri = postgres.create_database("refused")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    config = tiny_config(tmp_path, tmp_path / "w", f"tracking.uri={uri}", "promote.model=x")
    for use in (lambda: record(uri, tmp_path), lambda: open_registry(config)):
        with caplog.at_level(logging.DEBUG), pytest.raises(HfdError, match="password authentication failed") as caught:
            use()
        assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value) + caplog.text


def test_artifacts_of_a_database_server_lie_in_the_workspace(
    postgres: PostgresServer, workspace: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hfd.io.storage import Folder

    assert isinstance(workspace, Folder)
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    monkeypatch.chdir(tmp_path)
    uri = postgres.create_database(f"artifacts_{'local' if workspace.is_local else 's3'}")
    settings = tracking_settings(tiny_config(tmp_path, workspace.uri, f"tracking.uri={uri}"))
    with parent_run(settings, name="n") as run:
        run.log_artifact(b"text", name="note.txt", folder="notes")
    (note,) = [entry.key for entry in workspace.files() if entry.key.endswith("note.txt")]
    assert note.startswith("mlartifacts/") and (workspace / note.rpartition("/")[0]).read("note.txt") == b"text"
    assert not (tmp_path / "mlruns").exists()


def test_a_checked_database_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    record(uri, tmp_path)
    path.unlink()
    prepare_tables(uri, lambda: pytest.fail("created again"))
