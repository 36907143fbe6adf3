"""The state of a folder's files, to compare before and after a command that must write nothing."""

from __future__ import annotations

from pathlib import Path


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time of modification in ns and bytes of every file and folder below ``folder``; b"" for folders.

    A file that was made and deleted again shows in the time of its folder.
    """
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, data)
    return found
