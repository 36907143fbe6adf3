"""Compare-and-swap on a small local file or S3 object."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from hfd.io.uris import parse_s3
from pipelines.corpus.s3_client import connect, one_line

MAX_BYTES = 4096
"""Largest content; a longer one was not written by this module."""

_CONDITION_CODES = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")
"""Error codes of an S3 server for a condition that does not hold."""


@dataclass(frozen=True)
class CasContents:
    """Contents of an object (``b""``: emptied), and its version.

    ``age_s``: seconds since it was written, by the storage's clock only.
    """

    data: bytes
    version: str
    age_s: float


class CasObject(Protocol):
    """A small object with compare-and-swap. Methods raise :class:`DataError` where the storage does not answer."""

    def read(self) -> CasContents | None:
        """Return the current contents; None if the object was never written."""

    def swap(self, data: bytes, expected: str | None) -> str | None:
        """Write ``data`` if the version is still ``expected`` (None: never written), and return the new version.

        None where the version has changed; of several writers that expect the same version, one succeeds.
        """


def open_cas_object(folder: Folder, name: str) -> CasObject:
    """Open the compare-and-swap object ``name`` of a folder."""
    if folder.is_local:
        return LocalCasObject(folder.path / name)
    where = parse_s3(folder.uri)
    return S3CasObject(where.bucket, f"{where.prefix}{name}")


@dataclass(frozen=True)
class LocalCasObject:
    """A file that is read and written under ``flock``, which the kernel releases when a process dies.

    On NFS the lock and the times are the server's. An emptied object is an empty file.
    """

    path: Path

    def read(self) -> CasContents:
        with self._locked() as file:
            data = os.pread(file, MAX_BYTES, 0)
            return CasContents(data.rstrip(b" "), _digest(data), self._now() - os.fstat(file).st_mtime)

    def swap(self, data: bytes, expected: str | None) -> str | None:
        # Always the same length, so that one write replaces the contents even if the process is killed.
        padded = data.ljust(MAX_BYTES // 2) if data else b""
        assert len(padded) <= MAX_BYTES
        with self._locked() as file:
            if _digest(os.pread(file, MAX_BYTES, 0)) != (expected or _digest(b"")):
                return None
            if len(padded) < os.fstat(file).st_size:
                os.ftruncate(file, len(padded))
            os.pwrite(file, padded, 0)
            os.utime(file)  # emptied: truncate only
            return _digest(padded)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be locked ({error.strerror}). Check the folder's owner, mode and disk, "
                "or set lease.use=false where its storage has no locks",
                reason="io",
            ) from error

    def _now(self) -> float:
        """Return the time by the file system's clock, which is another machine's on a network."""
        with tempfile.TemporaryFile(dir=self.path.parent) as probe:
            probe.write(b"x")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime


class _ConditionFailed(Exception):  # noqa: N818
    """A condition does not hold, or the object does not exist."""


def connect_briefly() -> Any:
    """Make a client that gives up before a lease would expire. Not cached: the environment may have changed."""
    return connect(connect_s=5, read_s=20, attempts=3).client


@dataclass(frozen=True)
class S3CasObject:
    """An S3 object written with ``If-None-Match`` and ``If-Match``; its age is Date minus Last-Modified."""

    bucket: str
    key: str
    client: Any = field(default_factory=connect_briefly, compare=False, repr=False)

    def read(self) -> CasContents | None:
        try:
            with self._asking():
                found = self.client.get_object(**self._at)
                date = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
                age_s = (date - found["LastModified"]).total_seconds()
                return CasContents(found["Body"].read(MAX_BYTES), found["ETag"], age_s)
        except _ConditionFailed:
            return None

    def swap(self, data: bytes, expected: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        try:
            with self._asking():
                return str(self.client.put_object(**self._at, Body=data, **condition)["ETag"])
        except _ConditionFailed:
            # After a lost answer, the client's retry sees its own write.
            now = self.read()
            return now.version if now is not None and data and now.data == data else None

    def check(self) -> None:
        """Raise :class:`ConfigError` where the server ignores conditions. The object must exist."""
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123456789abcdef0123456789abcdef"'}):
            before = self.read()
            try:
                with self._asking():
                    self.client.put_object(**self._at, Body=before.data if before is not None else b"", **condition)
            except _ConditionFailed:
                continue
            raise ConfigError(
                f"workspace: got s3://{self.bucket} on a server that ignores {next(iter(condition))}, expected one "
                "that checks conditional writes. Set lease.use=false and run one command at a time there"
            )

    @property
    def _at(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key}

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        from botocore.exceptions import ClientError

        with one_line(f"s3://{self.bucket}/{self.key}"):
            try:
                yield
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _CONDITION_CODES:
                    raise _ConditionFailed from error
                raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
