"""A real Ray head with a job server for tests: on loopback, with its own ports, files and token."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STARTED_WITHIN_S = 180.0
NODE = "127.0.0.2"
"""Also loopback: Ray replaces 127.0.0.1 by the machine's own address."""

TOKEN = "a-token-of-the-tests"


@dataclass(frozen=True)
class SimulatedNodes:
    """Nodes that Ray's autoscaler simulates on this machine: at most ``most`` of ``cpus`` each, none at first."""

    cpus: int
    most: int

    def settings(self, gcs: str) -> dict[str, object]:
        """Return the configuration of the autoscaler of the cluster at ``gcs``."""
        resources = {"CPU": self.cpus, "object_store_memory": 100_000_000}
        return {
            "cluster_name": "simulated",
            "max_workers": self.most,
            "idle_timeout_minutes": 60,
            "provider": {"type": "fake_multinode", "gcs_address": gcs, "disable_node_updaters": True},
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
                "simulated": {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": self.most},
            },
            "auth": {}, "docker": {}, "file_mounts": {}, "initialization_commands": [], "setup_commands": [],
            "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
            "worker_start_ray_commands": [], "cluster_synced_files": [], "file_mounts_sync_continuously": False,
            "upscaling_speed": 1.0,
        }  # fmt: skip


@dataclass
class RayHead:
    """A head node: the ``address`` of its job server, that of the cluster, and the environment that a client needs."""

    address: str
    cluster: str
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def log_of(self, job: str) -> str:
        """Return the log of a job."""
        return str(json.loads(_ask(f"{self.address}/api/jobs/{job}/logs"))["logs"])


@contextmanager
def ray_head(
    num_cpus: int, environment: Mapping[str, str], nodes_on_demand: SimulatedNodes | None = None
) -> Iterator[RayHead]:
    """Run a head with ``environment`` added to its own, and stop it and its children afterwards."""
    with tempfile.TemporaryDirectory(prefix="hfd-head-", dir="/tmp", ignore_cleanup_errors=True) as files:
        gcs, jobs, client, agent, agent_rpc, metrics, env_agent, nodes, objects = _free_ports(9)
        command = [
            str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--node-ip-address={NODE}",
            "--dashboard-host=127.0.0.1", f"--port={gcs}", f"--dashboard-port={jobs}",
            f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_rpc}", f"--metrics-export-port={metrics}",
            f"--runtime-env-agent-port={env_agent}", f"--node-manager-port={nodes}", f"--object-manager-port={objects}",
            f"--num-cpus={num_cpus}", "--object-store-memory=100000000", "--disable-usage-stats",
        ]  # fmt: skip
        if nodes_on_demand is not None:
            settings = nodes_on_demand.settings(f"{NODE}:{gcs}")
            Path(files, "autoscaler.json").write_text(json.dumps(settings), encoding="utf-8")
            command.append(f"--autoscaling-config={files}/autoscaler.json")
            environment = {**environment, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own |= {"RAY_TMPDIR": files, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with Path(files, "head.log").open("wb") as log:
            head = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**own, **token, **environment}, cwd=files,
                start_new_session=True,
            )  # fmt: skip
        address = f"http://127.0.0.1:{jobs}"
        try:
            _await_answer(head, address, Path(files, "head.log"))
            yield RayHead(address, f"{NODE}:{gcs}", token, head)
        finally:
            _end(head)


def _await_answer(head: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while True:
        try:
            _ask(f"{address}/api/jobs/")
            return
        except (urllib.error.URLError, OSError) as error:
            if head.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Ray head did not start: {log.read_text()[-3000:]}") from error
            time.sleep(0.2)


def _ask(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def _end(head: subprocess.Popen[bytes]) -> None:
    """Stop the head and its children; ``ray stop`` would stop every Ray of the machine."""
    import psutil

    try:
        family = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(5)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    for process in family:
        if process.is_running():
            process.kill()
    psutil.wait_procs(family, timeout=20)


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found
