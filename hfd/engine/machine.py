"""The cores, the memory and the packages that this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from hfd.engine.containers import cpu_quota, memory_left

_THREADS = "OMP_NUM_THREADS"


def cores() -> int:
    """Return the number of cores that this process may use, at least 1: by affinity and a container's quota."""
    by_affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return by_affinity if quota is None else max(1, min(by_affinity, round(quota)))


def threads() -> int:
    """Return the threads of one engine: ``OMP_NUM_THREADS``, as PyTorch and NumPy read it, or one per core."""
    text = os.environ.get(_THREADS, "").split(",")[0]
    return int(text) if text.isdecimal() and int(text) > 0 else cores()


def available_bytes() -> int | None:
    """Return the memory that can be taken without swapping, by system and container; None where it is unknown."""
    found = []
    with suppress(OSError, ValueError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    if (left := memory_left()) is not None:
        found.append(left)
    if not found and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found, default=None)


def is_installed(package: str) -> bool:
    """Report if a package can be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except ImportError:  # a finder may refuse it by name
        return False
