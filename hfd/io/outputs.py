"""Write to a path that the user gave: atomically, through symbolic links, never over a device."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hfd.errors import DataError

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files. The rest is short, so that a valid name does not become too long."""

_SYSTEM = ("/dev", "/proc", "/sys")
_MEMORY = "/dev/shm"  # a regular file system
_MAX_LINKS = 40


def output_target(path: Path) -> Path:
    """Return the file of a path, with links resolved, as the shell's redirection does; it need not exist.

    Raises :class:`DataError` for links in a circle, for a path that is not a file, and for system devices.
    """
    for step in _steps(path):
        target = step
        if _is_system(step):
            raise DataError(
                f"{path}: got a path in the system's devices, expected a file. Give another --output, or - for "
                "standard output",
                reason="not-a-file",
            )
    if target.is_symlink():
        raise DataError(
            f"{path}: got symbolic links in a circle, expected a file. Remove the link", reason="not-a-file"
        )
    if target.exists() and not target.is_file() and not target.is_dir():
        raise DataError(
            f"{path}: got a special file. Give another --output, or - for standard output",
            reason="not-a-file",
        )
    return target


def is_standard_output(path: str) -> bool:
    """Return True for ``/dev/stdout``, its aliases, and links to them."""
    return _is_stream(path, 1, "stdout")


def is_standard_input(path: str) -> bool:
    """Return True for ``/dev/stdin``, its aliases, and links to them."""
    return _is_stream(path, 0, "stdin")


def _is_stream(path: str, number: int, name: str) -> bool:
    names = {f"/dev/{name}", f"/dev/fd/{number}", f"/proc/{os.getpid()}/fd/{number}"}
    return any(str(step) in names for step in _steps(Path(path)))


def _steps(path: Path) -> Iterator[Path]:
    """Yield the path and each target of its links in turn, with folders resolved."""
    for _ in range(_MAX_LINKS):
        path = Path(os.path.realpath(path.parent)) / path.name
        yield path
        if not os.path.islink(path):  # noqa: PTH114 -- returns False for a name that is too long
            return
        path = path.parent / os.readlink(path)  # noqa: PTH115 -- keeps .. as it is


def _is_system(path: Path) -> bool:
    parts = [str(path), *map(str, path.parents)]
    return any(root in parts for root in _SYSTEM) and _MEMORY not in parts[1:]


@contextmanager
def writing_local(path: Path) -> Iterator[IO[bytes]]:
    """Yield a stream whose bytes replace the file when the block ends without an error.

    The file keeps its mode, and its owner where that is allowed. Raises :class:`OSError` and :class:`DataError`.
    """
    target = output_target(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    before = target.stat() if target.exists() else None
    temporary = target.parent / f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    # The replacement of a private file is private from the start.
    mode = 0o666 if before is None else 0o600
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as stream:
            yield stream
            stream.flush()
            if before is not None:
                _restore(stream.fileno(), before)
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _restore(file: int, before: os.stat_result) -> None:
    now = os.fstat(file)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with suppress(OSError):
            os.fchown(file, before.st_uid, before.st_gid)
    with suppress(OSError):  # some network drives have no modes; the file is complete
        os.fchmod(file, stat.S_IMODE(before.st_mode) & 0o777)
