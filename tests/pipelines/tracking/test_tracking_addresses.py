"""Addresses of tracking: accepted and refused ones, unavailable servers, and messages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hfd.errors import ConfigError, HfdError
from pipelines.tracking import (
    TrackingSettings,
    check_uri,
    flatten,
    link,
    parent_run,
    redact,
)
from tests.support.mlflow_server import free_port

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(link, "RETRY_SECONDS", (0.01,))


def test_importing_the_module_imports_no_mlflow_and_off_mode_needs_none() -> None:
    code = """
import sys, numpy as np
from pipelines.tracking import TrackingSettings, parent_run
with parent_run(TrackingSettings(None, "x"), name="n", params={"a": 1}, tags={"b": "c"}) as parent:
    parent.log_tags({"t": "1"})
    with parent.child("step", {"p": 1}) as step:
        step.log_metrics(1, {"loss": 1.0})
        step.log_params({"q": 2})
        step.log_artifact(b"x", name="x.txt")
        step.log_image("im", np.zeros((4, 4, 3), np.uint8), 1)
        with step.worker_handle().open() as worker:
            worker.log_metrics(1, {"loss": 1.0})
        assert step.flush() and step.run_id == "" and worker.lost == 0
assert not [name for name in sys.modules if name.split(".")[0] == "mlflow"]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unreachable_or_silent_server_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_CONTACT_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for port in (free_port(), mute.getsockname()[1]):
            settings = TrackingSettings(f"http://127.0.0.1:{port}", "e")
            with pytest.raises(HfdError) as caught, parent_run(settings, name="n"):
                raise AssertionError("no run can have started")
            message = str(caught.value)
            assert message.startswith(f"tracking.uri: got http://127.0.0.1:{port}, expected a tracking server")
            assert "\n" not in message
    blocked = tmp_path / "file"
    blocked.write_text("")
    settings = TrackingSettings(f"sqlite:///{blocked}/mlflow.db", "e")
    with pytest.raises(HfdError, match=r"^tracking\.uri: got sqlite"), parent_run(settings, name="n"):
        raise AssertionError("no run can have started")


@pytest.mark.parametrize(
    "uri",
    [
        "https://me:hunter2@host/path",
        "http://hunter2@host",
        "postgresql://me:hunter2@host/db",
        "postgresql://me@host/db?password=hunter2",
        "sqlite:///relative/hunter2.db",
        "sqlite://",
        "file:///runs",
        "mlruns",
        "http://[bad",
    ],
)
def test_unusable_addresses_are_refused_without_repeating_a_secret(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^tracking\.uri: got ") as caught:
        check_uri(uri)
    assert "hunter2" not in str(caught.value) or "relative" in uri


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////a/b.db",
        "http://host:5000",
        "https://h/p",
        "databricks",
        "databricks://profile",
        "postgresql://me@host/db",
        "mysql+pymysql://host/db",
    ],
)
def test_usable_addresses_pass(uri: str) -> None:
    check_uri(uri)


def test_flatten_and_redact() -> None:
    assert flatten({"a": {"b": {"c": True}, "d": {}}, "e": [1, "x"], "f": "text"}) == {
        "a.b.c": "true",
        "a.d": "{}",
        "e": '[1, "x"]',
        "f": "text",
    }
    assert redact("s3://bucket/a@b and http://h:1/x?step=3") == "s3://bucket/a@b and http://h:1/x?step=3"


def test_the_terminal_stays_quiet(tmp_path: Path) -> None:
    code = """
import sys
from pipelines.tracking import TrackingSettings, parent_run
with parent_run(TrackingSettings(*sys.argv[1:]), name="n", params={"a": 1}) as parent:
    with parent.child("step") as step:
        step.log_metrics(1, {"loss": 1.0})
import os
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
"""
    plain = {key: value for key, value in os.environ.items() if key not in ("PYTEST_CURRENT_TEST", "CI")}
    arguments = [f"sqlite:///{tmp_path}/new/mlflow.db", "fresh", tmp_path.as_uri()]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=Path.cwd(), env=plain, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
