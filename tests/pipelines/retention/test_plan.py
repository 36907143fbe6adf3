"""Needed outputs: reachability against its plain definition, for any workspace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.retention.contents import Contents, StepFolder
from pipelines.retention.plan import Rules, comparisons_of, decide, reached, runs_of

NOW = 1_000_000.0
DAY = 86_400.0


def folder(
    name: str, digest: str | None = None, inputs: tuple[str, ...] = (), age_days: float = 10.0, num_bytes: int = 1
) -> StepFolder:
    time = NOW - age_days * DAY
    return StepFolder(name, 1, num_bytes, 0, time, digest, frozenset(inputs), time if digest is not None else None)


def contents(*folders: StepFolder, latest: dict[str, str] | None = None, newest: tuple[str, ...] = ()) -> Contents:
    return Contents({one.name: one for one in folders}, latest or {}, frozenset(newest), frozenset(), ())


def rules(keep_last: int = 0, older_than_days: float = 1.0, registered: dict[str, str] | None = None) -> Rules:
    return Rules(keep_last, older_than_days * DAY, registered or {})


CHAIN = (
    folder("prepare/a", "p", age_days=9),
    folder("train/a", "t", ("p",), age_days=8),
    folder("evaluate/a", "e", ("t", "images"), age_days=7),
    folder("train/b", "u", ("p",), age_days=6),
    folder("evaluate/b", "f", ("u",), age_days=5),
    folder("train/c", None, age_days=4),
)


def names(one: Contents, of: Rules) -> set[str]:
    return {left.name for left in decide(one, of, NOW).unneeded}


def test_runs_are_the_outputs_that_no_other_uses_newest_first() -> None:
    assert [run.name for run in runs_of(contents(*CHAIN))] == ["evaluate/b", "evaluate/a"]


def test_each_kind_of_root_keeps_what_it_needs() -> None:
    everything = {one.name for one in CHAIN}
    assert names(contents(*CHAIN), rules()) == everything
    assert names(contents(*CHAIN), rules(keep_last=1)) == {"train/a", "evaluate/a", "train/c"}
    assert names(contents(*CHAIN), rules(keep_last=9)) == {"train/c"}
    assert names(contents(*CHAIN, latest={"train/a": "model"}), rules()) == everything - {"train/a", "prepare/a"}
    assert names(contents(*CHAIN), rules(registered={"u": "m version 1"})) == everything - {"train/b", "prepare/a"}
    assert names(contents(*CHAIN, newest=("prepare/a",)), rules()) == everything - {"prepare/a"}
    # Of age 5 and 4 days: the evaluation with all that it needs, and a training that has not ended.
    young = {"evaluate/b", "train/b", "prepare/a", "train/c"}
    assert names(contents(*CHAIN), rules(older_than_days=5.5)) == everything - young


def promoted(week: int) -> tuple[StepFolder, ...]:
    """A retraining that ends with a promotion, on day ``week``."""
    ages = [30.0 - week - part / 10 for part in range(3)]
    return (
        folder(f"train/{week}", f"m{week}", ("photographs",), age_days=ages[0]),
        folder(f"evaluate/{week}", f"e{week}", (f"m{week}", "images"), age_days=ages[1]),
        folder(f"promote/{week}", f"v{week}", (f"m{week}", f"e{week}"), age_days=ages[2]),
    )


def test_the_evaluation_of_a_champion_is_no_run_and_stays_with_the_run_that_compared_with_it() -> None:
    """Model 1 became champion; week 3 fetched it and measured it again, between its evaluation and its promotion."""
    copy = folder("champion/1", "m1", ("m1",), age_days=26.85)
    again = folder("evaluate/again", "other", ("m1", "other images"), age_days=26.82)
    weeks = [one for week in (1, 2, 3, 4) for one in promoted(week)]
    found = contents(*weeks, copy, again)
    assert [run.name for run in runs_of(found)] == ["promote/4", "promote/3", "promote/2", "promote/1"]
    assert comparisons_of(found)["promote/3"] == ["champion/1", "evaluate/again"]
    champion = {"m1": "m version 1, champion"}
    unneeded = {"promote/1", "evaluate/1"}  # the first week's, but for the registered model
    assert names(found, rules(keep_last=3, registered=champion)) == unneeded
    assert names(found, rules(keep_last=2, registered=champion)) == unneeded | {one.name for one in promoted(2)}
    last = unneeded | {one.name for week in (2, 3) for one in promoted(week)} | {"evaluate/again"}
    assert names(found, rules(keep_last=1, registered=champion)) == last
    # The promotion of a fifth week was killed after it had measured the champion.
    killed = folder("evaluate/killed", "third", ("m1", "new images"), age_days=24.0)
    assert comparisons_of(contents(*weeks, copy, killed))["promote/4"] == ["evaluate/killed"]


def test_reasons_are_named() -> None:
    kept = decide(contents(*CHAIN, latest={"train/a": "model"}), rules(1, registered={"t": "m version 3"}), NOW).kept
    assert kept == {
        "train/a": "latest model",
        "evaluate/b": "run 1 of the last 1",
        "train/b": "needed by evaluate/b",
        "prepare/a": kept["prepare/a"],
    }
    assert kept["prepare/a"] in ("needed by train/a", "needed by train/b")


def test_users_are_deleted_before_what_they_use() -> None:
    order = [left.name for left in decide(contents(*CHAIN[:3]), rules(), NOW).unneeded]
    assert order == ["evaluate/a", "train/a", "prepare/a"]


@st.composite
def workspaces(draw: st.DrawFn) -> tuple[Contents, Rules]:
    """Any graph of outputs, in which an input is of an earlier one or of none here; several may have one digest."""
    count = draw(st.integers(0, 12))
    folders: list[StepFolder] = []
    for i in range(count):
        known = [one.digest for one in folders if one.digest is not None] + ["outside"]
        digest = draw(st.none() | st.sampled_from([f"d{i}", "shared"]))
        inputs = draw(st.lists(st.sampled_from(known), max_size=3)) if digest is not None else []
        folders.append(folder(f"s/{i}", digest, tuple(inputs), draw(st.floats(0, 20))))
    names_ = [one.name for one in folders] + ["s/missing"]
    latest = draw(st.dictionaries(st.sampled_from(names_), st.just("model"), max_size=2))
    newest = tuple(draw(st.lists(st.sampled_from(names_), max_size=1)))
    registered = draw(st.dictionaries(st.sampled_from(["d0", "d3", "shared"]), st.just("m"), max_size=2))
    given_rules = rules(draw(st.integers(0, 4)), draw(st.floats(0, 20)), registered)
    return contents(*folders, latest=latest, newest=newest), given_rules


@given(workspaces())
def test_nothing_that_a_kept_output_needs_is_deleted_and_nothing_else_is_kept(case: tuple[Contents, Rules]) -> None:
    found, of = case
    decision = decide(found, of, NOW)
    left = {one.name for one in decision.unneeded}
    assert left | set(decision.kept) == set(found.folders) and not left & set(decision.kept)
    roots = {name for name in (*found.latest, *found.newest) if name in found.folders}
    roots |= {one.name for one in found.folders.values() if one.digest in of.registered}
    roots |= {one.name for one in runs_of(found)[: of.keep_last]}
    roots |= {one.name for one in found.folders.values() if NOW - one.time < of.older_than_s}
    assert not roots & left
    for name in decision.kept:
        for other in found.folders.values():
            if other.digest is not None and other.digest in found.folders[name].inputs:
                assert other.name not in left
    # By repetition until nothing is added: what the roots need.
    needed, before = set(roots), -1
    while len(needed) != before:
        before = len(needed)
        inputs = {digest for name in needed for digest in found.folders[name].inputs}
        needed |= {one.name for one in found.folders.values() if one.digest in inputs}
    assert set(decision.kept) == needed == set(reached(found, sorted(roots)))
