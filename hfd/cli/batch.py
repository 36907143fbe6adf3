"""Batches of files: inputs, outputs, and failures.

The error of a single named file ends the command, exit code 2. Of several files, or a folder's, failures are reported,
the other files are still processed, and the command ends with a count and exit code 1. No torch.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hfd.cli.folder import files_below, nothing_in
from hfd.cli.progress import Terminal
from hfd.cli.totals import Totals
from hfd.errors import BatchError, ConfigError, DataError, HfdError, printable
from hfd.io.failures import one_line
from hfd.io.outputs import is_standard_input, is_standard_output, output_target
from hfd.io.storage import read_file, write_file
from hfd.io.uris import expand_home

STANDARD = "-"
"""Standard input or standard output."""

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
class Batch:
    """``jobs``, in order; ``is_one``: a single named file; ``left_out``: a line for each folder with other files."""

    jobs: tuple[Job, ...]
    is_one: bool
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Existing:
    """Policy for outputs that exist: ``force`` replaces them, ``skip`` keeps them and continues; otherwise an error."""

    force: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        if self.force and self.skip:
            raise ConfigError("--force: got --skip too, expected one of them. Replace existing outputs or leave them")


def plan(sources: Sequence[str], output: str | None, *, wanted: Iterable[str], suffix: str) -> Batch:
    """Plan inputs and outputs without reading any file.

    ``sources``: files, folders (searched recursively for suffixes in ``wanted`` by the rule of :mod:`hfd.image.tree`),
    or ``-`` alone. ``output`` None: beside each source, with ``suffix``; a file, or ``-``, for one source; a
    folder otherwise, which keeps a folder's tree, below the folder's name if there are several sources.
    Raises :class:`ConfigError` on arguments that contradict each other, :class:`DataError` for a single
    folder without such files.
    """
    sources = [STANDARD if is_standard_input(source) else source for source in sources]
    output = None if output is None else STANDARD if is_standard_output(output) else expand_home(output)
    if STANDARD in sources:
        if len(sources) > 1:
            raise ConfigError("-: got other inputs beside standard input, expected it alone")
        return Batch((Job(None, _output_of_one(None, output, suffix)),), is_one=True)
    first = Path(sources[0])
    if len(sources) == 1 and not _is_folder(first):
        return Batch((_known(Job(first, _output_of_one(first, output, suffix))),), is_one=True)
    if output == STANDARD:
        raise ConfigError("--output: got - for several files, expected a folder")
    root = None if output is None else Path(output)
    if root is not None and root.exists() and not root.is_dir():
        raise ConfigError(f"{root}: got a file for several outputs, expected a folder. Give another --output")
    if root is not None and not root.exists() and root.suffix.lower() == suffix:
        raise ConfigError(f"{root}: got a file's name for several outputs, expected a folder's. Give another --output")
    jobs: list[Job] = []
    lines: list[str] = []
    for source in dict.fromkeys(map(Path, sources)):
        if _is_folder(source):
            found, left_out = _below(source, frozenset(wanted), several=len(sources) > 1, root=root, suffix=suffix)
            lines += left_out
        else:
            name = source.with_suffix(suffix)
            found = [_known(Job(source, name if root is None else root / name.name))]
        jobs += found
    if len(sources) == 1 and len(jobs) == 1 and jobs[0].problem is not None:
        raise jobs[0].problem
    return Batch(_without_clashes(jobs), is_one=False, left_out=tuple(lines))


def _output_of_one(source: Path | None, output: str | None, suffix: str) -> Path | None:
    if output == STANDARD or (output is None and source is None):
        return None
    if output is None:
        assert source is not None
        return source.with_suffix(suffix)
    path = Path(output)
    if not path.is_dir() and not output.endswith(("/", os.sep)):
        return path
    if source is None:
        raise ConfigError(f"{output}: got a folder, expected the name of a file for the output of standard input")
    return path / source.with_suffix(suffix).name


def _below(
    folder: Path, wanted: frozenset[str], *, several: bool, root: Path | None, suffix: str
) -> tuple[list[Job], list[str]]:
    """Plan the files of a folder; return a line about those that are left out, too."""
    found = files_below(folder, wanted, suffix)
    base = folder if root is None else root / folder.resolve().name if several else root
    jobs = [Job(path, path, problem) for path, problem in found.unreadable]
    jobs += [Job(folder / key, (base / key).with_suffix(suffix)) for key in found.keys]
    if not jobs:
        return [Job(folder, folder, nothing_in(folder, wanted, found.skipped))], []
    return jobs, [f"{folder}: {found.skipped}"] if found.skipped else []


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 -- returns False for a name that is too long


def _known(job: Job) -> Job:
    """Add the problem to a job whose source is not a file."""
    assert job.source is not None
    try:
        with one_line(str(job.source)):
            mode = job.source.stat().st_mode
    except DataError as error:
        if error.reason != "missing":
            return Job(job.source, job.output, error)
        got = "no such file"
    else:
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
            return job
        got = "a special file"
    problem = DataError(f"{job.source}: got {got}, expected a file or a folder", reason="missing")
    return Job(job.source, job.output, problem)


def _without_clashes(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Keep the first of several jobs with the same output; mark the others as failed."""
    taken: dict[Path, Path | None] = {}
    checked = []
    for job in jobs:
        if job.problem is None and job.output is not None:
            first = taken.setdefault(Path(os.path.realpath(job.output)), job.source)
            if first != job.source:
                problem = DataError(
                    f"{job.source}: {job.output} is also the output of {first}. Give this one another --output"
                )
                checked.append(Job(job.source, job.output, problem))
                continue
        checked.append(job)
    return tuple(checked)


def run(batch: Batch, convert: Convert, *, label: str, existing: Existing) -> None:
    """Run every job; print a line for each, unless its bytes go to standard output; of several, one with the totals.

    Raises the :class:`HfdError` of a single file; :class:`BatchError` at the end if some of several failed. An error
    that affects all of them, such as wrong usage or a full disk, is raised at once.
    """
    count = len(batch.jobs)
    totals = Totals(count)
    if batch.is_one:
        _say(_do(batch.jobs[0], convert, existing, totals))
        return
    with Terminal().bar(label, "files") as progress:
        for done, job in enumerate(batch.jobs):
            progress(done, count)
            try:
                _say(_do(job, convert, existing, totals))
            except HfdError as error:
                if isinstance(error, ConfigError) or (isinstance(error, DataError) and error.is_outage):
                    raise
                totals.failed += 1
                sys.stdout.flush()
                print(f"hfd: {printable(str(error))}", file=sys.stderr, flush=True)
        progress(count, count)
    sys.stdout.flush()
    for line in batch.left_out:
        print(f"hfd: {printable(line)}", file=sys.stderr, flush=True)
    _say(totals.line)
    if totals.failed:
        raise BatchError(f"{totals.failed} of {count} failed")


def _say(line: str | None) -> None:
    if line is not None:
        print(printable(line), flush=True)


def _do(job: Job, convert: Convert, existing: Existing, totals: Totals) -> str | None:
    if job.problem is not None:
        raise job.problem
    if job.output is None:
        _to_standard_output(job, convert)
        return None
    if _is_skipped(job, existing):
        totals.skipped += 1
        return f"{job.output}: exists already, skipped"
    source, name = _source_of(job)
    data, description = convert(source, name)
    if data is None:
        totals.not_smaller += 1
        return f"{name}: {description}"
    write_file(job.output, totals.count(data))
    totals.written += 1
    totals.bytes_in += size_of(source)
    if isinstance(source, Path):
        _keep_times(source, job.output)
    return f"{job.output}: {description}"


def _to_standard_output(job: Job, convert: Convert) -> None:
    if sys.stdout.isatty():
        raise ConfigError("standard output: got a terminal, expected a file or a pipe. Give --output FILE")
    source, name = _source_of(job)
    data, _ = convert(source, name)
    for piece in data or ():
        sys.stdout.buffer.write(piece)


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
