"""``hfd report``: read evaluations, compare them, and write the page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hfd.errors import ConfigError
from hfd.io.storage import write_file
from hfd.report.compare.content import ComparedRun, ComparedSet, Comparison
from hfd.report.compare.page import plural, render_comparison
from hfd.report.content import PublishedPoint
from hfd.report.gallery import choose_pictures, show
from pipelines.compare.find import find_all
from pipelines.compare.finished import Finished
from pipelines.compare.kept import RULE, kept_pictures
from pipelines.compare.shared import group_by_pictures
from pipelines.compare.tables import extremes_of, tables_of
from pipelines.evaluate.report import SETTINGS_FILE

DEFAULT_PICTURES = 24
"""Of the gallery; pictures of the lists of the worst and best come on top."""


@dataclass(frozen=True)
class Request:
    """``arguments``: evaluations as given; ``output``: the page; ``tracking``: server of MLflow runs."""

    arguments: tuple[str, ...]
    output: Path
    title: str = ""
    pictures: int = DEFAULT_PICTURES
    tracking: str | None = None

    @property
    def command(self) -> str:
        words = ["hfd", "report", *self.arguments, "-o", str(self.output)]
        words += ["--title", self.title] if self.title else []
        words += ["--pictures", str(self.pictures)] if self.pictures != DEFAULT_PICTURES else []
        words += ["--tracking", self.tracking] if self.tracking else []
        return shlex.join(words)


def write_comparison(request: Request) -> str:
    """Write the page and return a line about it. Raises :class:`hfd.errors.HfdError` with one line."""
    if request.output.is_dir():
        raise ConfigError(f"-o: got the folder {request.output}, expected the name of a file. Add report.html to it")
    comparison = compare(find_all(request.arguments, request.tracking), request)
    page = render_comparison(comparison).encode()
    write_file(request.output, page)
    pictures = sum(len(one.examples) for one in comparison.sets)
    counts = f"{plural(len(comparison.runs), 'evaluation')}, {plural(pictures, 'picture')} shown"
    return f"{request.output}: {counts}, {len(page) / 1e6:.1f} MB"


def compare(runs: Sequence[Finished], request: Request) -> Comparison:
    """Return the content of the page."""
    groups, notes = group_by_pictures(runs)
    tables = []
    for group in groups:
        found, more = tables_of(group)
        tables.append(found)
        notes += more
    extremes = [extremes_of(group, found[0].rows) for group, found in zip(groups, tables, strict=True)]
    galleries = [
        choose_pictures(
            kept_pictures(group, [row for table in found for row in table.rows]),
            group.images,
            lists,
            request.pictures // len(groups),
            f"{RULE} (--pictures)",
        )
        for group, found, lists in zip(groups, tables, extremes, strict=True)
    ]
    sets = [
        ComparedSet(
            plural(len(group.images), "picture"),
            group.images,
            tuple(found),
            tuple(lists),
            tuple(one.examples),
            one.note,
        )
        for group, found, lists, one in zip(groups, tables, extremes, show(galleries), strict=True)
    ]
    notes += [f"{run.name}: {name}: {reason}." for run in runs for name, reason in run.facts.get("gaps", {}).items()]
    published: tuple[PublishedPoint, ...] = ()
    for point in (point for run in runs for point in run.published):
        published += () if point in published else (point,)
    title = request.title or "hfd · " + ", ".join(run.name for run in runs)
    return Comparison(title, tuple(sets), tuple(map(_run, runs)), tuple(notes), request.command, published)


def _run(run: Finished) -> ComparedRun:
    facts = [
        ("Place", run.place),
        ("Evaluation key", run.key),
        ("Finished", run.finished or "not known"),
        ("Pictures", f"{run.facts.get('images', '?')}, {run.facts.get('rejected', 0)} rejected"),
        ("Inputs", "\n".join(f"{name} {digest[:16]}" for name, digest in run.inputs.items())),
        ("Engine", {"onnx": "ONNX Runtime", "torch": "torch"}.get(str(run.facts.get("engine")), "not known")),
    ]
    command = ""
    if run.config:
        local = run.folder is not None and run.folder.is_local
        place = shlex.quote(f"{run.place}/{SETTINGS_FILE}") if local else SETTINGS_FILE
        command = f"hfd retrain -c {place}"
    return ComparedRun(run.name, tuple(facts), command, run.config)
