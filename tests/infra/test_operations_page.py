"""The operator's page: its commands are valid, its files exist, its table is the script's output."""

from __future__ import annotations

import re
import runpy
import shlex

import pytest
import typer

from pipelines.cli import app
from pipelines.jobs.plan import plan_job, read_command
from tests.support.command_line import Hfd
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def commands(page: str) -> list[list[str]]:
    """Every ``hfd`` command of the page's shell blocks, comments and line breaks taken out."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "hfd":
                found.append(words[1:])
    return found


def test_commands_are_found() -> None:
    page = "```sh\nhfd a b \\\n  c=d   # why\n# hfd no\nls\n```\nhfd prose\n```sh\nhfd e\n```\n"
    assert commands(page) == [["a", "b", "c=d"], ["e"]]
    assert len(commands(PAGE)) >= 7
    assert {words[0] for words in commands(PAGE)} >= {"retrain", "submit", "jobs", "stop"}


@pytest.mark.parametrize("words", commands(PAGE), ids=" ".join)
def test_every_command_of_the_page_is_valid(hfd: Hfd, words: list[str]) -> None:
    group = typer.main.get_command(app)
    group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
    if words[0] == "submit":
        ended = hfd("submit", "--dry-run", *words[1:])
        assert (ended.code, ended.err) == (0, "")
    elif words[0] not in ("jobs", "stop", "rollback", "runs", "clean"):
        assert "--dry-run" in words
        assert hfd(*words).code == 0


def test_work_for_the_cluster_would_be_accepted_there() -> None:
    submitted = [words for words in commands(PAGE) if words[0] == "submit"]
    for words in submitted:
        start = next(at for at, word in enumerate(words) if word in ("retrain", "prepare", "evaluate", "promote"))
        job = plan_job(read_command(typer.main.get_command(app), words[start:]))
        assert job.name.startswith("hfd-")


def test_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"(?:infra|conf|docs)/[\w./-]+", PAGE))
    assert len(named) >= 9
    assert [name for name in sorted(named) if not (ROOT / name.rstrip(".")).exists()] == []


def test_the_table_of_sizes_is_the_output_of_the_script() -> None:
    (shown,) = re.findall(r"<!-- sizing -->\n(.*)\n<!-- /sizing -->", PAGE, re.S)
    assert shown == runpy.run_path(str(ROOT / "infra" / "sizing.py"))["page"]()
