"""The cores and the memory that this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_THREADS = "OMP_NUM_THREADS"


def cores() -> int:
    """Return the number of cores that this process may use, at least 1: by affinity and a container's quota."""
    by_affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        if quota != "max":
            return max(1, min(by_affinity, round(int(quota) / int(period))))
    return by_affinity


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
    with suppress(OSError, ValueError):
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - used))
    if not found and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found, default=None)
