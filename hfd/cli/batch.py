"""Many files by one command: which there are, where each goes, and what becomes of those that fail.

One file that is named has one answer: its error ends the command, exit code 2. Of several, or of a folder's, each
failure is a line, the others are done, and the end is a count and exit code 1. No torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hfd.cli.progress import Terminal
from hfd.errors import BatchError, ConfigError, DataError, HfdError
from hfd.io.storage import write_file

STANDARD = "-"
"""What stands for standard input and standard output."""

Source: TypeAlias = Path | bytes

Convert: TypeAlias = Callable[[Source, str], tuple[Iterable[bytes], str]]
"""(a path or standard input's bytes, its name) -> the bytes to write, in pieces, and what to say of them."""


@dataclass(frozen=True)
class Job:
    """``source`` None: standard input; ``output`` None: standard output; ``problem``: why it cannot be done."""

    source: Path | None
    output: Path | None
    problem: DataError | None = None


@dataclass(frozen=True)
class Batch:
    """``jobs``, in order; ``is_one``: a single file that was named, and not many."""

    jobs: tuple[Job, ...]
    is_one: bool


@dataclass(frozen=True)
class Existing:
    """What becomes of outputs that exist: ``force`` replaces them, ``skip`` leaves them and goes on; else an error."""

    force: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        if self.force and self.skip:
            raise ConfigError("--force: got --skip too, expected one of them. Replace existing outputs or leave them")


def plan(sources: Sequence[str], output: str | None, *, wanted: Iterable[str], suffix: str) -> Batch:
    """Which files become which. Nothing is read, but the listings of folders.

    ``sources``: files, folders (all that is in and below them with a suffix in ``wanted``, sorted, hidden files left
    out), or ``-`` alone. ``output`` None: beside each source, with ``suffix``; a file, or ``-``, for one source; a
    folder otherwise, where a folder's tree is kept, below the folder's name if several sources are given.
    Raises :class:`ConfigError` on what cannot be meant, :class:`DataError` for a single folder without such files.
    """
    if STANDARD in sources:
        if len(sources) > 1:
            raise ConfigError("-: got other inputs beside standard input, expected it alone")
        return Batch((Job(None, _place_of_one(None, output, suffix)),), is_one=True)
    first = Path(sources[0])
    if len(sources) == 1 and not first.is_dir():
        return Batch((_known(Job(first, _place_of_one(first, output, suffix))),), is_one=True)
    if output == STANDARD:
        raise ConfigError("--output: got - for several files, expected a folder")
    root = None if output is None else Path(output)
    if root is not None and root.exists() and not root.is_dir():
        raise ConfigError(f"{root}: got a file for several outputs, expected a folder. Give another --output")
    if root is not None and not root.exists() and root.suffix.lower() == suffix:
        raise ConfigError(f"{root}: got a file's name for several outputs, expected a folder's. Give another --output")
    jobs: list[Job] = []
    for source in dict.fromkeys(map(Path, sources)):
        if source.is_dir():
            found = _below(source, frozenset(wanted), several=len(sources) > 1, root=root, suffix=suffix)
        else:
            name = source.with_suffix(suffix)
            found = [_known(Job(source, name if root is None else root / name.name))]
        jobs += found
    if len(sources) == 1 and len(jobs) == 1 and jobs[0].problem is not None:
        raise jobs[0].problem
    return Batch(_without_clashes(jobs), is_one=False)


def _place_of_one(source: Path | None, output: str | None, suffix: str) -> Path | None:
    if output == STANDARD or (output is None and source is None):
        return None
    if output is None:
        assert source is not None
        return source.with_suffix(suffix)
    place = Path(output)
    if not place.is_dir() and not output.endswith(("/", os.sep)):
        return place
    if source is None:
        raise ConfigError(f"{output}: got a folder, expected the name of a file for what comes from standard input")
    return place / source.with_suffix(suffix).name


def _below(folder: Path, wanted: frozenset[str], *, several: bool, root: Path | None, suffix: str) -> list[Job]:
    jobs: list[Job] = []

    def unreadable(error: OSError) -> None:
        place = Path(str(error.filename))
        jobs.append(Job(place, place, DataError(f"{place}: {error.strerror}. Check its owner and mode")))

    base = folder if root is None else root / folder.resolve().name if several else root
    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(parent)
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in wanted:
                output = (base / here.relative_to(folder) / name).with_suffix(suffix)
                jobs.append(Job(here / name, output))
    if not jobs:
        problem = DataError(f"{folder}: got a folder without such files, expected {_some(wanted)} in it")
        return [Job(folder, folder, problem)]
    return jobs


def _some(suffixes: frozenset[str]) -> str:
    shown = [suffix for suffix in (".png", ".jpg", ".hfd") if suffix in suffixes]
    return ", ".join(shown) + (", ..." if len(suffixes) > len(shown) else "")


def _known(job: Job) -> Job:
    """With its problem where the source is no file."""
    assert job.source is not None
    if job.source.is_file():
        return job
    got = "no such file" if not job.source.exists() else "something else than a file"
    problem = DataError(f"{job.source}: got {got}, expected a file or a folder", reason="missing")
    return Job(job.source, job.output, problem)


def _without_clashes(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Of several sources with one output the first has it."""
    taken: dict[Path, Path | None] = {}
    checked = []
    for job in jobs:
        if job.problem is None and job.output is not None:
            first = taken.setdefault(job.output, job.source)
            if first != job.source:
                problem = DataError(f"{job.source}: {job.output} is that of {first}. Give this one another --output")
                checked.append(Job(job.source, job.output, problem))
                continue
        checked.append(job)
    return tuple(checked)


def run(batch: Batch, convert: Convert, *, label: str, existing: Existing) -> None:
    """Do every job; a line for each on standard output, unless the bytes go there.

    Raises the :class:`HfdError` of a single file; :class:`BatchError` at the end where some of several failed; at once
    what stops them all: a mistake of usage, a full disk.
    """
    if batch.is_one:
        _say(_do(batch.jobs[0], convert, existing))
        return
    failed, count = 0, len(batch.jobs)
    with Terminal().bar(label, "files") as progress:
        for done, job in enumerate(batch.jobs):
            progress(done, count)
            try:
                _say(_do(job, convert, existing))
            except HfdError as error:
                if isinstance(error, ConfigError) or (isinstance(error, DataError) and error.is_outage):
                    raise
                failed += 1
                sys.stdout.flush()
                print(f"hfd: {error}", file=sys.stderr, flush=True)
        progress(count, count)
    if failed:
        raise BatchError(f"{failed} of {count} failed")


def _say(line: str | None) -> None:
    if line is not None:
        print(line, flush=True)


def _do(job: Job, convert: Convert, existing: Existing) -> str | None:
    if job.problem is not None:
        raise job.problem
    if job.output is None:
        _to_standard_output(job, convert)
        return None
    if _is_skipped(job, existing):
        return f"{job.output}: exists already, skipped"
    source, name = (job.source, str(job.source)) if job.source is not None else (_standard_input(), "standard input")
    data, said = convert(source, name)
    write_file(job.output, data)
    if job.source is not None:
        _keep_times(job.source, job.output)
    return f"{job.output}: {said}"


def _to_standard_output(job: Job, convert: Convert) -> None:
    if sys.stdout.isatty():
        raise ConfigError("standard output: got a terminal, expected a file or a pipe. Give --output FILE")
    source, name = (job.source, str(job.source)) if job.source is not None else (_standard_input(), "standard input")
    data, _ = convert(source, name)
    for piece in data:
        sys.stdout.buffer.write(piece)


def _standard_input() -> bytes:
    if sys.stdin.isatty():
        raise ConfigError("standard input: got a terminal, expected a file or a pipe, such as < photo.png")
    return sys.stdin.buffer.read()


def _is_skipped(job: Job, existing: Existing) -> bool:
    """Whether an output is left as it is. Raises :class:`DataError` where it must not be written."""
    output = job.output
    assert output is not None
    if output.is_dir():
        raise DataError(f"{output}: got a folder, expected the name of a file for --output")
    if not output.exists():
        return False
    if not output.is_file():
        raise DataError(f"{output}: got something else than a file. Give another --output, or - for standard output")
    if job.source is not None and output.samefile(job.source):
        raise DataError(f"{output}: is the input itself. Give another --output")
    if existing.skip:
        return True
    if not existing.force:
        raise DataError(f"{output}: exists already. Give another --output, or --force to replace it")
    return False


def _keep_times(source: Path, output: Path) -> None:
    """The source's times of access and change, since the picture is as old as it was."""
    times = source.stat()
    with suppress(OSError):  # some network drives have none to set, and the file is whole
        os.utime(output, ns=(times.st_atime_ns, times.st_mtime_ns))
