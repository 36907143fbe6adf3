"""Run a batch and print its lines: failures, outputs, totals.

The error of a single named file ends the command, exit code 2. Of several files, or a folder's, failures are reported,
the other files are still processed, and the command ends with a count and exit code 1. No torch.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial

from hfd.cli.batch import Batch
from hfd.cli.convert import Convert, Existing, Job, convert_file
from hfd.cli.processes import Limits, Outcome, Work, in_processes
from hfd.cli.progress import Terminal
from hfd.cli.totals import Totals
from hfd.errors import BatchError, ConfigError, DataError, HfdError, printable


def run(batch: Batch, convert: Convert, *, label: str, existing: Existing, limits: Limits | None = None) -> None:
    """Run every job; print a line for each, unless its bytes go to standard output; of several, one with the totals.

    ``limits``: of the processes that share the jobs; None: all run in this one. Lines, files and exit codes do not
    depend on it. Raises the :class:`HfdError` of a single file; :class:`BatchError` at the end if some of several
    failed. An error that affects all of them, such as wrong usage or a full disk, is raised at once.
    """
    count = len(batch.jobs)
    work = partial(convert_file, convert=convert, existing=existing)
    if batch.is_one:
        _say(work(batch.jobs[0]).line)
        return
    totals = Totals(count)
    outcomes = _here(batch.jobs, work) if limits is None else in_processes(batch.jobs, work, limits)
    with closing(outcomes), Terminal().bar(label, "files") as progress:
        progress(0, count)
        for done, outcome in enumerate(outcomes, start=1):
            _report(outcome, totals)
            progress(done, count)
    sys.stdout.flush()
    for line in batch.left_out:
        print(f"hfd: {printable(line)}", file=sys.stderr, flush=True)
    _say(totals.line)
    if totals.failed:
        raise BatchError(f"{totals.failed} of {count} failed")


def _here(jobs: Sequence[Job], work: Work) -> Generator[Outcome, None, None]:
    for job in jobs:
        try:
            yield Outcome(work(job))
        except HfdError as error:
            yield Outcome(error)


def _report(outcome: Outcome, totals: Totals) -> None:
    if outcome.said:
        sys.stdout.flush()
        print(outcome.said, end="", file=sys.stderr, flush=True)
    error = outcome.ended
    if not isinstance(error, HfdError):
        totals.add(error)
        _say(error.line)
        return
    if isinstance(error, ConfigError) or (isinstance(error, DataError) and error.is_outage):
        raise error
    totals.failed += 1
    sys.stdout.flush()
    print(f"hfd: {printable(str(error))}", file=sys.stderr, flush=True)


def _say(line: str | None) -> None:
    if line is not None:
        print(printable(line), flush=True)
