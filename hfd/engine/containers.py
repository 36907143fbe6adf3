"""Limits of this process's control groups on Linux, of versions 1 and 2: those of a container or a service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> float | None:
    """Return the least quota, in cores, of the groups that this process is in; None for none."""
    found = []
    for folder in _groups("cpu", root, own):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))  # "max" is no number: no quota
        with suppress(OSError, ValueError):
            quota_us, period_us = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            if quota_us > 0:
                found.append(quota_us / period_us)
    return min(found, default=None)


def memory_left(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Return the least rest, in bytes, of the memory limits of the groups that this process is in; None for none.

    Cached parts of files that were not used lately count as free: the kernel drops them when memory runs out.
    """
    found = []
    for folder in _groups("memory", root, own):
        for limit, used, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError, KeyError):
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                left = _number(folder / limit) - _number(folder / used) + int(stat[idle])
                found.append(max(0, left))
    return min(found, default=None)


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of this process's group of a controller and of the groups around it.

    In a container the path may be that of the machine, and its folders may not exist; the root is then its own group.
    """
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = root / controller if controllers else root
            group = Path(path.lstrip("/"))
            yield from dict.fromkeys(top / part for part in (group, *group.parents))


def _number(file: Path) -> int:
    return int(file.read_text())
