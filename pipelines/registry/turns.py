"""Turns: of several processes, on any machines, one at a time moves the champion of a registered model.

MLflow moves an alias unconditionally, but a parameter of a run is written once: the unique key of its table refuses
another value. Turn ``n`` is the parameter ``hfd.turn.n`` of one run, with its holder as the value; ``hfd.turn.n.end``
ends it. A turn whose holder died ends when another process has seen it unchanged for ``EXPIRES_S`` on its own clock;
the holder gives up after ``HOLD_S`` on its own, so clocks of machines may differ.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hfd.errors import HfdError

HOLD_S = 20.0
"""Time in which the holder sends its last request; the client waits at most 20 s for the answer."""

EXPIRES_S = 60.0
"""Time after which a turn that does not end counts as abandoned."""

POLL_S = 0.2

_KEY = re.compile(r"hfd\.turn\.(\d+)(\.end)?")


@dataclass(frozen=True)
class Turn:
    """The right to move the champion until ``until_s`` of this process's monotonic clock."""

    number: int
    until_s: float

    def check(self) -> None:
        """Raise :class:`HfdError` if another process may have taken the next turn by now."""
        if time.monotonic() > self.until_s:
            raise HfdError(
                f"promote.model: the registry answered too slowly to move the champion within {HOLD_S:.0f} s. "
                "Run the same command again: finished work is kept"
            )


def run_of_turns(client: Any, model: str) -> str | None:
    """Return the run of the turns of a registered model: that of its oldest version whose run was not deleted."""
    found = client.search_model_versions(f"name='{model}'")
    runs = [version.run_id for version in sorted(found, key=lambda one: int(one.version)) if version.run_id]
    return next((run_id for run_id in runs if client.get_run(run_id).info.lifecycle_stage == "active"), None)


@contextlib.contextmanager
def turn(client: Any, run_id: str) -> Iterator[Turn]:
    """Hold the next turn on a run while the block runs; wait for the others. Raises MLflow's errors."""
    mine = _take(client, run_id)
    try:
        yield mine
    finally:
        with contextlib.suppress(Exception):  # if this fails, the turn expires
            _write_once(client, run_id, _end_of(mine.number), "done")


def _take(client: Any, run_id: str) -> Turn:
    holder = f"{socket.gethostname()} process {os.getpid()} {uuid.uuid4().hex}"
    seen, since_s = 0, 0.0
    while True:
        written: Mapping[str, str] = client.get_run(run_id).data.params
        last = max((int(match[1]) for match in map(_KEY.fullmatch, written) if match), default=0)
        now_s = time.monotonic()
        if last == 0 or _end_of(last) in written:
            if _write_once(client, run_id, f"hfd.turn.{last + 1}", holder):
                return Turn(last + 1, now_s + HOLD_S)
        elif last != seen:
            seen, since_s = last, now_s
        elif now_s - since_s > EXPIRES_S:
            _write_once(client, run_id, _end_of(last), "expired")
        else:
            time.sleep(POLL_S)


def _end_of(number: int) -> str:
    return f"hfd.turn.{number}.end"


def _write_once(client: Any, run_id: str, key: str, value: str) -> bool:
    """Write a parameter; return False if it has another value already."""
    try:
        client.log_param(run_id, key, value)
    except Exception as error:
        if getattr(error, "error_code", None) != "INVALID_PARAMETER_VALUE":
            raise
        found = client.get_run(run_id).data.params.get(key)
        if found is None:  # refused for another reason, such as a deleted run
            raise
        return bool(found == value)
    return True
