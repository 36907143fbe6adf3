"""A small disk that becomes full while a command works."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ENOUGH = "512m"


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory whose size changes while it is in use. Needs root."""

    folder: Path

    def leave(self, kib: int) -> None:
        """Leave this much free space, KiB."""
        room = os.statvfs(self.folder)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        self._resize(f"{used // 1024 + kib}k")

    def enlarge(self) -> None:
        self._resize(_ENOUGH)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Mount a disk with enough space; unmount it after the block."""
    folder = Path(tempfile.mkdtemp(prefix="hfd-full-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ENOUGH}", "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
