"""Output and exit codes of ``hfd submit``, ``hfd jobs`` and ``hfd stop``."""

from __future__ import annotations

import os
import sys
import time
import urllib.parse

from hfd.errors import HfdError
from pipelines.jobs.client import STOPPED, Listed, connect, follow, list_jobs, start, stop
from pipelines.jobs.plan import Job
from pipelines.tracking.redaction import redact

DEFAULT_ADDRESS = "http://127.0.0.1:8265"


def describe(job: Job) -> str:
    """Return the output of ``hfd submit --dry-run``."""
    lines = [f"id:          {job.name}", f"entrypoint:  {job.entrypoint}"]
    lines += [f"environment: {name}" for name in sorted(job.env)]
    lines.append(f"upload:      {len(job.upload)} files, {job.upload_bytes / 1024**2:.1f} MiB")
    return "\n".join(lines)


def run(job: Job, address: str | None, *, detach: bool, patience_s: float) -> int:
    """Start a job, or find it running, and follow it; return the exit code. Ctrl-C leaves the job running."""
    where = server_address(address)
    server = connect(where)
    name, fresh = start(server, job)
    if detach:
        print(name)
        _say(f"started {name}" if fresh else f"{name} is running")
        return 0
    _say(f"started {name}, {job.upload_bytes / 1024**2:.1f} MiB sent" if fresh else f"{name} is running: attached")
    try:
        return follow(server, name, _show, _say, patience_s)
    except KeyboardInterrupt:
        _say(f"detached; {name} continues. The same hfd submit attaches again; to stop it: hfd stop -a {where} {name}")
        return STOPPED


def job_table(address: str | None) -> str:
    """Format the jobs of a cluster, one a line, the oldest first."""
    found = list_jobs(connect(server_address(address)))
    if not found:
        return "no jobs"
    width = max(len(job.name) for job in found)
    head = f"{'id':<{width}}  {'status':<9}  {'since':<19}  command"
    return "\n".join(
        [head, *(f"{job.name:<{width}}  {job.status:<9}  {_since(job):<19}  {job.command}" for job in found)]
    )


def stop_job(name: str, address: str | None) -> str:
    """Stop a job and wait for its end; return a line with its status."""
    server = connect(server_address(address))
    job = stop(server, name)
    return f"{job.name}: {job.status}"


def server_address(given: str | None) -> str:
    """Return an address as ``http://host:port``: the given one, that of the environment, or the default.

    Raises :class:`HfdError` for one that is not an address of a job server.
    """
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS
    address = (address if "://" in address else f"http://{address}").rstrip("/")
    parts = urllib.parse.urlsplit(address)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname is not None and parts.username is None
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise HfdError(f"--address: got {redact(address)}, expected that of a job server, such as {DEFAULT_ADDRESS}")
    return address


def _since(job: Listed) -> str:
    """Format the time when the job entered its status: its end, or else its start."""
    stamp = job.ended_s if job.ended_s is not None else job.started_s
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp)) if stamp is not None else "-"


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(line: str) -> None:
    print(f"hfd: {line}", file=sys.stderr, flush=True)
