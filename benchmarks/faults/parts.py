"""Parts of the fault matrix: an S3 store, an MLflow server, a Ray of simulated nodes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import boto3
import psutil

NODE_CPUS = 2

_AT_WORK = ("ray::Map", "ray::Server", "ray::RayTrainWorker")
"""Names of Ray's worker processes: a task, an actor of a pool, a training worker."""


@dataclass(frozen=True)
class Item:
    """An object of a bucket: its key, its size in bytes and its ETag."""

    key: str
    size: int
    etag: str


class Store:
    """The bucket, accessed without the proxy."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_REGION"],
        )

    @staticmethod
    def _split(uri: str) -> tuple[str, str]:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return bucket, key

    def keys(self, uri: str) -> list[str]:
        return sorted(item.key for item in self.objects(uri))

    def objects(self, uri: str) -> list[Item]:
        """Return every object whose name begins with a URI."""
        bucket, prefix = self._split(uri)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        listed = [item for page in pages for item in page.get("Contents", ())]
        return [Item(item["Key"], int(item["Size"]), item["ETag"].strip('"')) for item in listed]

    def delete(self, uri: str) -> None:
        bucket, key = self._split(uri)
        self._client.delete_object(Bucket=bucket, Key=key)

    def get(self, uri: str) -> bytes:
        bucket, key = self._split(uri)
        data: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def put(self, uri: str, data: bytes) -> None:
        bucket, key = self._split(uri)
        self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def copy_objects(self, source: str, target: str) -> None:
        bucket, prefix = self._split(source)
        for key in self.keys(f"{source}/"):
            self.put(f"{target}/{key.removeprefix(prefix).lstrip('/')}", self.get(f"s3://{bucket}/{key}"))

    def copy(self, reference: str, workspace: str, steps: tuple[str, ...]) -> None:
        """Copy the outputs of ``steps`` from the run without faults."""
        for step in steps:
            self.copy_objects(f"s3://tests/{reference}/{step}", f"{workspace}/{step}")

    def download(self, reference: str, folder: Path, steps: tuple[str, ...]) -> None:
        folder.mkdir(parents=True)
        for step in steps:
            for key in self.keys(f"s3://tests/{reference}/{step}/"):
                path = folder / key.removeprefix(f"{reference}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.get(f"s3://tests/{key}"))

    def _manifests(self, workspace: str, step: str) -> list[dict[str, Any]]:
        if not workspace.startswith("s3://"):
            return [json.loads(path.read_text()) for path in Path(workspace, step).glob("*/manifest.json")]
        bucket, _ = self._split(workspace)
        found = [key for key in self.keys(f"{workspace}/{step}/") if key.endswith("/manifest.json")]
        return [json.loads(self.get(f"s3://{bucket}/{key}")) for key in found]

    def digests(self, workspace: str, step: str) -> list[str]:
        return [manifest["digest"] for manifest in self._manifests(workspace, step)]

    def facts(self, workspace: str, step: str) -> dict[str, Any]:
        (manifest,) = self._manifests(workspace, step)
        facts: dict[str, Any] = manifest["facts"]
        return facts


class Mlflow:
    """A server on the loopback interface that can be stopped and started again. ``port``: None for any free one."""

    def __init__(self, folder: Path, environment: dict[str, str], port: int | None = None) -> None:
        self._folder, self._environment = folder, environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port or 0))
            self.port: int = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db",
            "--artifacts-destination", str(self._folder / "artifacts"),
        ]  # fmt: skip
        log = (self._folder / "mlflow.log").open("ab")
        self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, start_new_session=True)
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError as error:
                if self._process.poll() is not None:
                    raise RuntimeError((self._folder / "mlflow.log").read_text()[-2000:]) from error
                time.sleep(0.2)

    def versions(self, model: str) -> list[str]:
        return registered_versions(self.uri, model)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def registered_versions(uri: str, model: str) -> list[str]:
    """Return the versions of a registered model with their aliases, such as ``1 champion``."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.search_model_versions(f"name='{model}'")
    aliases = client.get_registered_model(model).aliases
    named = {version: alias for alias, version in aliases.items()}
    return sorted(f"{one.version} {named.get(str(one.version), '')}".strip() for one in found)


class Cluster:
    """A Ray head without CPUs and two nodes, simulated on this machine in separate processes."""

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)  # nodes and their workers inherit the environment at their start
        from ray.cluster_utils import Cluster as RayCluster

        self._ray = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._nodes = [self._ray.add_node(num_cpus=NODE_CPUS) for _ in range(2)]
        self.address: str = self._ray.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def kill_worker(self) -> None:
        """Kill one worker process of a step, on any node."""
        at_work = [process for process in _processes() if works(process)]
        if not at_work:
            raise RuntimeError("no worker was at work")
        max(at_work, key=lambda process: sum(process.cpu_times()[:2])).kill()

    def kill_node(self) -> None:
        """Kill the node of a busy worker, with its raylet."""
        raylets = {node.all_processes["raylet"][0].process.pid: node for node in self._nodes}
        for process in _processes():
            if works(process):
                for parent in process.parents():
                    if parent.pid in raylets:
                        self._remove(raylets[parent.pid])
                        return
        self._remove(self._nodes[0])

    def _remove(self, node: Any) -> None:
        self._ray.remove_node(node, allow_graceful=False)
        self._nodes.remove(node)

    def mend(self) -> None:
        while len(self._nodes) < 2:
            self._nodes.append(self._ray.add_node(num_cpus=NODE_CPUS))


def _processes() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def works(process: psutil.Process) -> bool:
    """Return whether a process is a worker of Ray that a step uses."""
    try:
        name = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return name.startswith(_AT_WORK)
