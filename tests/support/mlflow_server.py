"""A real MLflow server on the loopback interface for the tests, which can go away and come back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real tracking server that can go away and come back, on loopback or on another address of this machine.

    ``backend``: the URI of its database, passed by the environment as in production; None: SQLite in the folder.
    ``artifacts``: where it stores artifacts; None: in the folder. ``environment``: added to that of the tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        backend: str | None = None,
        artifacts: str | None = None,
        environment: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.folder, self.address, self.port = folder, address, free_port()
        self._artifacts = artifacts or str(folder / "artifacts")
        self._environment = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_BACKEND_STORE_URI": backend or f"sqlite:///{folder}/server.db",
            **(environment or {}),
        }
        self.uri = f"http://{address}:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", self.address, "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", self._artifacts]
        with (self.folder / "server.log").open("ab") as out:
            self.process = subprocess.Popen(
                command,
                env=os.environ | self._environment,
                cwd=self.folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        while not self._healthy():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
