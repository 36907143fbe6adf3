"""Settings of Ray that the process of `hfd` needs: Ray itself says what it has read."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

GCS_GIVES_UP_S = 5 * (10 + 3)
"""Time after which the head declares a silent node dead: five checks of 10 s each with pauses of 3 s."""


def read_by_ray(code: str, **environment: str) -> dict[str, float]:
    """Return the seconds that Ray reads after ``code`` in a process of its own."""
    ask = """
from ray._raylet import Config
import json
found = {"tested": Config.grpc_client_keepalive_time_ms(), "given_up": Config.grpc_client_keepalive_timeout_ms()}
print(json.dumps({name: value / 1000 for name, value in found.items()}))
"""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    answer = subprocess.run(
        [sys.executable, "-c", code + ask],
        env={**own, **environment, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(answer.stdout)
    return found


SET = "from pipelines.engine.ray_session import set_environment\nset_environment()\n"


def test_a_task_on_a_host_that_vanished_waits_little_longer_than_the_head() -> None:
    found = read_by_ray(SET)
    # Ray's servers close connections that are tested more than once a minute.
    assert found["tested"] > 60
    assert found["tested"] + found["given_up"] <= 2 * GCS_GIVES_UP_S
    default = read_by_ray("")
    assert default["tested"] + default["given_up"] == 420


def test_a_user_s_own_setting_holds() -> None:
    assert read_by_ray(SET, RAY_grpc_client_keepalive_time_ms="600000")["tested"] == 600
