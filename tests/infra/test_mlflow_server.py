"""MLflow as the manifest starts it: the arguments are real ones, and it answers to its own names alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.crd import documents
from tests.support.s3_server import _free_ports

pytestmark = pytest.mark.slow

STARTED_WITHIN_S = 180.0


def container() -> dict[str, list[str]]:
    (deployment,) = [one for one in documents() if one["kind"] == "Deployment"]
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def answer(port: int, host: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_server_of_the_manifest_answers_to_its_own_names(tmp_path: Path) -> None:
    program, *arguments = container()["args"]
    (port,) = _free_ports(1)
    here = {"--host": "127.0.0.1", "--port": str(port), "--artifacts-destination": str(tmp_path / "artifacts")}
    arguments = [f"{name}={here.get(name, value)}" if value else name for name, _, value in
                 (one.partition("=") for one in arguments)]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # As in the manifest the database is named by the environment, and by nothing else.
    environment["MLFLOW_BACKEND_STORE_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *arguments],
            stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + STARTED_WITHIN_S
        while True:
            try:
                answer(port, "mlflow:5000")
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.5)
        assert [answer(port, host) for host in ("mlflow:5000", "mlflow.hfd:5000", "localhost:5000")] == [200] * 3
        assert answer(port, "evil.example.com") == 403
        assert (tmp_path / "mlflow.db").is_file()
    finally:
        import psutil

        family = psutil.Process(server.pid).children(recursive=True)
        for process in [psutil.Process(server.pid), *family]:
            process.kill()
        server.wait()
