"""Close runs whose process has ended, by the tags of every run."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import psutil


def process_tags() -> dict[str, str]:
    """Return tags by which another process can check that this one is alive.

    The PID name space is one of them: containers may share a host name and number their processes separately.
    """
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = "host"
    started = f"{psutil.Process().create_time():.2f}"
    return {
        "hfd.host": socket.gethostname(),
        "hfd.pid_space": space,
        "hfd.pid": str(os.getpid()),
        "hfd.pid_started": started,
    }


def is_alive(pid: int, started: float) -> bool:
    """Return True if the process that began at ``started`` (seconds since the epoch) runs on this machine."""
    try:
        process = psutil.Process(pid)
        # The clock's correction moves start times by up to a second or so.
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 2.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def close_stale(client: Any, experiment_id: str) -> None:
    """Mark RUNNING runs (parents and children) of this machine as KILLED if their process has ended."""
    own = ((key, process_tags()[key]) for key in ("hfd.host", "hfd.pid_space"))
    where = " and ".join(["attributes.status = 'RUNNING'", *(f"tags.`{key}` = '{text}'" for key, text in own)])
    runs, token = [], None
    while token != "":
        page = client.search_runs([experiment_id], where, max_results=1000, page_token=token)
        runs += list(page)
        token = page.token or ""
    for run in runs:
        written = run.data.tags
        pid, started = written.get("hfd.pid", ""), written.get("hfd.pid_started", "")
        if not pid.isdigit() or is_alive(int(pid), float(started or 0)):
            continue
        if client.get_run(run.info.run_id).info.status != "RUNNING":
            continue  # its process closed it after the search and ended
        client.set_tag(run.info.run_id, "hfd.error", f"process {pid} ended without closing this run")
        client.set_terminated(run.info.run_id, "KILLED")
