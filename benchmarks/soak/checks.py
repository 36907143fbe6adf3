"""Checks on the records of a week. Pure: each returns its problems, one line each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from benchmarks.faults.steps import Ended
from benchmarks.soak.records import Champion, PhotoRow, TrackedRun, Verdict, Workspace

ALIKE = frozenset({"duplicate", "near-duplicate", "in-evaluation"})
"""Reasons for which any photograph may be rejected: it resembles another."""

KEEP_LAST = 3
SAME = 1e-6
"""Largest difference of a figure that is measured again, as a share."""


def check_ended(attempts: Sequence[Ended], killed: Collection[int]) -> list[str]:
    """Each attempt succeeds or, before another one, stops with one line and exit code 2 or was killed."""
    problems = []
    for number, ended in enumerate(attempts):
        followed = number < len(attempts) - 1
        if ended.code != 0 and not (followed and (ended.is_one_line or number in killed)):
            problems.append(f"attempt {number + 1}: exit code {ended.code}: {ended.err[-2000:]}")
    return problems


def check_photos(
    listed: Mapping[str, str], rows: Sequence[PhotoRow], rejects: Mapping[str, Collection[str]]
) -> list[str]:
    """The photo table holds each listed object once, with its ETag; only those that may be are rejected.

    ``listed``: name to ETag. ``rejects``: the reasons for which a photograph may be rejected, by its name.
    """
    counts = Counter(row.name for row in rows)
    problems = [f"photos: {name} has {count} rows" for name, count in sorted(counts.items()) if count > 1]
    problems += [f"photos: {name} is lost" for name in sorted(listed.keys() - counts.keys())]
    problems += [f"photos: {name} is not in the corpus" for name in sorted(counts.keys() - listed.keys())]
    for row in rows:
        if row.name in listed and listed[row.name] != row.stamp:
            problems.append(f"photos: {row.name} has the ETag {row.stamp}, expected {listed[row.name]}")
        if row.reason is not None and row.reason not in ALIKE and row.reason not in rejects.get(row.name, ()):
            problems.append(f"photos: {row.name} is rejected as {row.reason}")
        if row.reason is None and not row.crops:
            problems.append(f"photos: {row.name} is kept without crops")
    return problems + _check_rows(rows)


def _check_rows(rows: Sequence[PhotoRow]) -> list[str]:
    """The crops of kept photographs follow one another in each shard without gap or overlap."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(lambda: [(0, 0)])
    for row in rows:
        if row.reason is None:
            first = -1 if row.first is None else row.first
            spans[row.shard].append((first, first + row.crops))
    return [
        f"photos: rows of {shard} do not follow one another: {sorted(found)}"
        for shard, found in sorted(spans.items())
        if any(stop != start for (_, stop), (start, _) in pairwise(sorted(found)))
    ]


def check_champion(
    before: Champion | None, after: Champion | None, verdict: Verdict, max_psnr_loss_db: float, max_bpp_rise: float
) -> list[str]:
    """The champion changes only to a model that is better by the gate's own figures."""
    if after is None:
        return ["champion: there is none" + (f", version {before.version} was" if before else "")]
    if not verdict.promoted:
        return [] if after == before else [f"champion: became version {after.version} without a promotion"]
    problems = [f"champion: promoted with a failed {one.name}" for one in verdict.criteria if not one.passed]
    if verdict.version != after.version:
        problems.append(f"champion: is version {after.version}, expected {verdict.version}, which was promoted")
    if before is None:
        return problems
    for one in verdict.criteria:
        if one.name in ("decodes", "images"):
            continue
        if one.champion is None or one.candidate is None:
            problems.append(f"champion: replaced without a {one.name} of both")
        elif one.name == "PSNR dB":
            if one.candidate < one.champion - max_psnr_loss_db - SAME:
                problems.append(f"champion: PSNR fell from {one.champion} to {one.candidate} dB")
        elif one.name == "bpp":
            if one.candidate > one.champion * (1.0 + max_bpp_rise) + SAME:
                problems.append(f"champion: bpp rose from {one.champion} to {one.candidate}")
        elif one.candidate >= one.champion:
            problems.append(f"champion: {one.name} rose from {one.champion} to {one.candidate}")
    return problems


def check_figures(known: Mapping[str, float], verdict: Verdict) -> list[str]:
    """The champion, measured again, has the figures that were recorded when it was promoted."""
    measured = {one.name: one.champion for one in verdict.criteria if one.champion is not None}
    return [
        f"champion: {name} is {value}, was {known[name]} when it was promoted"
        for name, value in sorted(measured.items())
        if name in known and abs(value - known[name]) > SAME * max(1.0, abs(known[name]))
    ]


def check_retention(before: Workspace, after: Workspace, champion: Champion | None, limit: int) -> list[str]:
    """A cleaning keeps what latest.json, the champion and the last promotions need, whole, within ``limit`` bytes."""
    ends = [one for one in before.outputs.values() if one.step == "promote" and one.digest is not None]
    last = sorted(ends, key=lambda one: (one.finished, one.name))[-KEEP_LAST:]
    ours = [one.name for one in before.outputs.values() if champion is not None and one.digest == champion.digest]
    problems = [f"retention: {name} of latest.json is gone" for name in sorted(before.latest - after.outputs.keys())]
    for name in sorted(before.reached([*before.latest, *ours, *(one.name for one in last)])):
        left = after.outputs[name].files if name in after.outputs else {}
        if left != before.outputs[name].files:
            lost = sorted(before.outputs[name].files.keys() - left.keys())
            problems.append(f"retention: {name} is needed, {len(lost)} of its files are gone or changed")
    if after.num_bytes > limit:
        problems.append(f"retention: {after.num_bytes} bytes, expected at most {limit}")
    return problems


def check_tracking(runs: Sequence[TrackedRun], earlier: Collection[str], *, may_run: bool) -> list[str]:
    """Every parent exists, and no run is RUNNING after its week.

    ``may_run``: a kill or an outage of MLflow may have left runs of this week open, which the next run of the workspace
    closes. ``earlier``: ids of the runs that were open before this week.
    """
    known = {run.run_id for run in runs}
    orphans = [run for run in runs if run.parent is not None and run.parent not in known]
    open_runs = [run for run in runs if run.status == "RUNNING" and (not may_run or run.run_id in earlier)]
    return [
        *(f"MLflow: run {run.run_id} has the parent {run.parent}, which does not exist" for run in orphans),
        *(f"MLflow: run {run.run_id} is RUNNING after its week" for run in open_runs),
    ]


def largest_run(workspace: Workspace) -> int:
    """Return the bytes of the largest retraining: a promotion and all that it needs."""
    ends = [one.name for one in workspace.outputs.values() if one.step == "promote" and one.digest is not None]
    return max((sum(workspace.outputs[name].num_bytes for name in workspace.reached([end])) for end in ends), default=0)
