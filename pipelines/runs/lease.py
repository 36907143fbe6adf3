"""One run at a time on a workspace: a lease that is renewed while its holder lives.

The lease is an object in the workspace (:mod:`pipelines.runs.compare_and_swap`) that names its holder. Who finds it
free, expired or left by a dead process of this machine takes it in one conditional write; of several that try, one
succeeds. Expiry is the storage's own clock against itself, so clocks of machines may differ; it is also counted by
the holder, from before its last renewal on its own monotonic clock, and so ends sooner there than for anybody else.
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
from dataclasses import asdict, dataclass
from pathlib import Path

from hfd.config import LeaseConfig
from hfd.errors import DataError, HfdError
from hfd.io.storage import Folder
from pipelines.runs.compare_and_swap import CasContents, CasObject, S3CasObject, open_cas_object
from pipelines.tracking.stale import is_alive, process_tags

NAME = ".lease"

CLOCK_S = 2.0
"""S3 tells times in whole seconds: how far an age may be off."""

_TRIES = 20


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. ``machine``: one boot of one machine and its process numbers, for telling the dead."""

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


class Lease:
    """A lease that is held; renewed by a thread of its own until :meth:`stop`."""

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
        """Renew now. Raises :class:`HfdError` where another run holds the workspace, or might by now."""
        with self._lock:
            self._renew()
            if self.lost is not None:
                raise self.lost

    def stop(self) -> None:
        """Stop renewing, and free the workspace if it is still held."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.lost is None:
            with contextlib.suppress(DataError):  # then it expires
                self._cas.swap(b"", self._version)

    def _beat(self) -> None:
        while not self._stopping.wait(self._config.heartbeat_s):
            with self._lock:
                self._renew()
                if self.lost is None:
                    continue
            if self._interrupts and callable(signal.getsignal(signal.SIGINT)):
                # As Ctrl-C: hours of training for nothing, and two that write into one folder, are to end now.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return

    def _renew(self) -> None:
        if self.lost is not None:
            return
        now, failure = time.monotonic(), ""
        try:
            holder = Holder(**{**asdict(self._holder), "beat": self._holder.beat + 1})
            version = self._cas.swap(_encode(holder), self._version)
            if version is not None:
                self._holder, self._version, self._renewed = holder, version, now
                return
            found = _decode(self._cas.read())
            by = f"taken over by {found.text}" if found is not None else "freed by another run"
            self.lost = HfdError(f"workspace: {self._uri} was {by}. This run stops, what it finished is kept")
        except DataError as error:
            failure = str(error)
        if failure and time.monotonic() - self._renewed > self._config.expires_s:
            self.lost = HfdError(
                f"workspace: {self._uri} could not be held ({failure}). This run stops, what it finished is kept"
            )


@contextlib.contextmanager
def lease(workspace: Folder, config: LeaseConfig) -> Iterator[Lease | None]:
    """Hold a workspace while the block runs. Raises :class:`HfdError` with one line where another run does.

    A run that loses its lease is interrupted like with Ctrl-C and ends in the line that says so.
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
    """Take the lease, not yet renewed by itself. Raises :class:`HfdError` where another run holds the workspace."""
    cas = open_cas_object(workspace, NAME)
    holder = _this_process(config)
    for _ in range(_TRIES):
        now = time.monotonic()
        found = cas.read()
        _refuse_if_held(found, workspace, config)
        version = cas.swap(_encode(holder), found.version if found is not None else None)
        if version is not None:
            if isinstance(cas, S3CasObject):
                cas.check()
            return Lease(cas, holder, version, now, config, workspace.uri)
    raise HfdError(f"workspace: {workspace.uri} changes hands all the time. Run the same command again")


def _refuse_if_held(found: CasContents | None, workspace: Folder, config: LeaseConfig) -> None:
    if found is None or not found.data:
        return
    holder = _decode(found)
    expires_s = holder.expires_s if holder is not None else config.expires_s
    left = expires_s + CLOCK_S - found.age_s
    if left <= 0 or (holder is not None and _is_dead(holder)):
        return
    who = holder.text if holder is not None else "what is no lease of this version"
    raise HfdError(
        f"workspace: got {workspace.uri}, held by {who}, expected a free one. Wait for that run to end; "
        f"if it died, its lease ends in {left:.0f} s"
    )


def _this_process(config: LeaseConfig) -> Holder:
    try:
        user = config.name or getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = str(os.getuid())
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    started = float(process_tags()["hfd.pid_started"])
    return Holder(uuid.uuid4().hex, user, socket.gethostname(), os.getpid(), started, _machine(), now, config.expires_s)


def _machine() -> str:
    """Host names may be shared, and containers number their processes separately."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = f"unknown-{uuid.uuid4().hex}"  # then nobody is taken for dead
    return f"{boot} {process_tags()['hfd.pid_space']}"


def _is_dead(holder: Holder) -> bool:
    return holder.machine == _machine() and not is_alive(holder.pid, holder.pid_started)


def _encode(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), sort_keys=True).encode()


def _decode(reading: CasContents | None) -> Holder | None:
    """The holder; None where there is none, or the contents are not to be understood."""
    if reading is None:
        return None
    try:
        found = json.loads(reading.data)
        types = {"pid": int, "beat": int, "pid_started": float, "expires_s": float}
        values = {name: types.get(name, str)(found[name]) for name in Holder.__dataclass_fields__}
        return Holder(**values)
    except (ValueError, KeyError, TypeError):
        return None
