"""Work for Ray's processes, which import it by name: it refuses, dies, or dies once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from hfd.errors import DataError
from pipelines.cluster import Worker


def refuse(item: int) -> int:
    raise DataError(f"item {item}: got nothing, expected something", reason="io")


def die(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_once(path: Path) -> int:
    """The number of the process that survived; ``path`` tells that one died before."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def linger(_worker: Worker, started: Path) -> None:
    """Train for longer than any test waits; ``started`` tells that it has begun."""
    started.touch()
    time.sleep(3600.0)
