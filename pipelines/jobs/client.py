"""Start, find, follow, list and stop jobs on a Ray cluster, with Ray Jobs."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfd.errors import HfdError
from pipelines.jobs.answers import TakenError, UnreachableError, answers, brief
from pipelines.jobs.plan import Job
from pipelines.tracking.redaction import redact

CONNECT_S = 30.0
ANSWER_S = 60.0
"""Limit for one response of the server, including an upload."""

RETRY_S = 2.0
SILENCE_S = 10.0
"""Time without a log line after which the server and the job are checked."""

MAX_LINE_CHARS = 20_000
"""Longest printed part of a line that the log's stream left out."""

STOPPED = 130
NO_CODE = 1
"""Exit code for a job that failed without one: it could not be started, or its node died."""

LOST = 75
"""Exit code if the server stays unavailable and the job's state is unknown (EX_TEMPFAIL: try again)."""

ALIVE = frozenset({"PENDING", "RUNNING"})

STOP_GENTLY = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
"""Exit code of a stopped job, as after Ctrl-C."""


_CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray that report every request, silenced because this module prints its own messages."""


@dataclass(frozen=True)
class Listed:
    """A line of ``hfd jobs``. ``started_s`` and ``ended_s`` count from the epoch; None: not yet."""

    name: str
    status: str
    command: str
    started_s: float | None
    ended_s: float | None
    exit_code: int | None
    message: str


@dataclass(frozen=True)
class Server:
    """A connection to a job server that has answered."""

    address: str
    client: Any


@dataclass
class LogPosition:
    """Number of characters of a job's log shown so far: a lost connection restarts the log from its beginning."""

    num_chars: int = field(default=0)

    def unseen(self, start: int, text: str) -> str:
        """Return the part of ``text`` (at ``start`` in the log) that is not shown yet, and count it as shown."""
        fresh = text[max(0, self.num_chars - start) :]
        self.num_chars = max(self.num_chars, start + len(text))
        return fresh


def connect(address: str) -> Server:
    """Connect to a job server. Raises :class:`UnreachableError`; :class:`HfdError` if it needs another token."""
    import requests

    os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray's environment variable takes precedence over an argument
    with answers(address):
        # Ray's own client has no time limit, and would wait for ever for a host that drops packets.
        requests.get(f"{address}/api/version", timeout=CONNECT_S)
        from ray.job_submission import JobSubmissionClient

        for logger in _CHATTY:
            logging.getLogger(logger).setLevel(logging.ERROR)
        client: Any = JobSubmissionClient(address)
    client._do_request = functools.partial(client._do_request, timeout=ANSWER_S)
    return Server(address, client)


def list_jobs(server: Server) -> list[Listed]:
    """Return every submitted job that the server knows, the oldest first."""
    with answers(server.address):
        found = server.client.list_jobs()
    jobs = [_listed(details) for details in found if details.submission_id is not None]
    return sorted(jobs, key=lambda job: (job.started_s or 0.0, job.name))


def find_job(server: Server, name: str) -> Listed:
    """Return the job of a name. Raises :class:`HfdError` for an unknown one."""
    with answers(server.address, name):
        return _listed(server.client.get_job_info(name))


def start(server: Server, job: Job) -> tuple[str, bool]:
    """Start a job unless it is running already; return its id, and True if it was started now.

    A finished job of the same name stays; the new one gets the next free number.
    """
    while True:
        known = {listed.name: listed.status for listed in list_jobs(server)}
        name, number = job.name, 1
        while known.get(name, "PENDING") not in ALIVE:
            number += 1
            name = f"{job.name}-{number}"
        if name in known:
            return name, False
        try:
            _submit(server, job, name)
        except TakenError:
            continue  # another client submitted the same job at the same moment
        return name, True


def follow(
    server: Server, name: str, show: Callable[[str], None], say: Callable[[str], None], patience_s: float
) -> int:
    """Show a job's log until it ends; return its exit code, :data:`LOST` after ``patience_s`` without the server."""
    import asyncio

    position, lost_at = LogPosition(), None
    while True:
        try:
            job = find_job(server, name)
            if lost_at is not None:
                say(f"{server.address} answers again")
                lost_at = None
            # A stream ends for many reasons: check the job and the server again.
            with contextlib.suppress(UnreachableError):
                asyncio.run(_tail(server, name, position, show))
            job = _settled(server, name)
            _show_rest(server, job, position, show, say)
            if job.status not in ALIVE:
                return _exit_code(job, say)
        except UnreachableError as error:
            if lost_at is None:
                lost_at = time.monotonic()
                say(f"{error}; the job continues. Retrying for {patience_s:.0f} s")
            elif time.monotonic() - lost_at > patience_s:
                say(f"{server.address}: no answer for {patience_s:.0f} s. The same hfd submit finds {name} again")
                return LOST
        time.sleep(RETRY_S)


def stop(server: Server, name: str, patience_s: float = 120.0) -> Listed:
    """Stop a job as Ctrl-C would, and wait for its end. Raises :class:`HfdError` if it does not end in time."""
    job = find_job(server, name)
    if job.status not in ALIVE:
        return job
    with answers(server.address, name):
        server.client.stop_job(name)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        job = find_job(server, name)
        if job.status not in ALIVE:
            return job
        time.sleep(0.5)
    raise HfdError(f"{name}: still {job.status} after {patience_s:.0f} s, expected it to stop. Check it with hfd jobs")


def _submit(server: Server, job: Job, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="hfd-submit-") as folder:
        environment: dict[str, Any] = {"env_vars": {**STOP_GENTLY, **job.env}}
        for sent in job.upload:
            target = Path(folder, sent.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(sent.read())
        if job.upload:
            environment["working_dir"] = folder
        with answers(server.address, name):
            server.client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=name,
                runtime_env=environment,
                metadata={"command": job.command},
            )


async def _tail(server: Server, name: str, position: LogPosition, show: Callable[[str], None]) -> None:
    """Show the log from ``position`` on, until the job or the connection ends."""
    import asyncio

    import aiohttp

    lines, start = server.client.tail_job_logs(name), 0
    waiting: asyncio.Task[str] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(lines))
            done, _ = await asyncio.wait({waiting}, timeout=SILENCE_S)
            if not done:
                if (await asyncio.to_thread(find_job, server, name)).status not in ALIVE:
                    return
                continue
            text, waiting = waiting.result(), None
            show(position.unseen(start, text))
            start += len(text)
    except StopAsyncIteration:
        return
    except (aiohttp.ClientError, OSError, RuntimeError) as error:
        raise UnreachableError(f"{server.address}: lost the connection ({brief(error)})") from error
    finally:
        if waiting is not None:
            waiting.cancel()


def _show_rest(
    server: Server, job: Listed, position: LogPosition, show: Callable[[str], None], say: Callable[[str], None]
) -> None:
    """Show the rest of a job's log: its stream ends early after silence, a lost connection or a long line.

    A line longer than :data:`MAX_LINE_CHARS` is cut, with a note. If the server has no log of a finished job, because
    its node is gone, print a message.
    """
    for _ in range(3):
        try:
            with answers(server.address, job.name):
                whole = str(server.client.get_job_logs(job.name))
            break
        except UnreachableError as error:
            find_job(server, job.name)  # raises if the server is unavailable
            failure = error
            time.sleep(RETRY_S)
    else:
        if job.status not in ALIVE:
            say(f"the end of the log of {job.name} cannot be read ({brief(failure)})")
        return
    for line in position.unseen(0, whole).splitlines(keepends=True):
        show(line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]}... (cut: {len(line)} characters)\n")


def _settled(server: Server, name: str) -> Listed:
    """Return a job's final status, which the server updates a moment after the end of the log."""
    for _ in range(20):
        job = find_job(server, name)
        if job.status not in ALIVE:
            break
        time.sleep(0.25)
    return job


def _exit_code(job: Listed, say: Callable[[str], None]) -> int:
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        say(f"{job.name} was stopped. Submit the same command again to continue")
        return STOPPED
    if job.exit_code is None:
        say(f"{job.name} failed: {brief(job.message)}")
        return NO_CODE
    # a negative one is a signal, as a shell's 128 and more
    return job.exit_code if job.exit_code > 0 else 128 - job.exit_code


def _listed(details: Any) -> Listed:
    metadata: Mapping[str, str] = details.metadata or {}
    times = [stamp / 1000.0 if stamp else None for stamp in (details.start_time, details.end_time)]
    command = redact(metadata.get("command", details.entrypoint))
    code, message = details.driver_exit_code, details.message or ""
    return Listed(details.submission_id, str(details.status.value), command, times[0], times[1], code, message)
