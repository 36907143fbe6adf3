"""A real Ray whose nodes are started on demand: a run waits for them, and lets them go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ray_head import RayHead, ray_head

pytestmark = pytest.mark.slow

HEAD = "ray.head.default"
HEAD_ID = "f" * 51 + "00000"
"""What Ray's provider of imitated nodes takes for the head."""

LAUNCHER_FILE = {
    "cluster_name": "growing",
    "max_workers": 2,
    "idle_timeout_minutes": 0.05,
    "provider": {"type": "fake_multinode"},
    "available_node_types": {
        HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
    "head_node_type": HEAD,
    "file_mounts": {}, "auth": {}, "docker": {}, "cluster_synced_files": [], "initialization_commands": [],
    "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}  # fmt: skip

ATTACH = """
import json, sys, time
import ray
from hfd.config import ClusterConfig
from hfd.errors import ConfigError
from pipelines.cluster import engine
from pipelines.on_ray import _nodes

def nodes():
    return sum(node.get("CPU", 0) > 0 for node in _nodes())

config = ClusterConfig(kind="attach", train_threads=1, **json.loads(sys.argv[1]))
try:
    with engine(config):
        print("before", nodes())
except ConfigError as error:
    print(error)
ray.init(address=config.address, log_to_driver=False, logging_level="ERROR")
while nodes():
    time.sleep(0.5)
print("after", nodes())
"""


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    fake = {"RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID, "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with ray_head(0, fake, autoscaling=LAUNCHER_FILE) as running:
        yield running


def attach(head: RayHead, **settings: object) -> list[str]:
    command = [sys.executable, "-c", ATTACH, json.dumps({"address": head.gcs_address, **settings})]
    environment = {**os.environ, **head.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_run_waits_for_its_nodes_and_lets_them_go(head: RayHead) -> None:
    assert attach(head, train_workers=2, node_wait_s=600) == ["before 2", "after 0"]


def test_what_the_cluster_can_never_have_is_refused_after_the_wait(head: RayHead) -> None:
    said = attach(head, train_workers=3, node_wait_s=5)
    assert said[0].startswith("cluster.train_workers: got 3 x (1 CPU and 0 GPU), expected what fits the nodes (")
    assert said[1:] == ["after 0"]


def test_without_a_wait_a_cluster_is_taken_as_it_is(head: RayHead) -> None:
    (line, _) = attach(head, train_workers=1)
    assert line.startswith("cluster.train_workers: got 1 x (1 CPU and 0 GPU)")
