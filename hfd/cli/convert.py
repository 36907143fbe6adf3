"""Convert one file: read its source, write its output whole or not at all, and tell what became of it. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from hfd.errors import ConfigError, DataError
from hfd.io.failures import one_line
from hfd.io.outputs import output_target
from hfd.io.storage import read_file, write_file

Source: TypeAlias = Path | bytes

Convert: TypeAlias = Callable[[Source, str], tuple[Iterable[bytes] | None, str]]
"""(a path or the bytes of standard input, its name) -> (the output's bytes in pieces, a description of them).

None for the bytes: they would not be smaller than the source, and are not written."""


@dataclass(frozen=True)
class Job:
    """``source`` None: standard input; ``output`` None: standard output; ``problem``: the reason it cannot be done."""

    source: Path | None
    output: Path | None
    problem: DataError | None = None


@dataclass(frozen=True)
class Existing:
    """Policy for outputs that exist: ``force`` replaces them, ``skip`` keeps them and continues; otherwise an error."""

    force: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        if self.force and self.skip:
            raise ConfigError("--force: got --skip too, expected one of them. Replace existing outputs or leave them")


@dataclass(frozen=True)
class Ended:
    """The end of a job without an error; ``line``: what to print, None for bytes that went to standard output."""

    result: Literal["written", "skipped", "not smaller"]
    line: str | None
    bytes_in: int = 0
    bytes_out: int = 0


def convert_file(job: Job, convert: Convert, existing: Existing) -> Ended:
    """Do one job. Raises :class:`hfd.errors.HfdError`, after which no output was changed."""
    if job.problem is not None:
        raise job.problem
    if job.output is None:
        return _to_standard_output(job, convert)
    if _is_skipped(job, existing):
        return Ended("skipped", f"{job.output}: exists already, skipped")
    source, name = _source_of(job)
    data, description = convert(source, name)
    if data is None:
        return Ended("not smaller", f"{name}: {description}")
    counted = _Counted(data)
    write_file(job.output, counted)
    if isinstance(source, Path):
        _keep_times(source, job.output)
    return Ended("written", f"{job.output}: {description}", size_of(source), counted.num_bytes)


@dataclass
class _Counted:
    """Pieces of an output; ``num_bytes``: of those that were taken."""

    pieces: Iterable[bytes]
    num_bytes: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.num_bytes += len(piece)
            yield piece


def _to_standard_output(job: Job, convert: Convert) -> Ended:
    if sys.stdout.isatty():
        raise ConfigError("standard output: got a terminal, expected a file or a pipe. Give --output FILE")
    source, name = _source_of(job)
    data, _ = convert(source, name)
    for piece in data or ():
        sys.stdout.buffer.write(piece)
    return Ended("written", None)


def _source_of(job: Job) -> tuple[Source, str]:
    """Return the path of a file, or the bytes of a pipe, which can only be read once; and its name."""
    if job.source is None:
        return _standard_input(), "standard input"
    return job.source if job.source.is_file() else read_file(job.source), str(job.source)


def size_of(source: Source) -> int:
    """Return the bytes of a source."""
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _standard_input() -> bytes:
    if sys.stdin.isatty():
        raise ConfigError("standard input: got a terminal, expected a file or a pipe, such as < photo.png")
    return sys.stdin.buffer.read()


def _is_skipped(job: Job, existing: Existing) -> bool:
    """True if an existing output is kept. Raises :class:`DataError` if it must not be written."""
    output = job.output
    assert output is not None
    with one_line(str(output)):
        target = output_target(output)
        if target.is_dir():
            raise DataError(f"{output}: got a folder, expected the name of a file for --output")
        if not target.exists():
            return False
    if job.source is not None and output.samefile(job.source):
        raise DataError(f"{output}: is the input itself. Give another --output")
    if existing.skip:
        return True
    if not existing.force:
        raise DataError(f"{output}: exists already. Give another --output, or --force to replace it")
    return False


def _keep_times(source: Path, output: Path) -> None:
    """Copy the source's times of access and modification."""
    with suppress(OSError):  # some network drives cannot set times; the file is complete
        times = source.stat()
        os.utime(output, ns=(times.st_atime_ns, times.st_mtime_ns))
