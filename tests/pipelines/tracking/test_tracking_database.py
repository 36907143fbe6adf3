"""Tracking databases in files: whole or not at all after any stop, made once by runs that start together."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hfd.errors import HfdError
from pipelines.registry.champion import open_registry
from pipelines.tracking import TrackingSettings, database, parent_run
from pipelines.tracking.client import open_client
from tests.support.tiny_run import tiny_config, tiny_overrides, write_photographs

pytestmark = pytest.mark.integration

STATEMENTS = (1, 12, 60, 200)
"""Of those that make the tables: among the first tables, and among the migrations that copy tables."""


@pytest.fixture(scope="module", autouse=True)
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has made, to copy. Processes that a test forks share the import of mlflow."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    open_client(f"sqlite:///{path}")
    return path


def stop_at(statement: int, act: Callable[[], None]) -> None:
    """Call ``act`` before the statement of this number that changes a table."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    count = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def _count(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        nonlocal count
        count += text.lstrip().upper().startswith(("CREATE", "ALTER", "DROP", "INSERT", "UPDATE"))
        if count == statement:
            act()


def in_child(work: Callable[[], None]) -> int:
    """Start a process that shares the imports of this one; its id. The exit code is 0 where ``work`` returns."""
    if child := os.fork():
        return child
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode()[:2000])
        os._exit(1)


def end_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def record(path: Path) -> None:
    with parent_run(TrackingSettings(f"sqlite:///{path}", "hfd", path.parent.as_uri(), False), name="n") as run:
        run.log_tags({"a": "b"})


def runs_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as opened:
        return [status for (status,) in opened.execute("select status from runs")]


def half_made(path: Path, statement: int) -> None:
    """Leave what MLflow leaves of a new file when it is killed at a statement."""
    from mlflow import MlflowClient

    def work() -> None:
        stop_at(statement, lambda: os.kill(os.getpid(), signal.SIGKILL))
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()

    path.parent.mkdir(parents=True, exist_ok=True)
    assert end_of(in_child(work)) == -signal.SIGKILL
    assert path.exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_run_stopped_while_tables_are_made_leaves_no_file_and_the_next_works(
    tmp_path: Path, statement: int, sent: signal.Signals
) -> None:
    path = tmp_path / "w/mlflow.db"

    def work() -> None:
        stop_at(statement, lambda: os.kill(os.getpid(), sent))
        record(path)

    assert end_of(in_child(work)) != 0
    assert not path.exists()
    assert end_of(in_child(lambda: record(path))) == 0
    assert runs_of(path) == ["FINISHED"]
    assert {one.name for one in path.parent.iterdir()} <= {"mlflow.db", "0", "1"}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_file_that_is_half_made_is_made_anew_and_kept_aside(
    tmp_path: Path, statement: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "QUIET_S", 0.05)
    path = tmp_path / "mlflow.db"
    half_made(path, statement)
    old = path.read_bytes()
    record(path)
    assert runs_of(path) == ["FINISHED"]
    asides = [one for one in tmp_path.iterdir() if ".half-made" in one.name]
    if old:
        assert asides and "was unfinished and held no run; created again" in caplog.text


@pytest.mark.parametrize("state", ["none", "empty", "half", "registry"])
def test_runs_that_start_at_once_on_one_file_all_work(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "QUIET_S", 0.05)
    path = tmp_path / "shared.db"
    if state == "empty":
        path.touch()
    if state == "half":
        half_made(path, 60)
    config = tiny_config(
        tmp_path, tmp_path, f"tracking.uri=sqlite:///{path}", "promote.model=x", "evaluate.bootstrap_draws=20"
    )

    def registered() -> None:
        assert open_registry(config).champion() is None

    works = [lambda: record(path)] * 2 + [registered if state == "registry" else lambda: record(path)]
    assert [end_of(child) for child in [in_child(work) for work in works]] == [0, 0, 0]
    assert runs_of(path) == ["FINISHED"] * (2 if state == "registry" else 3)
    assert not list(tmp_path.glob(".*"))


def test_waiting_for_another_run_is_reported_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    monkeypatch.setattr(database, "WAIT_S", 0.2)
    path = tmp_path / "mlflow.db"
    with (tmp_path / ".mlflow.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(HfdError, match=r"another run has been creating .* expected it to end\. Look for that run"):
            record(path)
    assert f"another run is creating {path}: waiting for it" in caplog.text
    record(path)


def test_remains_of_a_killed_run_beside_the_file_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    (tmp_path / ".mlflow.db.lock").write_text("")
    (tmp_path / ".mlflow.db.new-x").mkdir()
    (tmp_path / ".mlflow.db.new-x/mlflow.db").write_bytes(b"part")
    (tmp_path / "mlflow.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    record(path)
    assert runs_of(path) == ["FINISHED"] and not list(tmp_path.glob(".*"))


def test_a_database_with_runs_is_never_set_aside(made: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(made, tmp_path / "mlflow.db"))
    assert end_of(in_child(lambda: record(path))) == 0  # mlflow checks a database once for each process
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("update alembic_version set version_num = 'a8c4a736bde6'")
    with pytest.raises(HfdError, match=r"expected a database of the installed version of MLflow .*mlflow db upgrade"):
        record(path)
    assert runs_of(path) == ["FINISHED"] and not list(tmp_path.glob("*.half-made*"))


def test_a_link_to_a_file_that_is_not_there_is_written_through(tmp_path: Path) -> None:
    link = tmp_path / "mlflow.db"
    link.symlink_to(tmp_path / "disk/real.db")
    record(link)
    assert link.is_symlink() and runs_of(tmp_path / "disk/real.db") == ["FINISHED"]


def write_text(path: Path) -> None:
    path.write_text("no database " * 200)


def write_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("create table cookies (a)")
        opened.execute("insert into cookies values (1)")


def write_damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 40] = b"\xff" * 4096 * 38
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (write_text, r"an undamaged SQLite database .*not a database.* move the file away: a new one is created"),
        (write_foreign, r"a database of another program \(tables cookies\), expected MLflow's or a new file\. Name"),
        (write_damaged, r"an undamaged SQLite database .* Restore a copy"),
        (lambda path: path.mkdir(), r"a readable and writable file and folder .*Check their owner and mode"),
    ],
)
@pytest.mark.parametrize("use", ["tracking", "registry"])
def test_a_file_that_cannot_be_used_is_one_line(
    made: Path, tmp_path: Path, spoil: Callable[[Path], None], expected: str, use: str
) -> None:
    path = tmp_path / "mlflow.db"
    if spoil is write_damaged:
        shutil.copy(made, path)
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    uri = f"sqlite:///{path}"
    with pytest.raises(HfdError, match=expected) as caught:
        if use == "tracking":
            record(path)
        else:
            config = tiny_config(
                tmp_path, tmp_path, f"tracking.uri={uri}", "promote.model=x", "evaluate.bootstrap_draws=20"
            )
            open_registry(config).champion()
    message = str(caught.value)
    assert message.startswith(f"tracking.uri: got {uri}, ") and "\n" not in message
    assert "Start it" not in message and "address," not in message
    assert not path.is_file() or path.read_bytes() == before


def test_a_locked_file_names_the_other_program(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(made, tmp_path / "mlflow.db"))
    opening = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: opening(*given, **{**named, "timeout": 0.1}))
    with closing(opening(path)) as held:
        held.execute("begin exclusive")
        with pytest.raises(
            HfdError, match=r"expected a database that no other program holds .*Stop that program or wait"
        ):
            record(path)


def test_a_folder_of_its_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HfdError, match=r"expected a path without a file among its folders .*Name another file"):
        record(tmp_path / "file/mlflow.db")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after_s", [0.2, 0.6, 1.2, 2.0])
def test_a_command_killed_early_in_a_new_workspace_runs_again(
    tmp_path: Path, sent: signal.Signals, after_s: float
) -> None:
    overrides = tiny_overrides(write_photographs(tmp_path / "p"), tmp_path / "w", "tracking.uri=auto")
    command = [sys.executable, "-m", "hfd", "prepare", "-c", "demo", *overrides]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "w").glob("*mlflow.db*")) and first.poll() is None:
        time.sleep(0.005)
    time.sleep(after_s)
    first.send_signal(sent)
    first.wait()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
