"""Servers and nodes on the hosts: SeaweedFS, MLflow on PostgreSQL, the nodes of a Ray, each on a host of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from benchmarks.faults.parts import registered_versions, works
from benchmarks.hosts.network import Host
from tests.support.mlflow_server import Server
from tests.support.postgres_server import find_postgres, postgres_server
from tests.support.s3_server import S3Server, find_weed, s3_server

HEAD_PORT = 6379
FIRST_PORT = 9_000
PORTS = (
    "dashboard-agent-grpc", "dashboard-agent-listen", "metrics-export", "runtime-env-agent", "node-manager",
    "object-manager", "ray-client-server",
)  # fmt: skip
"""Of each node, on its own address."""

ATTEMPTS = 8
STARTED = "Ray runtime started"
RAY_FILES = "/tmp/ray"
"""Ray's folder on each host, whose ``/tmp`` is its own: short, since paths of sockets have at most 107 bytes."""


class Tracking(Server):
    """An MLflow server on PostgreSQL, with its artifacts on S3."""

    def versions(self, model: str) -> list[str]:
        return registered_versions(self.uri, model)


def missing_services() -> str | None:
    """Return one line on the program that is absent; None if all are present."""
    if find_weed() is None:
        return "the binary weed is missing: install hfd[dev]"
    if find_postgres() is None:
        return "PostgreSQL is missing: run make postgres"
    return None


@contextlib.contextmanager
def storage(host: Host, folder: Path) -> Iterator[S3Server]:
    weed = find_weed()
    assert weed is not None
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        with host.inside():
            server = stack.enter_context(s3_server(weed, folder, host.address))
        yield server


@contextlib.contextmanager
def tracking(host: Host, folder: Path, s3: S3Server) -> Iterator[Tracking]:
    """PostgreSQL listens on the host's loopback interface only."""
    programs = find_postgres()
    assert programs is not None
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        with host.inside():
            database = stack.enter_context(postgres_server(programs, parent=folder.parent))
            backend = database.with_password(database.create_database("mlflow"))
            artifacts = f"s3://{s3.bucket}/mlflow"
            server = Tracking(
                folder, backend=backend, artifacts=artifacts, environment=s3.environment, address=host.address
            )
            stack.callback(server.stop)
            server.start()
        yield server


class RayNode:
    """A node of a Ray on a host: a head without CPUs if ``head`` is None, else a worker of the head at this address."""

    def __init__(self, host: Host, environment: Mapping[str, str], cpus: int, head: str | None = None) -> None:
        self.host, self._environment, self._cpus, self._head = host, environment, cpus, head
        self._log = host.files / "ray-start.log"
        self._starts = 0
        self._start()

    def _start(self) -> None:
        # A head waits up to two minutes before it connects again to a port that did not answer.
        first = FIRST_PORT + len(PORTS) * self._starts
        self._starts += 1
        ports = [f"--{name}-port={first + number}" for number, name in enumerate(PORTS)]
        role = ["--head", f"--port={HEAD_PORT}", "--include-dashboard=false"]
        if self._head is not None:
            role = [f"--address={self._head}"]
        command = [
            *self.host.enter, str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats",
            f"--node-ip-address={self.host.address}", f"--temp-dir={RAY_FILES}", f"--num-cpus={self._cpus}",
            "--object-store-memory=100000000", "--include-log-monitor=false", "--no-monitor", *ports, *role,
        ]  # fmt: skip
        self._log = self.host.files / "ray-start.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_started(self) -> None:
        """Wait for the node, and start it again if it ends: on a busy machine, its raylet gives up its agents."""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._start()
            while self._process.poll() is None:
                if STARTED in self._log.read_text(errors="replace"):
                    return
                time.sleep(0.2)
        raise RuntimeError(f"Ray did not start on {self.host.name}: {self._log.read_text(errors='replace')[-2000:]}")

    def busy_s(self) -> float:
        """Return the processor time of the workers at work on this host, in seconds."""
        total = 0.0
        for pid in self.host.pids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if works(process):
                    total += sum(process.cpu_times()[:2])
        return total

    def replace(self) -> None:
        """End what is left of the node, and start a new one on the host, as an operator replaces a machine."""
        self.host.kill()
        self._process.wait()
        self.host.hold()
        self._start()
        self.wait_until_started()


def living(head: str) -> list[str]:
    """Return the sorted addresses of the nodes that the head of a Ray believes to live."""
    # Ray's own dashboard and autoscaler ask so; the public way would be a driver, or the dashboard's server.
    from ray._raylet import GcsClient
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    nodes = GcsClient(address=head).get_all_node_info(timeout=60).values()
    return sorted(node.node_manager_address for node in nodes if node.state == GcsNodeInfo.ALIVE)


def environment_of(s3: S3Server) -> dict[str, str]:
    """Environment of the nodes and of ``hfd``: no proxies, since all hosts are near, and nothing of this user's."""
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {
        **{name: value for name, value in own.items() if not name.startswith(("RAY_", "AWS_", "MLFLOW_"))},
        **s3.environment,
        "HOME": "/tmp",
        "RAY_raylet_start_wait_time_s": "40",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPATH": str(Path.cwd()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
