"""A network of hosts on this machine: one namespace each, joined by a bridge.

A host has its own address, name, loopback interface and ``/tmp``; it shares the processor, the other folders and the
list of processes. Everything is named by one prefix, by which a later start removes what a killed run has left. Needs
root and iproute2. Sources: ip-netns(8), veth(4), network_namespaces(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_CLONE_NEWNET = 0x40000000
_HOLD = (
    'echo "$1" >/proc/sys/kernel/hostname && mount --bind "$2" /etc/hosts && mount --bind "$3" /tmp'
    " && echo ready && exec sleep infinity"
)
"""First program of a host: it keeps the name, the list of hosts and the folder for temporary files mounted."""


@dataclass(frozen=True)
class Plan:
    """Names and addresses of a network: ``prefix`` has at most five characters, since a device's name has 15."""

    prefix: str
    addresses: ipaddress.IPv4Network
    hosts: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [self.device(host, kind) for host in self.hosts for kind in ("", "r-", "a-", "b-")]
        if long := [name for name in names if len(name) > 15]:
            raise ValueError(f"device names: got {', '.join(long)}, expected at most 15 characters")

    @property
    def bridge(self) -> str:
        return f"{self.prefix}bridge"

    @property
    def gateway(self) -> str:
        """The bridge's own address, that of the benchmark itself."""
        return str(self.addresses[1])

    def address(self, host: str) -> str:
        return str(self.addresses[2 + self.hosts.index(host)])

    def namespace(self, host: str) -> str:
        return f"{self.prefix}{host}"

    def device(self, host: str, kind: str = "") -> str:
        """The end of a host's cable at the bridge; ``r-``, ``a-``, ``b-``: the relay's bridge and its two ends."""
        return f"{self.prefix}{kind}{host}"

    def hosts_file(self) -> str:
        """Text of ``/etc/hosts``."""
        lines = [f"{self.address(host)} {host}" for host in self.hosts]
        return "\n".join(["127.0.0.1 localhost", *lines, ""])

    def in_use(self, found: Sequence[dict[str, Any]], routes: Sequence[dict[str, Any]]) -> str | None:
        """Return a device that has an address or a route in this range.

        ``found`` and ``routes``: the answers of ``ip -json address`` and ``ip -json route``.
        """
        for device in found:
            for one in device.get("addr_info", ()):
                if one["family"] == "inet" and ipaddress.ip_address(one["local"]) in self.addresses:
                    return str(device["ifname"])
        for route in routes:
            target = route["dst"]
            if target != "default" and self.addresses.overlaps(ipaddress.ip_network(target, strict=False)):
                return str(route.get("dev", target))
        return None


class Network:
    """The bridge and its hosts; leaving it ends every process in them. ``folder``: files of the hosts."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.hosts: dict[str, Host] = {}
        self._starts = Counter[str]()

    def __enter__(self) -> Self:
        remove_leftovers(self.plan)
        device = self.plan.in_use(_json("address"), _json("route"))
        if device is not None:
            raise SystemExit(
                f"the addresses {self.plan.addresses} are in use at {device}: choose others by --addresses"
            )
        (self.folder / "hosts").write_text(self.plan.hosts_file(), encoding="utf-8")
        ip("link", "add", self.plan.bridge, "type", "bridge")
        ip("address", "add", f"{self.plan.gateway}/{self.plan.addresses.prefixlen}", "dev", self.plan.bridge)
        ip("link", "set", self.plan.bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        remove_leftovers(self.plan)

    def add(self, name: str) -> Host:
        self.hosts[name] = Host(self, name)
        return self.hosts[name]

    def new_files(self, name: str) -> Path:
        """Make a folder for one more start of a host; those of earlier starts stay, also of a host that was removed."""
        self._starts[name] += 1
        files = self.folder / f"{name}-{self._starts[name]}"
        files.mkdir()
        files.chmod(0o1777)
        return files

    def remove(self, name: str) -> None:
        self.hosts.pop(name)
        _remove_namespace(self.plan.namespace(name))


class Host:
    """A host: its programs start with ``enter`` before them, or in a block ``with host.inside()``."""

    def __init__(self, network: Network, name: str) -> None:
        self._network, self.name = network, name
        plan = network.plan
        self.address, self.namespace, self.device = plan.address(name), plan.namespace(name), plan.device(name)
        ip("netns", "add", self.namespace)
        ip("link", "add", self.device, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("link", "set", self.device, "master", plan.bridge, "up")
        for command in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{self.address}/{plan.addresses.prefixlen}", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", plan.gateway),
        ):
            ip("-netns", self.namespace, *command)
        self.hold()

    def hold(self) -> None:
        """Start the host's first program, with an empty ``/tmp``."""
        self.files = self._network.new_files(self.name)
        command = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "sh", "-c", _HOLD, "sh"]
        arguments = [self.name, str(self._network.folder / "hosts"), str(self.files)]
        holder = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"the host {self.name} did not start")
        self._holder = holder

    @property
    def enter(self) -> tuple[str, ...]:
        """The beginning of a command line that runs in this host."""
        return ("nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--uts", "--")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Give this thread, and the processes that it starts, the host's network; files stay those of the machine."""
        there_path = Path("/run/netns", self.namespace)
        with Path("/proc/thread-self/ns/net").open("rb") as own, there_path.open("rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def unplug(self) -> None:
        """Take the cable out: frames in both directions are lost without an error."""
        ip("link", "set", self.device, "down")

    def plug(self) -> None:
        ip("link", "set", self.device, "up")

    def vanish(self) -> None:
        """Lose the cable and all processes at once: no peer sees a connection end."""
        self.unplug()
        self.kill()

    def kill(self) -> None:
        _kill_all(self.namespace)
        self._holder.wait()

    def pids(self) -> list[int]:
        return _pids(self.namespace)

    def limit(self, rate: str) -> None:
        """Cap what the host sends, such as ``4mbit`` per second: a queue of 400 ms, beyond it frames are lost."""
        shape = ("tbf", "rate", rate, "burst", "32kb", "latency", "400ms")
        subprocess.run(["tc", "-netns", self.namespace, "qdisc", "add", "dev", "eth0", "root", *shape], check=True)

    def unlimit(self) -> None:
        subprocess.run(["tc", "-netns", self.namespace, "qdisc", "del", "dev", "eth0", "root"], check=True)


def missing_for_hosts() -> str | None:
    """Return one line on what this machine lacks; None if it can have such hosts."""
    if os.geteuid() != 0:
        return "hosts as network namespaces need root: run this as root"
    programs = ("ip", "tc", "nsenter", "unshare")
    if absent := [name for name in programs if shutil.which(name) is None]:
        return f"missing programs: {', '.join(absent)}. Install iproute2 and util-linux"
    if not Path("/dev/net/tun").exists():
        return "this kernel has no TAP devices (/dev/net/tun), which delay and lose frames"
    return None


def remove_leftovers(plan: Plan) -> None:
    """End the processes of all namespaces of the plan's prefix, and remove these and the devices."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        if line.startswith(plan.prefix):
            _remove_namespace(line.split()[0])
    for device in _json("link"):
        if device["ifname"].startswith(plan.prefix):
            # The other end of a pair may have gone with its namespace meanwhile.
            subprocess.run(["ip", "link", "del", device["ifname"]], check=False, capture_output=True)


def ip(*arguments: str) -> None:
    ended = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {ended.stderr.strip()}")


def _json(kind: str) -> list[dict[str, Any]]:
    answer = subprocess.run(["ip", "-json", kind, "show"], check=True, capture_output=True, text=True).stdout
    found: list[dict[str, Any]] = json.loads(answer or "[]")
    return found


def _pids(namespace: str) -> list[int]:
    answer = subprocess.run(["ip", "netns", "pids", namespace], check=True, capture_output=True, text=True).stdout
    return [int(word) for word in answer.split()]


def _kill_all(namespace: str) -> None:
    while found := _pids(namespace):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _remove_namespace(namespace: str) -> None:
    _kill_all(namespace)
    ip("netns", "del", namespace)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
