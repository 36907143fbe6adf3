"""The soak's plan of weeks, and its checks, which notice each kind of fault in made records."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.faults.steps import Ended
from benchmarks.soak import checks
from benchmarks.soak.plan import DAMAGED, FAULTS, FIRST_PHOTOS, plan_weeks
from benchmarks.soak.records import (
    Champion,
    Criterion,
    Journal,
    Output,
    PhotoRow,
    TrackedRun,
    Verdict,
    WeekRecord,
    Workspace,
)
from benchmarks.soak.report import markdown, summary

YEAR = plan_weeks(0, 52)
DONE, STOPPED = Ended(0, "", ""), Ended(2, "", "hfd: workspace: got x, expected y")
CRASHED = Ended(1, "", "Traceback (most recent call last):\n  File")


def test_a_longer_plan_begins_with_the_shorter_one_and_another_seed_differs() -> None:
    assert plan_weeks(0, 9) == YEAR[:9]
    assert plan_weeks(1, 9) != YEAR[:9]


def test_each_fault_comes_once_before_any_comes_again() -> None:
    for start in range(0, 48, len(FAULTS)):
        assert sorted(week.fault for week in YEAR[start : start + len(FAULTS)]) == sorted(FAULTS)
    assert {week.fault for week in plan_weeks(3, 12, ("none", "s3-down"))} == {"none", "s3-down"}


def test_pictures_are_added_each_week_and_some_are_replaced_and_deleted() -> None:
    assert len(YEAR[0].corpus) == FIRST_PHOTOS
    kinds = {"replaced": 0, "deleted": 0}
    for before, after in pairwise(YEAR):
        old, new = (
            {one.name: one.seed for one in before.corpus},
            {one.name: one.seed for one in after.corpus},
        )
        assert new.keys() - old.keys()
        kinds["deleted"] += len(old.keys() - new.keys())
        kinds["replaced"] += sum(old[name] != new[name] for name in old.keys() & new.keys())
    assert all(kinds.values())
    seeds = [one.seed for one in YEAR[-1].corpus]
    assert len(set(seeds)) == len(seeds)
    assert {len(week.damaged) for week in YEAR if week.fault == "damaged"} == {DAMAGED}
    assert {len(week.damaged) for week in YEAR if week.fault != "damaged"} == {0}


@pytest.mark.parametrize(
    ("attempts", "killed", "passes"),
    [
        ([DONE], (), True),
        ([DONE, DONE], (), True),
        ([STOPPED, DONE], (), True),
        ([Ended(-9, "", ""), DONE], (0,), True),
        ([Ended(-9, "", ""), DONE], (), False),
        ([CRASHED, DONE], (), False),
        ([Ended(2, "", "hfd: one\nline too many"), DONE], (), False),
        ([STOPPED, STOPPED], (), False),
    ],
)
def test_only_one_line_or_a_kill_may_precede_success(
    attempts: list[Ended], killed: tuple[int, ...], passes: bool
) -> None:
    assert (checks.check_ended(attempts, killed) == []) == passes


ROWS = [
    PhotoRow("a", "1", None, "train-0", 0, 2),
    PhotoRow("b", "2", None, "train-0", 2, 1),
    PhotoRow("c", "3", "truncated"),
    PhotoRow("d", "4", "near-duplicate"),
]
LISTED = {"a": "1", "b": "2", "c": "3", "d": "4"}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (ROWS, ""),
        (ROWS[1:], "a is lost"),
        ([*ROWS, ROWS[3]], "d has 2 rows"),
        ([*ROWS, PhotoRow("e", "5", "duplicate")], "e is not in the corpus"),
        ([replace(ROWS[0], stamp="9"), *ROWS[1:]], "a has the ETag 9"),
        ([ROWS[0], replace(ROWS[1], first=1), *ROWS[2:]], "do not follow"),
        ([ROWS[0], replace(ROWS[1], first=3), *ROWS[2:]], "do not follow"),
        ([ROWS[0], replace(ROWS[1], crops=0), *ROWS[2:]], "b is kept without crops"),
        ([replace(ROWS[0], reason="permission"), replace(ROWS[1], first=0), *ROWS[2:]], "a is rejected as permission"),
    ],
)
def test_lost_doubled_and_wrongly_rejected_photographs_are_noticed(rows: list[PhotoRow], problem: str) -> None:
    found = checks.check_photos(LISTED, rows, {"c": {"truncated"}})
    assert bool(found) == bool(problem)
    assert problem in "".join(found)


OLD, NEW = Champion(1, "x"), Champion(2, "y")


def verdict(kd: float, psnr: float, bpp: float, *, promoted: bool = True, passed: bool = True) -> Verdict:
    lines = (("KD-EffNet", 0.5, kd), ("PSNR dB", 30.0, psnr), ("bpp", 0.25, bpp), ("decodes", None, None))
    criteria = tuple(Criterion(name, old, new, passed) for name, old, new in lines)
    return Verdict(promoted, 2 if promoted else None, criteria)


@pytest.mark.parametrize(
    ("before", "after", "found", "problem"),
    [
        (OLD, NEW, verdict(0.4, 29.95, 0.254), ""),
        (OLD, OLD, verdict(0.6, 20.0, 0.9, promoted=False, passed=False), ""),
        (None, NEW, Verdict(True, 2, (Criterion("decodes", None, None, True),)), ""),
        (OLD, NEW, verdict(0.5, 30.0, 0.25), "KD-EffNet rose"),
        (OLD, NEW, verdict(0.4, 29.8, 0.25), "PSNR fell"),
        (OLD, NEW, verdict(0.4, 30.0, 0.26), "bpp rose"),
        (OLD, NEW, verdict(0.4, 30.0, 0.25, passed=False), "failed KD-EffNet"),
        (OLD, NEW, verdict(0.4, 30.0, 0.25, promoted=False), "without a promotion"),
        (OLD, Champion(3, "z"), verdict(0.4, 30.0, 0.25), "is version 3"),
        (OLD, None, verdict(0.4, 30.0, 0.25), "there is none"),
        (OLD, NEW, Verdict(True, 2, (Criterion("KD-EffNet", None, 0.4, True),)), "without a KD-EffNet of both"),
    ],
)
def test_a_champion_that_is_worse_or_lost_is_noticed(
    before: Champion | None, after: Champion | None, found: Verdict, problem: str
) -> None:
    problems = checks.check_champion(before, after, found, 0.1, 0.02)
    assert bool(problems) == bool(problem)
    assert problem in "".join(problems)


def test_a_champion_that_measures_otherwise_than_when_it_was_promoted_is_noticed() -> None:
    known = {"KD-EffNet": 0.5, "PSNR dB": 30.0, "bpp": 0.25}
    assert checks.check_figures(known, verdict(0.9, 10.0, 0.9)) == []
    assert checks.check_figures({}, verdict(0.9, 10.0, 0.9)) == []
    (problem,) = checks.check_figures(known | {"PSNR dB": 30.01}, verdict(0.9, 10.0, 0.9))
    assert "PSNR dB is 30.0, was 30.01" in problem


def output(name: str, digest: str | None, *inputs: str, finished: str = "1") -> Output:
    return Output(name, {"data": 10, "manifest.json": 1}, digest, frozenset(inputs), finished)


def workspace(*without: str) -> Workspace:
    """Five retrainings; the champion is of the first."""
    outputs = []
    for number in range(1, 6):
        outputs += [
            output(f"prepare/{number}", f"p{number}", "corpus", finished=f"{number}a"),
            output(f"train-decoder/{number}", f"m{number}", f"p{number}", finished=f"{number}b"),
            output(f"promote/{number}", f"v{number}", f"m{number}", finished=f"{number}c"),
        ]
    latest = frozenset({"train-decoder/5"})
    return Workspace({one.name: one for one in outputs if one.name not in without}, latest)


UNNEEDED = ("prepare/2", "train-decoder/2", "promote/1", "promote/2")


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        (UNNEEDED, ""),
        ((*UNNEEDED, "prepare/1"), "prepare/1 is needed"),
        ((*UNNEEDED, "train-decoder/1"), "train-decoder/1 is needed"),
        ((*UNNEEDED, "promote/3"), "promote/3 is needed"),
        ((*UNNEEDED, "train-decoder/5"), "train-decoder/5 of latest.json is gone"),
        ((), "165 bytes, expected at most 121"),
    ],
)
def test_a_cleaning_that_deletes_too_much_or_too_little_is_noticed(gone: tuple[str, ...], problem: str) -> None:
    problems = checks.check_retention(workspace(), workspace(*gone), Champion(1, "m1"), 11 * 11)
    assert bool(problems) == bool(problem)
    assert problem in "".join(problems)


def test_a_needed_output_that_lost_a_file_is_noticed() -> None:
    damaged = workspace(*UNNEEDED)
    half = replace(damaged.outputs["prepare/5"], files={"manifest.json": 1})
    after = Workspace({**damaged.outputs, "prepare/5": half}, damaged.latest)
    (problem,) = checks.check_retention(workspace(), after, None, 1000)
    assert problem == "retention: prepare/5 is needed, 1 of its files are gone or changed"


def test_the_largest_run_is_a_promotion_with_all_that_it_needs() -> None:
    assert checks.largest_run(workspace()) == 3 * 11
    assert checks.largest_run(Workspace({}, frozenset())) == 0


def test_runs_that_are_left_open_and_children_without_parent_are_noticed() -> None:
    parent, child = TrackedRun("1", "FINISHED", None), TrackedRun("2", "FINISHED", "1")
    assert checks.check_tracking([parent, child], (), may_run=False) == []
    assert "has the parent 1" in checks.check_tracking([child], (), may_run=False)[0]
    left_open = replace(child, status="RUNNING")
    assert "2 is RUNNING" in checks.check_tracking([parent, left_open], (), may_run=False)[0]
    assert checks.check_tracking([parent, left_open], (), may_run=True) == []
    assert "2 is RUNNING" in checks.check_tracking([parent, left_open], ("2",), may_run=True)[0]


def record(number: int, *problems: str) -> WeekRecord:
    return WeekRecord(
        number, "none", "", "FAILED" if problems else "done", 10, 1, Champion(number, "x"), True, {"bpp": 0.5}, 300,
        100, ("7",), 1.5, 2.5, "", problems,
    )  # fmt: skip


def test_the_journal_and_the_report_hold_every_week(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "weeks.jsonl")
    assert journal.read() == []
    weeks = [record(1), replace(record(2, "photos: a is lost"), champion=None)]
    for one in weeks:
        journal.add(one)
    assert Journal(tmp_path / "weeks.jsonl").read() == weeks
    assert summary(weeks, 52) == "1 of 52 weeks"
    page = markdown(weeks, 52, ["`command`"])
    assert page.count("| none |") == 3
    assert "- week 2: photos: a is lost" in page
