"""Create the tables of a SQLite tracking database atomically, in one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from hfd.errors import ConfigError, HfdError
from pipelines.tracking.redaction import one_line, redact
from pipelines.tracking.settings import database_file

log = logging.getLogger(__name__)

WAIT_S = 300.0
"""Limit of the wait for another run that creates the tables."""

QUIET_S = 2.0
"""Age after which an unfinished, unchanged file counts as abandoned."""

SIDE_FILES = ("-journal", "-wal", "-shm")


def is_file(uri: str) -> bool:
    """Return True if a tracking URI names a database file."""
    return uri.partition(":")[0].partition("+")[0] == "sqlite"


def ensure_tables(uri: str, make: Callable[[str], None]) -> None:
    """Create the tables of a database file that has none, or that a killed process left unfinished.

    ``make(uri)`` creates them in a new file, which is then renamed. An unfinished file holds no row and is kept under
    another name. Other runs wait.

    Raises:
        ConfigError: the file is not a database of MLflow.
        HfdError: another run does not finish creating it within 300 s.
        sqlite3.Error, OSError: the file or its folder cannot be used.
    """
    path = Path(os.path.realpath(database_file(uri)))  # write the target of a link
    if _is_made(path, uri):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(path, uri) as alone:
        if _is_made(path, uri) or _is_made_elsewhere(path, uri):
            return
        if alone:
            for left in path.parent.glob(f".{glob.escape(path.name)}.new-*"):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.new-", dir=path.parent) as scratch:
            fresh = Path(scratch, "mlflow.db")
            make(f"sqlite:///{quote(str(fresh))}")
            _set_aside(path)
            _publish(fresh, path)


def _is_made(path: Path, uri: str) -> bool:
    """Return True if a file holds a database that MLflow has finished creating, or any row."""
    if not path.exists() or not path.stat().st_size:
        return False
    # Open for writing, since opening rolls back the journal of a killed process.
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=20.0)) as database:
        query = "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'"
        tables = [name for (name,) in database.execute(query)]
        filled = {name for name in tables if database.execute(f'select exists(select 1 from "{name}")').fetchone()[0]}
    if not filled - {"alembic_version", "workspaces"}:  # rows that the migrations write
        return False
    if not {"experiments", "registered_models"} & set(tables):
        known = ", ".join(sorted(tables)[:3])
        raise ConfigError(
            f"tracking.uri: got {redact(uri)}, a database of another program (tables {known}), expected MLflow's or a "
            "new file. Name another file"
        )
    return True


def _is_made_elsewhere(path: Path, uri: str) -> bool:
    """Wait while a program that does not use our lock, such as an MLflow server, creates the tables."""
    until = time.monotonic() + WAIT_S
    while path.exists() and path.stat().st_size and time.monotonic() < until:
        before = _stamp(path)
        time.sleep(QUIET_S)
        if _is_made(path, uri):
            return True
        if not path.exists() or _stamp(path) == before:
            return False
    return False


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _exclusive(path: Path, uri: str) -> Iterator[bool]:
    """Hold a lock file beside the database; False on a file system without locks."""
    beside = path.with_name(f".{path.name}.lock")
    until, said = time.monotonic() + WAIT_S, False
    while True:
        with beside.open("a") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    log.warning("tracking: another run is creating %s: waiting for it", path)
                    said = True
                if time.monotonic() > until:
                    raise HfdError(
                        f"tracking.uri: got {redact(uri)}, which another run has been creating for {WAIT_S:.0f} s, "
                        "expected it to end. Look for that run, then run the same command again"
                    ) from None
                time.sleep(0.1)
                continue
            except OSError:
                yield False
                return
            if not _is_same(held.fileno(), beside):
                continue  # its holder deleted it
            try:
                yield True
            finally:
                beside.unlink(missing_ok=True)
            return


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _set_aside(path: Path) -> None:
    """Rename an unfinished file with its journal, which must not be applied to the new database."""
    if path.exists() and not path.stat().st_size:
        path.unlink()
    number, kept = 1, path.with_name(f"{path.name}.half-made")
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.half-made-{number}")
    if path.exists():
        log.warning(
            "tracking: %s was unfinished and held no run; created again, the old file is kept as %s", path, kept.name
        )
    for suffix in ("", *SIDE_FILES):
        part = path.with_name(f"{path.name}{suffix}")
        if part.exists():
            part.rename(kept.with_name(f"{kept.name}{suffix}"))


def _publish(fresh: Path, path: Path) -> None:
    """Rename a finished file, unless another program has created the name meanwhile."""
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        fresh.rename(path)


def mistake(uri: str, error: BaseException) -> HfdError:
    """Return one line for an error of a database file or of its folder."""
    text = one_line(error)
    expected, advice = next(rest for pattern, *rest in _MISTAKES if re.search(pattern, text, re.I))
    return HfdError(f"tracking.uri: got {redact(uri)}, expected {expected} ({text[:300]}). {advice}")


_MISTAKES = (
    (
        r"database (table )?is locked|database schema is locked",
        "a database that no other program holds",
        "Stop that program or wait for it, then run the same command again",
    ),
    (
        r"readonly|read-only|permission|unable to open|access is denied",
        "a readable and writable file and folder",
        "Check their owner and mode, or name another file",
    ),
    (r"is full|no space|quota", "space on its disk", "Free some and run the same command again"),
    (
        r"not a database|malformed|file is encrypted",
        "an undamaged SQLite database",
        "Restore a copy, or move the file away: a new one is created",
    ),
    (
        r"out-of-date database schema|can't locate revision",
        "a database of the installed version of MLflow",
        "Copy the file, then run mlflow db upgrade with this address; or install the version that made it",
    ),
    (
        r"FileExists|NotADirectory|IsADirectory",
        "a path without a file among its folders",
        "Name another file",
    ),
    (
        r"disk i/o|input/output",
        "a disk that works",
        "Check the disk, or name a file on another one",
    ),
    ("", "a database that MLflow can use", "Restore a copy, name another file, or set tracking.uri=null"),
)
"""Pattern of the error, expected state, and advice; the first match is used."""
