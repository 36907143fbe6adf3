"""A lease on a workspace, so that one run at a time works on it.

The lease is an object in the workspace (:mod:`pipelines.runs.compare_and_swap`) that names its holder. A run takes it
in one conditional write if it is free, expired, or held by a dead process of this machine; of several runs, one
succeeds. Its age is measured by the storage's clock only, so clocks of machines may differ. The holder also measures
it on its own monotonic clock, from before the last renewal, so that it gives up before another run can take over.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hfd.config import LeaseConfig
from hfd.errors import DataError, HfdError
from hfd.io.storage import Folder
from pipelines.runs.compare_and_swap import CasContents, CasObject, S3CasObject, open_cas_object
from pipelines.tracking.stale import is_alive, process_tags

NAME = ".lease"

CLOCK_S = 2.0
"""Error of an age in seconds: S3 reports whole seconds."""

_TRIES = 20


@dataclass(frozen=True)
class Holder:
    """The holder of a lease. ``machine`` identifies one boot and one space of process numbers."""

    token: str
    name: str
    host: str
    pid: int
    pid_started: float
    machine: str
    started: str
    expires_s: float
    beat: int = 0

    @property
    def text(self) -> str:
        return f"{self.name} on {self.host} (process {self.pid}) since {self.started}"

    @property
    def is_dead(self) -> bool:
        """Report whether the holder was a process of this machine that has ended."""
        return self.machine == _machine() and not is_alive(self.pid, self.pid_started)

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @staticmethod
    def decode(data: bytes) -> Holder | None:
        """Return the holder; None where the data is not that of a holder."""
        try:
            found = json.loads(data)
            types = {"pid": int, "beat": int, "pid_started": float, "expires_s": float}
            return Holder(**{name: types.get(name, str)(found[name]) for name in Holder.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            return None

    @staticmethod
    def of_this_process(config: LeaseConfig) -> Holder:
        try:
            user = config.name or getpass.getuser()
        except (KeyError, OSError):  # a container's user id without a name
            user = str(os.getuid())
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        started = float(process_tags()["hfd.pid_started"])
        return Holder(
            uuid.uuid4().hex, user, socket.gethostname(), os.getpid(), started, _machine(), now, config.expires_s
        )


class Lease:
    """A lease that this process holds; a thread renews it until :meth:`stop`."""

    def __init__(
        self, cas: CasObject, holder: Holder, version: str, renewed: float, config: LeaseConfig, uri: str
    ) -> None:
        self._cas, self._holder, self._version, self._renewed = cas, holder, version, renewed
        self._config, self._uri = config, uri
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._interrupts = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._beat, name="hfd-lease", daemon=True)
        self.lost: HfdError | None = None

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Renew now. Raises :class:`HfdError` where another run holds the workspace, or may hold it by now."""
        with self._lock:
            self._renew()
            if self.lost is not None:
                raise self.lost

    def stop(self) -> None:
        """Stop renewing, and release the workspace if this process still holds it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.lost is None:
            with contextlib.suppress(DataError):  # if this fails, the lease expires
                self._cas.swap(b"", self._version)

    def _beat(self) -> None:
        while not self._stopping.wait(self._config.heartbeat_s):
            with self._lock:
                self._renew()
                if self.lost is None:
                    continue
            if self._interrupts and callable(signal.getsignal(signal.SIGINT)):
                # Interrupt the run now: two runs must not write into one folder.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return

    def _renew(self) -> None:
        if self.lost is not None:
            return
        now, failure = time.monotonic(), ""
        try:
            holder = replace(self._holder, beat=self._holder.beat + 1)
            version = self._cas.swap(holder.encode(), self._version)
            if version is not None:
                self._holder, self._version, self._renewed = holder, version, now
                return
            contents = self._cas.read()
            found = Holder.decode(contents.data) if contents is not None else None
            by = f"taken over by {found.text}" if found is not None else "freed by another run"
            self.lost = HfdError(f"workspace: {self._uri} was {by}. This run stops, what it finished is kept")
        except DataError as error:
            failure = str(error)
        if failure and time.monotonic() - self._renewed > self._config.expires_s:
            self.lost = HfdError(
                f"workspace: {self._uri} could not be renewed ({failure}). This run stops, what it finished is kept"
            )


@contextlib.contextmanager
def lease(workspace: Folder, config: LeaseConfig) -> Iterator[Lease | None]:
    """Hold a workspace while the block runs. Raises :class:`HfdError` with one line where another run does.

    A run that loses its lease is interrupted as by Ctrl-C, and raises the reason.
    """
    if not config.use:
        yield None
        return
    held = acquire(workspace, config)
    held.start()
    try:
        try:
            yield held
        finally:
            held.stop()
    except KeyboardInterrupt:
        if held.lost is None:
            raise
        raise held.lost from None


def acquire(workspace: Folder, config: LeaseConfig) -> Lease:
    """Take the lease without starting its renewal. Raises :class:`HfdError` where another run holds the workspace."""
    cas = open_cas_object(workspace, NAME)
    holder = Holder.of_this_process(config)
    for _ in range(_TRIES):
        now = time.monotonic()
        found = cas.read()
        _refuse_if_held(found, workspace, config)
        version = cas.swap(holder.encode(), found.version if found is not None else None)
        if version is not None:
            if isinstance(cas, S3CasObject):
                cas.check()
            return Lease(cas, holder, version, now, config, workspace.uri)
    raise HfdError(f"workspace: {workspace.uri} keeps changing its holder. Run the same command again")


def _refuse_if_held(found: CasContents | None, workspace: Folder, config: LeaseConfig) -> None:
    if found is None or not found.data:
        return
    holder = Holder.decode(found.data)
    expires_s = holder.expires_s if holder is not None else config.expires_s
    left = expires_s + CLOCK_S - found.age_s
    if left <= 0 or (holder is not None and holder.is_dead):
        return
    who = holder.text if holder is not None else "a lease of another version"
    raise HfdError(
        f"workspace: got {workspace.uri}, held by {who}, expected a free one. Wait for that run to end; "
        f"if it died, its lease ends in {left:.0f} s"
    )


def _machine() -> str:
    """Identify boot and process numbers: machines may share a host name, and containers number processes separately."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = f"unknown-{uuid.uuid4().hex}"  # then no process counts as dead
    return f"{boot} {process_tags()['hfd.pid_space']}"
