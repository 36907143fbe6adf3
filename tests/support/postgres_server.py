"""A real PostgreSQL server on the loopback interface for the tests, in a temporary folder, never run by root."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.mlflow_server import free_port

STARTED_WITHIN_S = 60.0
USER = "mlflow"
NOBODY = 65534
"""Id of the user and group of a server that root starts: PostgreSQL refuses to run as root."""


@dataclass(frozen=True)
class PostgresServer:
    """A server with the user ``mlflow``, its ``port`` and ``password``."""

    port: int
    password: str

    def create_database(self, name: str) -> str:
        """Create an empty database; return its URI without the password."""
        with closing(self._connect("postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute(f'create database "{name}"')
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{name}"

    def query(self, database: str, text: str) -> list[Any]:
        """Run one statement; return its rows, none for a statement without."""
        with closing(self._connect(database)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(text)
            return list(cursor.fetchall()) if cursor.description is not None else []

    def with_password(self, uri: str) -> str:
        """Return a URI as the environment of an MLflow server holds it."""
        return uri.replace(f"//{USER}@", f"//{USER}:{self.password}@")

    def _connect(self, database: str) -> Any:
        import psycopg2

        return psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database, connect_timeout=10
        )


def find_postgres() -> Path | None:
    """Find the folder of initdb and postgres: on the path, or the newest of Debian's, which are not on it."""
    found = [Path(program).parent for program in [shutil.which("initdb")] if program is not None]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))[::-1]
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def postgres_server(programs: Path, parent: Path = Path("/tmp")) -> Iterator[PostgresServer]:
    """Run a server with a random password, without a socket file; its files, below ``parent``, go away with it."""
    is_root = os.geteuid() == 0
    owner: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root else {}
    # Not in a folder of pytest: these belong to the user of the tests alone.
    with tempfile.TemporaryDirectory(prefix="hfd-postgres-", dir=parent, ignore_cleanup_errors=True) as name:
        folder, server = Path(name), PostgresServer(free_port(), secrets.token_hex(20))
        secret = folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(server.password)
        if is_root:
            for path in (folder, secret):
                os.chown(path, NOBODY, NOBODY)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
        make = [programs / "initdb", "-D", folder / "data", "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}"]
        subprocess.run(
            [*map(str, make), "--encoding=UTF8", "--no-sync"],
            check=True, capture_output=True, env=environment, cwd=folder, **owner,
        )  # fmt: skip
        serve = [programs / "postgres", "-D", folder / "data", "-p", server.port, "-h", "127.0.0.1", "-k", "", "-F"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*map(str, serve), "-c", "shared_buffers=32MB"],
                stdout=log, stderr=log, env=environment, cwd=folder, **owner,
            )  # fmt: skip
        try:
            _await_answer(process, server, folder / "log")
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # ends connections and stops
            process.wait()


def _await_answer(process: subprocess.Popen[bytes], server: PostgresServer, log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + STARTED_WITHIN_S
    while True:
        try:
            server.query("postgres", "select 1")
            return
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)
