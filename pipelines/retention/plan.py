"""Decide which outputs of a workspace are needed. Pure: no file is read or written here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.evaluate import SPEC as EVALUATE
from pipelines.promote.step import CHAMPION_STEP
from pipelines.retention.contents import Contents, StepFolder


@dataclass(frozen=True)
class Rules:
    """``keep_last``: newest runs that stay; ``older_than_s``: younger outputs stay; both must allow a deletion.

    ``registered``: digest of a model -> what it is in the registry, such as ``coco256 version 3, champion``.
    """

    keep_last: int
    older_than_s: float
    registered: Mapping[str, str]


@dataclass(frozen=True)
class Decision:
    """``kept``: the reason of each; ``unneeded``: to delete, those that others need last."""

    kept: Mapping[str, str]
    unneeded: tuple[StepFolder, ...]

    @property
    def num_bytes(self) -> int:
        return sum(folder.num_bytes for folder in self.unneeded)


def runs_of(contents: Contents) -> list[StepFolder]:
    """Return the last step of each run, newest first: finished outputs that are no input of another.

    The copy of a champion and its evaluation are no run: a promotion made them (:func:`comparisons_of`).
    """
    used = frozenset[str]().union(*(folder.inputs for folder in contents.folders.values()))
    beside = {one.name for one in _of_champions(contents)}
    ends = [one for one in contents.folders.values() if one.finished is not None and one.digest not in used]
    return sorted(
        (one for one in ends if one.name not in beside),
        key=lambda folder: (-folder.time, -folder.written, folder.name),
    )


def comparisons_of(contents: Contents) -> dict[str, list[str]]:
    """Return the evaluations of champions by the run that compared with them: the first that ended after them.

    Those after the last run, whose promotion was interrupted, belong to the last one.
    """
    runs = runs_of(contents)
    found: dict[str, list[str]] = defaultdict(list)
    for one in _of_champions(contents) if runs else ():
        later = [run for run in runs if run.time >= one.time]
        found[(later[-1] if later else runs[0]).name].append(one.name)
    return found


def _of_champions(contents: Contents) -> list[StepFolder]:
    """Return the copies of champions and the evaluations of these models, finished ones."""
    finished = [one for one in contents.folders.values() if one.finished is not None]
    digests = {one.digest for one in finished if one.step == CHAMPION_STEP}
    return [
        one
        for one in finished
        if one.step == CHAMPION_STEP or (one.step == EVALUATE.name and not digests.isdisjoint(one.inputs))
    ]


def reached(contents: Contents, roots: Sequence[str]) -> dict[str, str]:
    """Return every output that the roots need, directly or not, with the name of one that needs it; roots: their own.

    An input is named by a digest: each output with this digest is needed.
    """
    by_digest = _by_digest(contents)
    found: dict[str, str] = {}
    waiting = [(name, name) for name in roots if name in contents.folders]
    while waiting:
        name, user = waiting.pop()
        if name not in found:
            found[name] = user
            inputs = sorted(contents.folders[name].inputs)
            waiting += [(other, name) for digest in inputs for other in by_digest.get(digest, ())]
    return found


def decide(contents: Contents, rules: Rules, now: float) -> Decision:
    """Decide by reachability from ``latest``, the registry, the newest runs and everything young; ``now``: seconds."""
    reasons: dict[str, str] = {}
    for name, what in contents.latest.items():
        reasons.setdefault(name, f"latest {what}")
    for name, folder in contents.folders.items():
        if folder.digest is not None and folder.digest in rules.registered:
            reasons.setdefault(name, rules.registered[folder.digest])
    compared = comparisons_of(contents)
    for number, folder in enumerate(runs_of(contents)[: rules.keep_last], start=1):
        reasons.setdefault(folder.name, f"run {number} of the last {rules.keep_last}")
        for name in compared.get(folder.name, ()):
            reasons.setdefault(name, f"the champion of run {number} of the last {rules.keep_last}")
    for name in sorted(contents.newest):
        reasons.setdefault(name, "newest snapshot, to copy from")
    for name, folder in contents.folders.items():
        if now - max(folder.time, folder.written) < rules.older_than_s:
            reasons.setdefault(name, "young" if folder.finished is not None else "young and unfinished")
    needed = reached(contents, list(reasons))
    kept = {name: reasons.get(name, f"needed by {user}") for name, user in needed.items()}
    left = [folder for name, folder in contents.folders.items() if name not in kept]
    # Users first: an interrupted deletion leaves no finished output without its inputs.
    return Decision(kept, tuple(sorted(left, key=lambda folder: (-folder.time, -folder.written, folder.name))))


def _by_digest(contents: Contents) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, folder in contents.folders.items():
        if folder.digest is not None:
            found[folder.digest].append(name)
    return found
