"""Files by URI: one class for local folders and ``s3://`` prefixes.

Files are written atomically: locally to a temporary name in the same folder that is then renamed, for S3 to a
temporary local file that is uploaded when complete (:mod:`hfd.io.s3`, the only part that needs pyarrow). Credentials
come from the environment (``AWS_*``, ``AWS_ENDPOINT_URL``) and are never part of a URI.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hfd.errors import ConfigError, DataError
from hfd.io.entry import Entry
from hfd.io.failures import one_line
from hfd.io.outputs import TEMPORARY, writing_local
from hfd.io.uris import is_local, local_path
from hfd.io.walk import Place, Rule, walk

if TYPE_CHECKING:
    from hfd.io.s3 import Prefix


@dataclass(frozen=True)
class Folder:
    """A folder on any file system. Cheap to create, picklable; ``folder / "name"`` is a folder below it.

    Every method raises :class:`DataError` with one line and a ``reason``.
    """

    uri: str

    def __truediv__(self, name: str) -> Folder:
        base, mark, query = (self.uri, "", "") if self.is_local else self.uri.partition("?")
        return Folder(f"{base.rstrip('/')}/{name}{mark}{query}")

    @property
    def is_local(self) -> bool:
        return is_local(self.uri)

    @property
    def path(self) -> Path:
        """The local path. Raises :class:`DataError` for a remote folder."""
        if not self.is_local:
            raise DataError(f"{self.uri}: expected a local folder")
        try:
            return Path(local_path(self.uri)).absolute()
        except ConfigError as error:
            raise DataError(str(error)) from error

    def _remote(self) -> Prefix:
        from hfd.io.s3 import Prefix

        return Prefix(self.uri)

    def exists(self, name: str = "") -> bool:
        if not self.is_local:
            return self._remote().exists(name)
        with one_line(f"{self.uri}/{name}"):
            return (self.path / name).exists()

    def read(self, name: str) -> bytes:
        if not self.is_local:
            return self._remote().read(name)
        with one_line(f"{self.uri}/{name}"):
            return (self.path / name).read_bytes()

    def open_input(self, name: str) -> Any:
        """Open a seekable file, memory-mapped by Arrow if it is local, so that Parquet is read without copies."""
        if not self.is_local:
            return self._remote().open_input(name)
        import pyarrow.fs

        with one_line(f"{self.uri}/{name}"):
            return pyarrow.fs.LocalFileSystem(use_mmap=True).open_input_file(str(self.path / name))

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as stream:
            stream.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a stream whose bytes appear under ``name`` only if the block ends without an error."""
        if not self.is_local:
            with self._remote().writing(name) as stream:
                yield stream
            return
        with one_line(f"{self.uri}/{name}"), writing_local(self.path / name) as stream:
            yield stream

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with its contents, if it exists."""
        if not self.is_local:
            self._remote().delete(name)
            return
        with one_line(f"{self.uri}/{name}"):
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def files(self) -> list[Entry]:
        """Return every file below this folder, sorted by key, without temporary and hidden files."""
        found = self.walk(_VISIBLE) if self.is_local else (Entry(*one) for one in self._remote().files())
        kept = [entry for entry in found if _VISIBLE.is_wanted(entry.key) and entry.fault in ("", "again")]
        return sorted((entry for entry in kept if not entry.key.endswith("/")), key=lambda entry: entry.key)

    def walk(self, rule: Rule) -> Iterator[Entry]:
        """Yield the files of this local folder as :func:`hfd.io.walk.walk` does."""
        with one_line(f"{self.uri}/"):
            if not self.path.exists():
                raise DataError(f"{self.uri}: got no such folder, expected one that exists", reason="missing")
            if not self.path.is_dir():
                raise DataError(f"{self.uri}: got a file, expected a folder", reason="not-a-folder")
        yield from walk(self.path, rule)

    def sweep_temporaries(self) -> None:
        """Remove the temporary files of killed writers in and below this local folder (S3 shows none)."""
        if self.is_local and self.path.is_dir():
            for leftover in self.path.rglob(f"{TEMPORARY}*"):
                leftover.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Visible:
    """The rule of `Folder.files`: all but hidden names."""

    def place(self, folder: str) -> Place:
        return "walk" if self.is_wanted(folder) else "whole"

    def is_wanted(self, key: str) -> bool:
        return not any(part.startswith(".") for part in key.split("/"))


_VISIBLE = _Visible()


def read_file(path: Path) -> bytes:
    """Read the bytes of a local file. Raises :class:`DataError` with one line."""
    with one_line(str(path)):
        return path.read_bytes()


def write_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a local file atomically, piece by piece."""
    with one_line(str(path)), writing_local(path) as stream:
        for piece in [data] if isinstance(data, bytes) else data:
            stream.write(piece)
