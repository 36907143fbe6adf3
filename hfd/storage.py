"""Files by URI: local folders and ``s3://`` prefixes behind one small class, on ``pyarrow.fs``.

A file is written whole or not at all: locally to a temporary name in the same folder and then renamed,
for S3 to a temporary local file that is uploaded once it is whole. Credentials come from the environment
(``AWS_*``, ``AWS_ENDPOINT_URL``) and are never part of a URI.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote, urlsplit

import pyarrow.fs as pafs

from hfd.errors import DataError

_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Entry:
    """One listed file: ``key`` relative to the listed folder, ``size`` in bytes, ``stamp`` that changes with it."""

    key: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Folder:
    """A folder on some file system. Cheap to make, picklable; ``folder / "name"`` is a folder below it."""

    uri: str

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.uri.rstrip('/')}/{name}")

    @property
    def is_local(self) -> bool:
        return urlsplit(self.uri).scheme in ("", "file")

    @property
    def path(self) -> Path:
        """The local path. Raises :class:`DataError` for a remote folder."""
        if not self.is_local:
            raise DataError(f"{self.uri}: expected a local folder")
        return Path(self.uri.removeprefix("file://")).absolute()

    def _open(self) -> tuple[Any, str]:
        if self.is_local:
            return pafs.LocalFileSystem(use_mmap=True), str(self.path)
        try:
            # What a URI cannot hold as it is (spaces, other scripts) is escaped; escapes stay what they are.
            filesystem, path = pafs.FileSystem.from_uri(quote(self.uri, safe="%/:?#[]@!$&'()*+,;=~"))
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(
                f"{self.uri}: got an unusable URI, expected a folder or s3://bucket/prefix ({_brief(error)})"
            ) from error
        return filesystem, str(path).rstrip("/")

    def _at(self, name: str) -> tuple[Any, str]:
        filesystem, base = self._open()
        return filesystem, f"{base}/{name}" if name else base

    def exists(self, name: str = "") -> bool:
        filesystem, path = self._at(name)
        with _one_line(f"{self.uri}/{name}"):
            return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)

    def read(self, name: str) -> bytes:
        with _one_line(f"{self.uri}/{name}"):
            if self.is_local:  # ten times faster than through Arrow, which counts for small files
                return (self.path / name).read_bytes()
            filesystem, path = self._at(name)
            with filesystem.open_input_stream(path) as stream:
                return cast(bytes, stream.read())

    def open_input(self, name: str) -> Any:
        """A seekable Arrow file; memory-mapped where it is local."""
        filesystem, path = self._at(name)
        with _one_line(f"{self.uri}/{name}"):
            return filesystem.open_input_file(path)

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as stream:
            stream.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A stream whose bytes appear under ``name`` when the block ends well, and nowhere otherwise."""
        if self.is_local:
            with _one_line(f"{self.uri}/{name}"), _writing_local(self.path / name) as stream:
                yield stream
            return
        filesystem, path = self._at(name)
        # An Arrow stream to S3 publishes what it holds even when it is merely dropped, so that a block that
        # fails must not have begun one.
        with _one_line(f"{self.uri}/{name}"), tempfile.NamedTemporaryFile(prefix="hfd-upload-") as spool:
            yield cast(IO[bytes], spool)
            spool.flush()
            local = pafs.LocalFileSystem()
            pafs.copy_files(spool.name, path, source_filesystem=local, destination_filesystem=filesystem)

    def delete(self, name: str) -> None:
        filesystem, path = self._at(name)
        with _one_line(f"{self.uri}/{name}"):
            info = filesystem.get_file_info(path)
            if info.type == pafs.FileType.Directory:
                filesystem.delete_dir(path)
            elif info.type == pafs.FileType.File:
                filesystem.delete_file(path)

    def files(self) -> list[Entry]:
        """Every file below this folder, sorted by key. Temporary and hidden files are left out."""
        filesystem, base = self._open()
        with _one_line(self.uri):
            info = filesystem.get_file_info(base)
            if info.type == pafs.FileType.File:
                raise DataError(f"{self.uri}: got a file, expected a folder", reason="not-a-folder")
            selector = pafs.FileSelector(base, recursive=True, allow_not_found=not self.is_local)
            if self.is_local and info.type == pafs.FileType.NotFound:
                raise DataError(f"{self.uri}: got no such folder, expected one that exists", reason="missing")
            if info.type == pafs.FileType.NotFound:
                bucket = base.partition("/")[0]
                if filesystem.get_file_info(bucket).type == pafs.FileType.NotFound:
                    raise _no_bucket(self.uri)
            found = filesystem.get_file_info(selector)
        entries = []
        for item in found:
            key = item.path[len(base) :].lstrip("/")
            if item.type == pafs.FileType.File and not any(part.startswith(".") for part in key.split("/")):
                entries.append(Entry(key=key, size=int(item.size or 0), stamp=str(item.mtime_ns)))
        return sorted(entries, key=lambda entry: entry.key)

    def sweep_temporaries(self) -> None:
        """Remove what killed writers left in and below this local folder (S3 keeps no such thing in sight)."""
        if self.is_local and self.path.is_dir():
            for leftover in self.path.rglob(f"{_TEMPORARY}*"):
                leftover.unlink(missing_ok=True)


def read_file(path: Path) -> bytes:
    """The bytes of a local file. Raises :class:`DataError` with one line."""
    with _one_line(str(path)):
        return path.read_bytes()


def write_file(path: Path, data: bytes) -> None:
    """Write a local file whole or not at all."""
    with _one_line(str(path)), _writing_local(path) as stream:
        stream.write(data)


@contextmanager
def _writing_local(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_TEMPORARY}{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """The world's failures as one line: disk full, no permission, no such file, a server that refuses."""
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
        raise _server_error(what, error) from error


def _server_error(what: str, error: OSError) -> DataError:
    """The three mistakes that every user of S3 makes, by name; anything else as Arrow words it."""
    found = re.search(r"AWS Error ([A-Z_]+)", str(error))
    kind = found[1] if found else ""
    if kind == "NO_SUCH_BUCKET":
        return _no_bucket(what)
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
    return DataError(f"{what}: {_brief(error)}", reason="io")


def _no_bucket(what: str) -> DataError:
    return DataError(f"{what}: got no such bucket, expected one that exists. Correct the URI", reason="missing")


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
