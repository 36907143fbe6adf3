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
from urllib.parse import unquote, urlsplit

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder

MAX_BYTES = 4096
"""The object holds at most this; whatever is longer was put there by something else."""

_CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")
"""What an S3 server answers to a condition that does not hold."""


@dataclass(frozen=True)
class CasContents:
    """Contents of an object (``b""``: nothing), its version, and how long ago it was written.

    ``age_s`` in seconds, by the clock of the storage alone: no clock of a client is in it.
    """

    data: bytes
    version: str
    age_s: float


class CasObject(Protocol):
    """Raises :class:`DataError` where the storage does not answer."""

    def read(self) -> CasContents | None:
        """What is there now; None before anything was."""

    def swap(self, data: bytes, expected: str | None) -> str | None:
        """Write ``data`` if the version is still ``expected`` (None: nothing there yet): the new version.

        None where somebody else was first; of any number that expect the same version, one succeeds.
        """


def open_cas_object(folder: Folder, name: str) -> CasObject:
    """Open the compare-and-swap object ``name`` of a folder.

    Raises :class:`ConfigError` on storage without compare-and-swap.
    """
    if folder.is_local:
        return LocalCasObject(folder.path / name)
    parts = urlsplit(folder.uri)
    if parts.scheme != "s3":
        raise ConfigError(
            f"workspace: got {folder.uri}, expected a local folder or s3:// for its lease. Or set lease.use=false"
        )
    return S3CasObject(parts.netloc, f"{unquote(parts.path).strip('/')}/{name}".lstrip("/"))


@dataclass(frozen=True)
class LocalCasObject:
    """A file that is read and written under ``flock``, which the kernel lets go of when a process dies.

    On NFS the lock and the times are the server's. An empty file is what is left of an object that was emptied.
    """

    path: Path

    def read(self) -> CasContents:
        with self._locked() as file:
            data = os.pread(file, MAX_BYTES, 0)
            return CasContents(data.rstrip(b" "), _digest(data), self._now() - os.fstat(file).st_mtime)

    def swap(self, data: bytes, expected: str | None) -> str | None:
        # Always the same length: one write then replaces the contents, wherever a process is killed.
        padded = data.ljust(MAX_BYTES // 2) if data else b""
        assert len(padded) <= MAX_BYTES
        with self._locked() as file:
            if _digest(os.pread(file, MAX_BYTES, 0)) != (expected or _digest(b"")):
                return None
            if len(padded) < os.fstat(file).st_size:
                os.ftruncate(file, len(padded))
            os.pwrite(file, padded, 0)
            os.utime(file)  # emptied and filled alike
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
        """The time by the file system's clock, which is another machine's on a network."""
        with tempfile.TemporaryFile(dir=self.path.parent) as probe:
            probe.write(b"x")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime


@dataclass(frozen=True)
class S3CasObject:
    """An object written with ``If-None-Match`` and ``If-Match``; its age is Date less Last-Modified of one answer."""

    bucket: str
    key: str
    _client: Any = field(default_factory=lambda: _client(), compare=False, repr=False)

    def read(self) -> CasContents | None:
        try:
            with self._asking():
                found = self._client.get_object(**self._at)
                date = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
                age_s = (date - found["LastModified"]).total_seconds()
                return CasContents(found["Body"].read(MAX_BYTES), found["ETag"], age_s)
        except _ConditionFailed:
            return None

    def swap(self, data: bytes, expected: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        try:
            with self._asking():
                return str(self._client.put_object(**self._at, Body=data, **condition)["ETag"])
        except _ConditionFailed:
            # A retry after an answer that was lost finds its own write there.
            now = self.read()
            return now.version if now is not None and data and now.data == data else None

    def check(self) -> None:
        """Raise :class:`ConfigError` where the server writes over what is there whatever the condition.

        Something has to be there.
        """
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123456789abcdef0123456789abcdef"'}):
            before = self.read()
            try:
                with self._asking():
                    self._client.put_object(**self._at, Body=before.data if before is not None else b"", **condition)
            except _ConditionFailed:
                continue
            raise ConfigError(
                f"workspace: got s3://{self.bucket} on a server that ignores {next(iter(condition))}, expected one "
                "that checks conditional writes. Set lease.use=false and see to it that one run at a time works there"
            )

    @property
    def _at(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key}

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self.bucket}/{self.key}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _CHANGED:
                raise _ConditionFailed from error
            reason = "missing" if code == "NoSuchBucket" else "permission" if "Denied" in code else "io"
            raise DataError(
                f"{where}: the server refuses ({code}). Check the bucket and AWS_*", reason=reason
            ) from error
        except BotoCoreError as error:
            brief = " ".join(str(error).split())[:200]
            raise DataError(
                f"{where}: no answer ({brief}). Check AWS_ENDPOINT_URL and the network", reason="connection"
            ) from error


class _ConditionFailed(Exception):  # noqa: N818
    """A condition does not hold, or nothing is there."""


def _client() -> Any:
    import boto3
    from botocore.config import Config

    # Credentials and endpoint come from the environment as it is now, as for everything else.
    retries = {"total_max_attempts": 3, "mode": "standard"}
    return boto3.session.Session().client("s3", config=Config(connect_timeout=5, read_timeout=20, retries=retries))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
