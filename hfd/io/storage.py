"""Files by URI: local folders and ``s3://`` prefixes behind one small class, on ``pyarrow.fs``.

A file is written whole or not at all: locally to a temporary name in the same folder and then renamed,
for S3 to a temporary local file that is uploaded once it is whole. A server that goes away for a while is
waited for. Credentials come from the environment (``AWS_*``, ``AWS_ENDPOINT_URL``) and are never part of a URI.
"""

from __future__ import annotations

import errno
import io
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from hfd.errors import DataError

_TEMPORARY = ".tmp-"

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Between tries while a server is away or overloaded: half a minute, beside the client library's own tries."""

_answered = threading.Event()

T = TypeVar("T")


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
            uri = re.sub("%(?![0-9A-Fa-f]{2})", "%25", self.uri)
            filesystem, path = pafs.FileSystem.from_uri(quote(uri, safe="%/:?#[]@!$&'()*+,;=~"))
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(
                f"{self.uri}: got an unusable URI, expected a folder or s3://bucket/prefix ({_brief(error)})"
            ) from error
        return filesystem, str(path).rstrip("/")

    def _at(self, name: str) -> tuple[Any, str]:
        filesystem, base = self._open()
        return filesystem, f"{base}/{name}" if name else base

    def _do(self, name: str, call: Callable[[], T]) -> T:
        """``call``, its failures as one line; a server's outage is waited out."""
        if self.is_local:
            with _one_line(f"{self.uri}/{name}"):
                return call()
        return patiently(f"{self.uri}/{name}", call)

    def exists(self, name: str = "") -> bool:
        filesystem, path = self._at(name)
        return self._do(name, lambda: bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound))

    def read(self, name: str) -> bytes:
        if self.is_local:  # ten times faster than through Arrow, which counts for small files
            return self._do(name, lambda: (self.path / name).read_bytes())
        filesystem, path = self._at(name)

        def fetch() -> bytes:
            with filesystem.open_input_stream(path) as stream:
                return cast(bytes, stream.read())

        return self._do(name, fetch)

    def open_input(self, name: str) -> Any:
        """A seekable file: Arrow's own, memory-mapped, where it is local; else one that waits outages out."""
        filesystem, path = self._at(name)
        file = self._do(name, lambda: filesystem.open_input_file(path))
        return file if self.is_local else _PatientFile(f"{self.uri}/{name}", file)

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
            self._do(name, lambda: _upload(Path(spool.name), filesystem, path))

    def delete(self, name: str) -> None:
        filesystem, path = self._at(name)

        def remove() -> None:
            info = filesystem.get_file_info(path)
            if info.type == pafs.FileType.Directory:
                filesystem.delete_dir(path)
            elif info.type == pafs.FileType.File:
                filesystem.delete_file(path)

        self._do(name, remove)

    def files(self) -> list[Entry]:
        """Every file below this folder, sorted by key. Temporary and hidden files are left out."""
        filesystem, base = self._open()
        entries = []
        for item in self._do("", lambda: self._listing(filesystem, base)):
            key = item.path[len(base) :].lstrip("/")
            if item.type == pafs.FileType.File and not any(part.startswith(".") for part in key.split("/")):
                entries.append(Entry(key=key, size=int(item.size or 0), stamp=str(item.mtime_ns)))
        return sorted(entries, key=lambda entry: entry.key)

    def _listing(self, filesystem: Any, base: str) -> list[Any]:
        info = filesystem.get_file_info(base)
        if info.type == pafs.FileType.File:
            raise DataError(f"{self.uri}: got a file, expected a folder", reason="not-a-folder")
        if self.is_local and info.type == pafs.FileType.NotFound:
            raise DataError(f"{self.uri}: got no such folder, expected one that exists", reason="missing")
        if info.type == pafs.FileType.NotFound:
            bucket = base.partition("/")[0]
            if filesystem.get_file_info(bucket).type == pafs.FileType.NotFound:
                raise _no_bucket(self.uri)
        selector = pafs.FileSelector(base, recursive=True, allow_not_found=not self.is_local)
        return cast(list[Any], filesystem.get_file_info(selector))

    def sweep_temporaries(self) -> None:
        """Remove what killed writers left in and below this local folder (S3 keeps no such thing in sight)."""
        if self.is_local and self.path.is_dir():
            for leftover in self.path.rglob(f"{_TEMPORARY}*"):
                leftover.unlink(missing_ok=True)


def read_file(path: Path) -> bytes:
    """The bytes of a local file. Raises :class:`DataError` with one line."""
    with _one_line(str(path)):
        return path.read_bytes()


def write_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a local file whole or not at all; of pieces, each is written as it comes."""
    with _one_line(str(path)), _writing_local(path) as stream:
        for piece in [data] if isinstance(data, bytes) else data:
            stream.write(piece)


def _upload(source: Path, filesystem: Any, path: str) -> None:
    """In one write and one close, so that nothing can come between them. ``copy_files`` would lose errors: it leaves
    closing to a destructor (pyarrow 25)."""
    data: Any = pa.memory_map(str(source)).read_buffer() if source.stat().st_size else b""
    stream = filesystem.open_output_stream(path)
    stream.write(data)
    stream.close()


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


def patiently(what: str, call: Callable[[], T], *, known: bool = False) -> T:
    """``call`` on a server, tried again over :data:`WAITS_S` while it is away or overloaded.

    One that is not ``known`` and has never answered this process is not waited for: its address is more likely to be
    wrong.
    """
    for wait_s in (*WAITS_S, None):
        try:
            with _one_line(what):
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


class _PatientFile(io.RawIOBase):
    """A remote file as Python knows them, each read of which waits outages out."""

    def __init__(self, what: str, file: Any) -> None:
        self._what, self._file, self._position = what, file, 0
        self._size = int(file.size())

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        start = self._position
        count = self._size - start if size is None or size < 0 else min(size, self._size - start)
        data = patiently(self._what, lambda: cast(bytes, self._file.read_at(max(0, count), start)))
        self._position += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


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
        if error.errno == errno.EROFS:
            raise DataError(f"{what}: the file system is read-only. Give another place", reason="io") from error
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
