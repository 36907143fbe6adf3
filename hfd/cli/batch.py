"""Plan batches of files: inputs and their outputs, before any file is read. No torch."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hfd.cli.convert import Job
from hfd.cli.folder import files_below, nothing_in
from hfd.errors import ConfigError, DataError
from hfd.io.failures import one_line
from hfd.io.outputs import is_standard_input, is_standard_output
from hfd.io.uris import expand_home

STANDARD = "-"
"""Standard input or standard output."""


@dataclass(frozen=True)
class Batch:
    """``jobs``, in order; ``is_one``: a single named file; ``left_out``: a line for each folder with other files."""

    jobs: tuple[Job, ...]
    is_one: bool
    left_out: tuple[str, ...] = ()


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
