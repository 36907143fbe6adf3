"""Hosts of the fault matrix: their plan, the relay's delays and losses, and a real network of two."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hosts.faults import away, busiest, relayed
from benchmarks.hosts.matrix import chosen, folder_of
from benchmarks.hosts.network import Host, Network, Plan, missing_for_hosts
from benchmarks.hosts.relay import Line
from tests.support.paths import ROOT

PLAN = Plan("hfdt-", ipaddress.IPv4Network("10.79.0.0/28"), ("a", "b"))


def test_each_host_has_its_own_address_and_name() -> None:
    assert [PLAN.gateway, PLAN.address("a"), PLAN.address("b")] == ["10.79.0.1", "10.79.0.2", "10.79.0.3"]
    assert PLAN.hosts_file() == "127.0.0.1 localhost\n10.79.0.2 a\n10.79.0.3 b\n"
    assert {PLAN.namespace("a"), PLAN.device("a"), PLAN.device("a", "r-"), PLAN.bridge} == {
        "hfdt-a", "hfdt-r-a", "hfdt-bridge",
    }  # fmt: skip


def test_a_name_that_no_device_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hfdt-r-postgres1, .* at most 15 characters"):
        Plan("hfdt-", PLAN.addresses, ("a", "postgres1"))
    Plan("hfdt-", PLAN.addresses, ("a", "postgres"))


def device(name: str, address: str) -> dict[str, Any]:
    return {
        "ifname": name,
        "addr_info": [{"family": "inet6", "local": "fe80::1"}, {"family": "inet", "local": address}],
    }


@pytest.mark.parametrize(
    ("devices", "routes", "found"),
    [
        ([device("eth0", "10.79.0.16")], [{"dst": "default", "dev": "eth0"}], None),
        ([device("eth0", "10.79.0.15")], [], "eth0"),
        ([], [{"dst": "10.79.0.16/28", "dev": "vpn"}, {"dst": "10.80.0.1", "dev": "vpn"}], None),
        ([], [{"dst": "10.0.0.0/8", "dev": "vpn"}], "vpn"),
        ([], [{"dst": "10.79.0.5", "dev": "vpn"}], "vpn"),
    ],
)
def test_addresses_in_use_are_seen(
    devices: list[dict[str, Any]], routes: list[dict[str, Any]], found: str | None
) -> None:
    assert PLAN.in_use(devices, routes) == found


def test_frames_come_out_in_order_after_the_delay() -> None:
    line = Line(0.05, 0.0)
    assert line.wait_s(7.0) is None
    line.put(7.0, 4, b"first")
    line.put(7.02, 5, b"second")
    assert line.wait_s(7.03) == pytest.approx(0.02)
    assert line.take(7.049) == []
    assert line.take(7.051) == [(4, b"first")]
    assert line.wait_s(9.0) == 0.0
    assert line.take(9.0) == [(5, b"second")]
    assert line.wait_s(9.0) is None


def test_the_share_of_lost_frames_is_the_stated_one() -> None:
    line, count, loss = Line(0.0, 0.02), 20_000, 0.02
    for _ in range(count):
        line.put(0.0, 1, b"x")
    lost = count - len(line.take(0.0))
    assert abs(lost - loss * count) < 5 * (count * loss * (1 - loss)) ** 0.5  # five deviations of the binomial


def test_the_node_that_worked_most_is_the_busiest() -> None:
    nodes: dict[str, Any] = {"w1": "first", "w2": "second"}
    assert busiest({"w1": 0.5, "w2": 3.0}, nodes) == "second"
    assert busiest({"w1": 0.0, "w2": 0.0}, nodes) == "first"


def test_an_unknown_fault_is_named() -> None:
    assert chosen("b,a", ("a", "b"), "--faults") == ["b", "a"]
    with pytest.raises(SystemExit, match="--faults: got fire, expected some of a, b"):
        chosen("a,fire", ("a", "b"), "--faults")


def test_a_folder_to_keep_is_new_and_seen_by_all_hosts(tmp_path: Path) -> None:
    for name in (tmp_path, Path("/tmp/hfd-hosts-kept")):
        with pytest.raises(SystemExit, match="expected a new folder that is not below /tmp"), folder_of(name):
            pass


def test_a_user_who_is_not_root_is_refused_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing_for_hosts() == "hosts as network namespaces need root: run this as root"


needs_hosts = pytest.mark.skipif(missing_for_hosts() is not None, reason=str(missing_for_hosts()))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that hosts see: not below /tmp, of which each has its own."""
    with tempfile.TemporaryDirectory(prefix="hfd-hosts-test-", dir="/var/tmp") as name:
        yield Path(name)


def left() -> list[str]:
    """Namespaces and devices with the prefix of the tests."""
    text = subprocess.run("ip netns list; ip -o link", shell=True, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if PLAN.prefix in line]


class Echo:
    """A server on a host that returns what it gets, and round trips to it."""

    def __init__(self, host: Host) -> None:
        with host.inside():
            self._listener = socket.create_server((host.address, 5000))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        # A client that closes with an answer on its way to it resets the connection.
        with connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while data := connection.recv(65536):
                connection.sendall(data)


def round_trip_s(connection: socket.socket, size: int) -> float:
    started, got = time.monotonic(), 0
    connection.sendall(bytes(size))
    while got < size:
        got += len(connection.recv(65536))
    return time.monotonic() - started


@needs_hosts
@pytest.mark.integration
def test_a_host_joins_again_with_new_files(folder: Path) -> None:
    with Network(PLAN, folder) as network:
        (network.add("a").files / "log").write_text("first")
        network.remove("a")
        again = network.add("a")
        assert list(again.files.iterdir()) == [] and (folder / "a-1/log").read_text() == "first"
        again.kill()
        again.hold()
        assert again.files == folder / "a-3"


@needs_hosts
@pytest.mark.integration
def test_hosts_have_their_own_network_name_and_files(folder: Path) -> None:
    with Network(PLAN, folder) as network:
        a, b = network.add("a"), network.add("b")
        answer = subprocess.run(
            [*a.enter, "sh", "-c", "hostname; ls /tmp; touch /tmp/x"], capture_output=True, text=True
        )
        assert answer.stdout == "a\n"
        assert [path.name for path in (*a.files.iterdir(), *b.files.iterdir())] == ["x"]
        Echo(b)
        with a.inside():
            connection = socket.create_connection((b.address, 5000), timeout=30)
        with connection:
            assert connection.getsockname()[0] == a.address
            with relayed(network, 50, 0):
                assert round_trip_s(connection, 1) >= 0.1
            b.limit("4mbit")
            # The server sends as much; its bucket holds 32 kB, and as much may be on its way at the end.
            assert round_trip_s(connection, 500_000) >= (500_000 - 64_000) * 8 / 4e6
            b.unlimit()
            with relayed(network, 0, 20):
                round_trip_s(connection, 100_000)  # all of it arrives
            with relayed(network, 0, 100), pytest.raises(TimeoutError):
                connection.settimeout(0.5)
                round_trip_s(connection, 1)
        sleeper = subprocess.Popen([*a.enter, "sleep", "600"])
        a.vanish()
        assert (sleeper.wait(), a.pids()) == (-signal.SIGKILL, [])
        with b.inside(), pytest.raises(OSError, match=r"timed out|No route"):
            socket.create_connection((a.address, 5000), timeout=1)
        a.plug()
        a.hold()
        assert list(a.files.iterdir()) == []
    assert left() == []


@needs_hosts
@pytest.mark.integration
def test_a_killed_run_leaves_what_the_next_start_removes(folder: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from benchmarks.hosts.faults import relayed
        from benchmarks.hosts.network import Network
        from tests.infra.test_hosts import PLAN
        with Network(PLAN, Path(sys.argv[1])) as network:
            network.add("a")
            with relayed(network, 1, 0):
                print("ready", flush=True)
                time.sleep(600)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None and run.stdout.readline() == "ready\n"
    run.kill()
    run.wait()
    assert left() != []
    (folder / "next").mkdir()
    with Network(PLAN, folder / "next") as network:
        pids = network.add("a").pids()
        assert len(pids) == 1
    assert left() == []


@needs_hosts
@pytest.mark.integration
def test_a_cut_off_host_returns_and_an_ended_benchmark_does_not_wait_for_it(folder: Path) -> None:
    with Network(PLAN, folder) as network:
        a, b = network.add("a"), network.add("b")
        with contextlib.ExitStack() as repairs:
            away(b, 0.5, repairs)
            with a.inside(), pytest.raises(OSError, match=r"timed out|No route"):
                socket.create_connection((b.address, 5000), timeout=0.2)
        Echo(b)
        with a.inside():
            socket.create_connection((b.address, 5000), timeout=30).close()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt), contextlib.ExitStack() as repairs:
            away(b, 600.0, repairs)
            raise KeyboardInterrupt
        assert time.monotonic() - started < 600.0
