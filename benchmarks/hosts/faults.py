"""Faults of the network between hosts: injected into a step that is working, and repaired after it has ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from benchmarks.hosts.network import Host, Network, ip
from benchmarks.hosts.services import RayNode, living

Fault = Literal["latency", "loss", "bandwidth", "partition-worker", "partition-s3", "vanish", "join"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

DELAY_MS, LOSS_PERCENT, RATE = 50, 2, "4mbit"
"""Of what each host sends: a round trip between two hosts takes twice the delay."""

WORKER_AWAY_S, S3_AWAY_S = 60.0, 20.0
KNOWN_WITHIN_S = 300.0
"""Longer than Ray takes to give up a node that does not answer."""

WORKERS, JOINING = ("w1", "w2", "w3"), "w4"


@dataclass
class Cluster:
    """The nodes of the Ray by host, its address, and the function that starts a node on a host that joins."""

    network: Network
    nodes: dict[str, RayNode]
    address: str
    start: Callable[[Host], RayNode]
    broken: set[str] = field(default_factory=set)

    def busiest(self) -> RayNode:
        """Return the worker node whose processes have worked most; any one if a step uses none."""
        return busiest({name: node.busy_s() for name, node in self.nodes.items() if name in WORKERS}, self.nodes)

    def mend(self) -> None:
        """Replace nodes whose host was away, and wait until Ray knows the present nodes only."""
        for name in sorted(self.broken):
            self.nodes[name].replace()
        self.broken.clear()
        deadline = time.monotonic() + KNOWN_WITHIN_S
        expected = sorted(node.host.address for node in self.nodes.values())
        while (found := living(self.address)) != expected:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nodes of the Ray: got {', '.join(found)}, expected {', '.join(expected)}")
            time.sleep(1.0)


def busiest(busy_s: Mapping[str, float], nodes: Mapping[str, RayNode]) -> RayNode:
    return nodes[max(busy_s, key=lambda name: busy_s[name])]


@contextlib.contextmanager
def breaking(cluster: Cluster, fault: Fault) -> Iterator[Callable[[], None]]:
    """Yield the function that injects a fault; repair it when the block ends, however it ends."""
    with contextlib.ExitStack() as repairs:
        repairs.push(lambda kind, *_: cluster.mend() if kind is None else None)
        hosts = cluster.network.hosts

        def partition_worker() -> None:
            node = cluster.busiest()
            cluster.broken.add(node.host.name)
            away(node.host, WORKER_AWAY_S, repairs)

        def vanish() -> None:
            node = cluster.busiest()
            cluster.broken.add(node.host.name)
            repairs.callback(node.host.plug)
            node.host.vanish()

        def limit() -> None:
            for host in hosts.values():
                host.limit(RATE)
                repairs.callback(host.unlimit)

        def join() -> None:
            cluster.start(cluster.network.add(JOINING))
            repairs.callback(cluster.network.remove, JOINING)

        acts: dict[Fault, Callable[[], None]] = {
            "latency": lambda: repairs.enter_context(relayed(cluster.network, DELAY_MS, 0)),
            "loss": lambda: repairs.enter_context(relayed(cluster.network, 0, LOSS_PERCENT)),
            "bandwidth": limit,
            "partition-worker": partition_worker,
            "partition-s3": lambda: away(hosts["s3"], S3_AWAY_S, repairs),
            "vanish": vanish,
            "join": join,
        }
        yield acts[fault]


def away(host: Host, seconds: float, repairs: contextlib.ExitStack) -> None:
    """Unplug a host now and plug it in again after ``seconds``, before the repairs that were there already."""
    host.unplug()
    timer = threading.Timer(seconds, host.plug)
    timer.start()

    def end(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # the benchmark itself ends: nobody waits for the host
            timer.cancel()
        timer.join()

    repairs.push(end)


@contextlib.contextmanager
def relayed(network: Network, delay_ms: float, loss_percent: float) -> Iterator[None]:
    """Delay or lose the frames that each present host sends, by ``relay.py`` between its cable and the bridge."""
    plan, names = network.plan, list(network.hosts)
    pairs = [f"{plan.device(name, 'a-')}:{plan.device(name, 'b-')}" for name in names]
    command = [sys.executable, "-m", "benchmarks.hosts.relay", str(delay_ms), str(loss_percent), *pairs]
    relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert relay.stdin is not None and relay.stdout is not None
    try:
        if relay.stdout.readline() != b"ready\n":
            raise RuntimeError("the relay did not start")
        for name in names:
            inner, a, b = (plan.device(name, kind) for kind in ("r-", "a-", "b-"))
            ip("link", "add", inner, "type", "bridge")
            ip("link", "set", inner, "up")
            ip("link", "set", b, "master", plan.bridge, "up")
            ip("link", "set", a, "master", inner, "up")
            ip("link", "set", plan.device(name), "master", inner)
        yield
    finally:
        for name in names:
            ip("link", "set", plan.device(name), "master", plan.bridge)
        relay.stdin.close()
        relay.wait()
        for name in names:
            subprocess.run(["ip", "link", "del", plan.device(name, "r-")], check=False, capture_output=True)
