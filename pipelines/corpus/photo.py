"""One photograph of a listing."""

from __future__ import annotations

from dataclasses import dataclass

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.packs.fields import Fields
from pipelines.corpus.s3 import changed, fetch
from pipelines.corpus.s3_client import archived

WHEEL = "wheel"
"""The stamp of a file of an installed package: its version fixes the content."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph: its ``key`` in tables, and the ``folder`` and ``name`` of its file. About 300 bytes each."""

    key: str
    folder: Folder
    name: str
    size: int
    stamp: str
    """The ETag on S3, the modification time in a folder, ``wheel`` in a package."""

    archive: str = ""
    """The storage class on S3 from which the object must be restored; empty: it can be read."""

    fields: Fields = ()
    """Names and values that a list states of it."""

    fault: str = ""
    """The reason why a list's entry cannot be read; empty: none."""

    def read(self) -> bytes:
        """Return the bytes of the listed version.

        Raises:
            DataError: ``reason`` is ``changed`` (size or stamp differ from the listing), ``archived``, ``bad-key``,
                ``bad-uri``, or one of :meth:`hfd.io.storage.Folder.read`.
        """
        if self.fault:
            raise DataError(self.fault, reason="bad-uri")
        if any(part in (".", "..") for part in self.name.split("/")):
            raise DataError(f"{self.key}: got . or .. in a key, expected names. Rename the object", reason="bad-key")
        if self.archive:
            raise archived(f"{self.folder.uri.rstrip('/')}/{self.name}", self.archive)
        if not self.folder.is_local:
            return fetch(self.folder.uri, self.name, self.size, self.stamp)
        data = self.folder.read(self.name)
        now = self._stamp_now()
        if (len(data), now) != (self.size, self.stamp):
            raise changed(self.key, f"{len(data)} bytes of {now}", f"{self.size} bytes of {self.stamp}")
        return data

    def _stamp_now(self) -> str:
        if self.stamp == WHEEL or not self.folder.is_local:
            return self.stamp
        try:
            return str((self.folder.path / self.name).stat().st_mtime_ns)
        except OSError:
            return "gone"
