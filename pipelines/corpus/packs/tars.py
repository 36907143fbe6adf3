"""Read the pictures of a tar one after another: memory holds one member, whatever the size of the tar."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from hfd.errors import DataError
from hfd.image.tree import IGNORED, Selection, suffix_of
from pipelines.corpus.packs.pack import Keys, Member, MemberSettings, Pack, is_chosen, too_large
from pipelines.corpus.packs.samples import MAX_HELD_BYTES, MAX_SIDE_BYTES, SIDE_SUFFIXES, Sample, base_of

TAR_SUFFIXES = frozenset({".tar"})
MAX_HEADER_BYTES = 1 << 20
"""Most bytes of one extended header: its size is stated by the file, and tarfile would read any."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "Zstandard"}
_ZEROS = bytes(tarfile.BLOCKSIZE)


def compressed(what: str, kind: str) -> DataError:
    """Return the error for a compressed tar."""
    return DataError(
        f"{what}: got a tar compressed with {kind}, expected a plain tar: pictures are compressed already, and a "
        "compressed tar cannot be read from the middle. Unpack it to a .tar",
        reason="compressed",
    )


def read_tar(
    file: BinaryIO, pack: Pack, settings: MemberSettings, selection: Selection | None = None
) -> Iterator[Member]:
    """Yield the pictures of a tar, in its order. ``selection``: as of :func:`members`.

    Raises:
        DataError: one line; ``reason`` is ``compressed``, ``not-a-tar``, or ``cut`` for a tar that ends or turns
            unreadable before its end mark, after the members before that place.
    """
    head = file.read(8)
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise compressed(pack.key, kind)
    file.seek(0)
    archive, keys = _opened(file, pack), Keys(pack)
    selection = settings.selection() if selection is None else selection
    count, names = 0, settings.columns
    sample = Sample("", names)
    for info in _headers(archive):
        name = _with_slashes(info.name).removeprefix("./")
        if not info.isreg():
            if not info.isdir() and suffix_of(name) not in SIDE_SUFFIXES:
                selection.takes(name, "again" if info.islnk() or info.issym() else "special")
            continue
        if names and base_of(name) != sample.base:
            yield from sample.take()
            sample = Sample(base_of(name), names)
        is_side = suffix_of(name) in SIDE_SUFFIXES
        if not is_side and selection.takes(name):
            count += 1
            key = keys.key(name)
            if is_chosen(key, pack.share):
                sample.pictures.append(Member(key, info.size, pack.version, _data(file, info, pack, settings)))
        elif names and is_side and info.size <= MAX_SIDE_BYTES:
            file.seek(info.offset_data)
            sample.add_side(name, file.read(info.size))
        if not names or sample.held_bytes > MAX_HELD_BYTES:
            yield from sample.take()
    yield from sample.take()
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != _ZEROS:
        raise DataError(
            f"{pack.key}: got a tar that is cut or damaged after {count} pictures, at byte {archive.offset}, expected "
            "its end mark. The pictures before it are used; write the tar again",
            reason="cut",
        )
    if not count and not selection.skipped.count(IGNORED):
        found = f" ({selection.skipped})" if selection.skipped else ""
        raise DataError(f"{pack.key}: got a tar without pictures{found}. Leave it out", reason="empty")


def _with_slashes(name: str) -> str:
    """Return the name of a member that a program of Windows may have written with its separators."""
    return name if "/" in name else name.replace("\\", "/")


def _opened(file: BinaryIO, pack: Pack) -> tarfile.TarFile:
    headers: Any = _Headers(file)
    try:
        return tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="surrogateescape")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise DataError(
            f"{pack.key}: got a file that is not a tar, expected one. Leave it out", reason="not-a-tar"
        ) from error


def _headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the headers up to the end mark or the first unreadable one."""
    last = -1
    while True:
        try:
            info = archive.next()
        except (tarfile.TarError, ValueError, OverflowError):
            return
        if info is None or archive.offset <= last:  # a forged size that leads backwards would never end
            return
        last = archive.offset
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all headers otherwise
        yield info


def _data(file: BinaryIO, info: tarfile.TarInfo, pack: Pack, settings: MemberSettings) -> bytes | DataError:
    what = f"{pack.key}/{info.name}"
    if info.size > settings.max_bytes:
        return too_large(what, info.size, settings)
    if info.issparse():
        return DataError(f"{what}: got a sparse file, expected a plain one. Write the tar again", reason="sparse")
    file.seek(info.offset_data)
    data = file.read(info.size)
    if len(data) < info.size:
        return DataError(
            f"{what}: got {len(data)} bytes before the end of the tar, expected {info.size}. Write the tar again",
            reason="cut",
        )
    return data


class _Headers:
    """The file that tarfile reads headers from, with a limit on one read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.HeaderError(f"a header of {size} bytes")
        return self._file.read(size)
