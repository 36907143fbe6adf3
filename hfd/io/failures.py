"""One-line errors for failed files and servers, and retries while a server is unavailable."""

from __future__ import annotations

import errno
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hfd.errors import DataError

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Waits between retries while a server is unavailable or overloaded: half a minute, beside the client's own retries."""

_OF_ONE_FILE = {
    errno.ENAMETOOLONG: "got a name that is too long for this file system, expected a shorter one. Rename it",
    errno.EINVAL: "got a name or size that this file system does not support. Rename it, or use another disk",
    errno.EILSEQ: "got a name with bytes that this file system does not support. Rename it, or use another disk",
    errno.EFBIG: "got a file that is too large for this file system. Use another disk",
    errno.ELOOP: "got symbolic links in a circle, expected a file. Remove the link",
}
"""Errors of a single file, not an outage: the other files of a batch are processed."""

_answered = threading.Event()

T = TypeVar("T")


def with_retries(what: str, call: Callable[[], T], *, known: bool = False) -> T:
    """Call a server; retry after each of :data:`WAITS_S` while it is unavailable or overloaded.

    A server that is not ``known`` and has never answered this process is called once: its address is probably wrong.
    """
    for wait_s in (*WAITS_S, None):
        try:
            with one_line(what):
                found = call()
        except DataError as error:
            if error.reason not in ("connection", "io"):
                _answered.set()
                raise
            if wait_s is None or not (known or _answered.is_set()):
                raise
            time.sleep(wait_s)
        else:
            _answered.set()
            return found
    raise AssertionError("the last try returns or raises")


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Convert system errors in the block to :class:`DataError` with one line and a ``reason``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{what}: got no such file, expected one that exists", reason="missing") from error
    except PermissionError as error:
        raise DataError(f"{what}: no permission. Check its owner and mode", reason="permission") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{what}: a folder of its path is a file. Give another path", reason="not-a-folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{what}: got a folder, expected a file", reason="not-a-file") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{what}: the disk is full. Free some space and run the same command again",
                reason="disk-full",
            ) from error
        if error.errno in _OF_ONE_FILE:
            raise DataError(f"{what}: {_OF_ONE_FILE[error.errno]}", reason="unusable-name") from error
        if error.errno == errno.EROFS:
            raise DataError(f"{what}: the file system is read-only. Give another place", reason="io") from error
        raise _server_error(what, error) from error


def _server_error(what: str, error: OSError) -> DataError:
    """Name the three most common mistakes with S3; for any other, use Arrow's message."""
    found = re.search(r"AWS Error ([A-Z_]+)", str(error))
    kind = found[1] if found else ""
    if kind == "NO_SUCH_BUCKET":
        return no_bucket(what)
    if kind in ("ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID"):
        return DataError(
            f"{what}: the server refuses ({kind}). Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_ENDPOINT_URL in the environment",
            reason="permission",
        )
    if kind == "NETWORK_CONNECTION":
        return DataError(
            f"{what}: no connection to the server. Check AWS_ENDPOINT_URL and the network", reason="connection"
        )
    return DataError(f"{what}: {brief(error)}", reason="io")


def no_bucket(what: str) -> DataError:
    return DataError(f"{what}: got no such bucket, expected one that exists. Correct the URI", reason="missing")


def brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
