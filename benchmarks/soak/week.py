"""Run a week: change the corpus, retrain under the fault, clean, and check what is left."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.faults.outages import outages
from benchmarks.faults.small_disk import small_disk
from benchmarks.faults.steps import Ended, Running
from benchmarks.soak import checks, look
from benchmarks.soak.plan import Week
from benchmarks.soak.records import Verdict, WeekRecord
from benchmarks.soak.world import MAX_BPP_RISE, MAX_PSNR_LOSS_DB, PHOTOGRAPHS, WORKSPACE, World

SPARE_RUNS = 2
"""Retrainings that the limit of the workspace allows beside the last ones and the registered versions: the one that
latest.json names, and what prepare copies from."""

_UNREAD = ("parts/", "features/", "files/", "examples/")
"""Folders of outputs that only the step itself reads, or people."""

_OUTPUT = re.compile(rf"({re.escape(WORKSPACE)}/[a-z-]+/[0-9a-f]{{16}})")


@dataclass
class Attempts:
    """The commands of a week in order; ``killed``: indices of those that the fault killed.

    ``met``: the moment of the fault came. ``beside``: a second schedule. ``removed``: the object that was deleted;
    ``repaired``: the output that was deleted because a line named it.
    """

    ended: list[Ended] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    met: bool = True
    beside: Ended | None = None
    removed: str = ""
    repaired: str = ""


def run_week(world: World, week: Week, before: Week | None, last: WeekRecord | None) -> WeekRecord:
    """Run one week. ``last``: the record of the week before."""
    started, cpu = time.monotonic(), _cpu_of_children()
    world.set_corpus(week, before)
    listed = look.list_corpus(world.store)
    attempts = _retrain(world, week)
    trained = look.read_workspace(world.store)
    rows = look.read_photos(world.store, trained)
    verdict = look.read_verdict(trained)
    champion = look.read_champion(world)
    cleaned = Running(world.cleaning(), world.environment).wait()
    left = look.read_workspace(world.store)
    world.server.vacuum()
    largest = max(checks.largest_run(trained), last.largest_run if last else 0)
    limit = (checks.KEEP_LAST + look.count_versions(world) + SPARE_RUNS) * largest
    runs = look.read_runs(world)
    known = dict(last.figures) if last else {}
    problems = [
        *checks.check_ended(attempts.ended, attempts.killed),
        *_check_beside(attempts),
        *checks.check_photos(listed, rows, _allowed_rejects(week, attempts)),
        *checks.check_champion(last.champion if last else None, champion, verdict, MAX_PSNR_LOSS_DB, MAX_BPP_RISE),
        *checks.check_figures(known, verdict),
        *([] if cleaned.code == 0 else [f"clean: exit code {cleaned.code}: {cleaned.err[-2000:]}"]),
        *checks.check_retention(trained, left, champion, limit),
        *checks.check_tracking(
            runs, last.running if last else (), may_run=bool(attempts.killed) or week.fault == "mlflow-down"
        ),
    ]
    return WeekRecord(
        week.number, week.fault, _moment(week, attempts), _outcome(attempts, problems), len(rows),
        sum(row.reason is not None for row in rows), champion, verdict.promoted, _figures(known, verdict),
        left.num_bytes, largest, tuple(run.run_id for run in runs if run.status == "RUNNING"),
        round(_cpu_of_children() - cpu, 1), round(time.monotonic() - started, 1), attempts.ended[0].err[-500:],
        tuple(problems),
    )  # fmt: skip


def _retrain(world: World, week: Week) -> Attempts:
    """Retrain under the fault of the week, then run the same command again if it stopped."""
    attempts = Attempts()
    if week.fault == "deleted-output":
        attempts.removed = _delete_output(world, week)
    with world.watching(week) as moment, _fault(world, week, attempts) as (act, environment):
        running = Running(world.retraining(week), environment)
        while running.process.poll() is None and not moment.wait(0.02):
            pass
        attempts.met = moment.is_set()
        if attempts.met:
            act(running)
        first = running.wait()
    attempts.ended.append(first)
    if first.code == 0 and attempts.beside is None:
        return attempts
    attempts.ended.append(Running(world.retraining(week), world.environment).wait())
    named = _OUTPUT.search(attempts.ended[-1].err)
    if week.fault == "deleted-output" and attempts.ended[-1].is_one_line and named is not None:
        attempts.repaired = named[1]  # the line names the output that lacks a file: delete it, as the line says
        for item in world.store.objects(f"{named[1]}/"):
            world.store.delete(f"s3://tests/{item.key}")
        attempts.ended.append(Running(world.retraining(week), world.environment).wait())
    return attempts


@contextlib.contextmanager
def _fault(
    world: World, week: Week, attempts: Attempts
) -> Iterator[tuple[Callable[[Running], None], Mapping[str, str]]]:
    """Yield the function that begins the fault of a week, and the environment of its command; mend it afterwards."""

    def start_another(_: Running) -> None:
        attempts.beside = Running(world.retraining(week), world.environment).wait()

    def delete_photo(_: Running) -> None:
        attempts.removed = week.corpus[int(week.chance * len(week.corpus))].name
        world.store.delete(f"{PHOTOGRAPHS}/{attempts.removed}")

    def kill(running: Running) -> None:
        if running.process.poll() is None:
            attempts.killed.add(0)
        running.kill()

    with contextlib.ExitStack() as stack:
        acts = dict(stack.enter_context(outages(world.proxy, world.mlflow, week.away_s)))
        acts |= {"kill-driver": kill, "two-schedules": start_another, "deleted-photo": delete_photo}
        environment = world.environment
        if week.fault == "disk-full":
            disk = stack.enter_context(small_disk())
            disk.leave(week.disk_kib)
            environment = environment | {"TMPDIR": str(disk.folder)}
        world.proxy.share_of_503 = 0.1 if week.fault == "s3-503" else 0.0
        try:
            yield acts.get(week.fault, lambda _: None), environment
        finally:
            world.proxy.share_of_503 = 0.0


def _delete_output(world: World, week: Week) -> str:
    """Delete a file of an output that a retraining reads, by chance; return its name.

    Read again are the newest photo table and its shards, the copy of the champion, and the evaluation of it.
    """
    workspace, champion = look.read_workspace(world.store), look.read_champion(world)
    newest = workspace.newest("prepare")
    read = [newest] if newest is not None else []
    for one in workspace.outputs.values():
        copy = one.step == "champion" and champion is not None and one.digest == champion.digest
        if copy or (one.step == "evaluate" and champion is not None and champion.digest in one.inputs):
            read.append(one)
    if not read:
        return ""
    rng = random.Random(f"{week.number} {week.chance}")
    output = rng.choice(sorted(read, key=lambda one: one.name))
    name = f"{output.name}/{rng.choice(sorted(name for name in output.files if not name.startswith(_UNREAD)))}"
    world.store.delete(f"{WORKSPACE}/{name}")
    return name


def _allowed_rejects(week: Week, attempts: Attempts) -> dict[str, set[str]]:
    allowed = {name: {"truncated", "damaged", "not-an-image", "unusable"} for name in week.damaged}
    if week.fault == "deleted-photo" and attempts.removed:
        allowed[attempts.removed] = {"missing"}
    return allowed


def _check_beside(attempts: Attempts) -> list[str]:
    """Of two schedules at once, one works, and the other ends with one line or finds everything done."""
    if attempts.beside is None or attempts.beside.code == 0 or attempts.beside.is_one_line:
        return []
    return [f"second schedule: exit code {attempts.beside.code}: {attempts.beside.err[-2000:]}"]


def _figures(known: Mapping[str, float], verdict: Verdict) -> dict[str, float]:
    """Return the figures of the champion: those of its own promotion."""
    if not verdict.promoted:
        return dict(known)
    return {one.name: one.candidate for one in verdict.criteria if one.candidate is not None} or dict(known)


def _outcome(attempts: Attempts, problems: list[str]) -> str:
    if problems:
        return "FAILED"
    if attempts.repaired:
        return "by hand"
    return "done" if attempts.ended[0].code == 0 else "rerun"


def _moment(week: Week, attempts: Attempts) -> str:
    if week.fault in ("none", "s3-503", "damaged"):
        return ""
    if week.fault == "disk-full":
        return f"{week.disk_kib} KiB"
    if week.fault == "deleted-output":
        return attempts.removed or "nothing there yet"
    away = f", {week.away_s:g} s" if week.fault not in ("kill-driver", "two-schedules", "deleted-photo") else ""
    return f"{week.step} {week.request}{away}" if attempts.met else "not met"


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
