"""``hfd runs`` and ``hfd clean``: their lines, and the deletion under the lease of the workspace."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfd.config import Config
from hfd.errors import ConfigError
from hfd.io.storage import Folder
from pipelines.context import Display
from pipelines.registry.registered import registered_models
from pipelines.retention.contents import Contents, StepFolder, read_contents
from pipelines.retention.delete import delete_checkpoints, delete_outputs, drop_stale_marks
from pipelines.retention.plan import Decision, Rules, comparisons_of, decide, reached, runs_of
from pipelines.runs.lease import lease

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Cleaning:
    """Options of a cleaning. ``yes``: delete, or list alone; ``checkpoints``: those of finished trainings alone."""

    keep_last: int
    older_than: str
    checkpoints: bool = False
    yes: bool = False


def parse_age(text: str) -> float:
    """Return the seconds of ``12 h``, ``30d`` or ``2 w``. Raises :class:`ConfigError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text)
    if match is None or match[2] not in _UNITS:
        raise ConfigError(f"--older-than: got {text!r}, expected a number and one of {', '.join(_UNITS)}, such as 30d")
    return float(match[1]) * _UNITS[match[2]]


def workspace_of(config: Config) -> Folder:
    folder = Folder(config.workspace_uri)
    return Folder(str(folder.path)) if folder.is_local else folder


def clean(config: Config, cleaning: Cleaning, display: Display) -> None:
    """List what nothing needs and, with ``yes``, delete it while no run works on the workspace.

    Raises :class:`hfd.errors.HfdError` with one line, before anything is deleted, if the registry does not answer or a
    run holds the workspace.
    """
    older_than_s, workspace = parse_age(cleaning.older_than), workspace_of(config)
    if not cleaning.yes:
        rules = Rules(cleaning.keep_last, older_than_s, registered_models(config))
        _clean_now(workspace, read_contents(workspace), cleaning, rules, display, None)
        return
    read_contents(workspace)  # a lease would be written into a folder that is no workspace
    with lease(workspace, config.lease.model_copy(update={"use": True})) as held:
        assert held is not None
        # Under the lease: a run that ended just before has its outputs and its model in these.
        rules = Rules(cleaning.keep_last, older_than_s, registered_models(config))
        _clean_now(workspace, read_contents(workspace), cleaning, rules, display, held.check)


def _clean_now(
    workspace: Folder,
    contents: Contents,
    cleaning: Cleaning,
    rules: Rules,
    display: Display,
    guard: Callable[[], None] | None,
) -> None:
    now = time.time()
    if contents.foreign:
        display.say(f"{workspace.uri}: left alone, not the output of a step: {', '.join(contents.foreign)}")
    if cleaning.checkpoints:
        _clean_checkpoints(workspace, contents, display, guard)
        return
    decision = decide(contents, rules, now)
    for folder in decision.unneeded:
        state = "unfinished" if folder.finished is None else "finished"
        display.say(f"{folder.name:<36} {_size(folder.num_bytes):>9}  {state} {_age(now - folder.time)} ago")
    if guard is not None:
        drop_stale_marks(workspace, contents)
        with display.bar("clean", "outputs") as progress:
            delete_outputs(workspace, decision.unneeded, guard, progress)
    display.say(_total(decision, contents, deleted=guard is not None))


def _clean_checkpoints(
    workspace: Folder, contents: Contents, display: Display, guard: Callable[[], None] | None
) -> None:
    found = [one for one in contents.folders.values() if one.finished is not None and one.checkpoint_bytes]
    for folder in found:
        display.say(f"{folder.name + '/checkpoints':<36} {_size(folder.checkpoint_bytes):>9}")
    if guard is not None:
        with display.bar("clean", "trainings") as progress:
            delete_checkpoints(workspace, found, guard, progress)
    total = _size(sum(folder.checkpoint_bytes for folder in found))
    display.say(f"checkpoints of {len(found)} finished trainings, {total}: {_done(guard is not None)}")


def _total(decision: Decision, contents: Contents, *, deleted: bool) -> str:
    kept = sum(contents.folders[name].num_bytes for name in decision.kept)
    return (
        f"{len(decision.unneeded)} of {len(contents.folders)} outputs, {_size(decision.num_bytes)}: {_done(deleted)}; "
        f"{len(decision.kept)} kept, {_size(kept)}"
    )


def _done(deleted: bool) -> str:
    return "deleted" if deleted else "would be deleted with --yes"


@dataclass(frozen=True)
class RunState:
    """A run of a workspace. ``end``: its last output; ``outputs``: all that it needs, and the champion that
    it compared with; ``marks``: latest, registry."""

    end: StepFolder
    outputs: Sequence[StepFolder]
    marks: Sequence[str]

    def to_record(self, now: float) -> dict[str, Any]:
        return {
            "run": self.end.name,
            "finished": self.end.finished,
            "age_s": round(now - self.end.time),
            "bytes": sum(one.num_bytes for one in self.outputs),
            "outputs": [one.name for one in self.outputs],
            "marks": list(self.marks),
        }


def list_runs(config: Config) -> list[RunState]:
    """Return finished runs, newest first, then unfinished outputs. Raises :class:`hfd.errors.HfdError`."""
    contents, registered = read_contents(workspace_of(config)), registered_models(config)
    return list(_runs(contents, registered))


def _runs(contents: Contents, registered: Mapping[str, str]) -> Iterator[RunState]:
    compared = comparisons_of(contents)
    for end in runs_of(contents):
        needed = reached(contents, [end.name, *compared.get(end.name, ())])
        outputs = [contents.folders[name] for name in sorted(needed)]
        marks = [f"latest {contents.latest[one.name]}" for one in outputs if one.name in contents.latest]
        marks += [registered[one.digest] for one in outputs if one.digest is not None and one.digest in registered]
        yield RunState(end, outputs, marks)
    for one in sorted(contents.folders.values(), key=lambda folder: -folder.time):
        if one.finished is None:
            yield RunState(one, [one], ["being deleted" if one.name in contents.marked else "unfinished"])


def run_table(runs: Sequence[RunState], now: float) -> str:
    """Format one line for each run, and one for each of its outputs."""
    lines = []
    for run in runs:
        size = _size(sum(one.num_bytes for one in run.outputs))
        marks = f"  {', '.join(run.marks)}" if run.marks else ""
        lines.append(f"{run.end.name:<36} {_age(now - run.end.time):>7} {size:>9}{marks}")
        lines += [f"  {one.name:<34} {'':>7} {_size(one.num_bytes):>9}" for one in run.outputs if one != run.end]
    return "\n".join(lines)


def _size(num_bytes: int) -> str:
    value, units = float(num_bytes), iter(("kB", "MB", "GB", "TB"))
    unit = "B"
    while value >= 999.5 and (larger := next(units, None)) is not None:
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 99.5 or unit == "B" else f"{value:.1f} {unit}"


def _age(seconds: float) -> str:
    for unit in ("w", "d", "h", "min"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
