"""The content of a comparison of evaluations as plain, frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hfd.report.content import Extremes, PublishedPoint, ShownExample, SummaryRow, system_label

Interval = tuple[float, float]


@dataclass(frozen=True)
class ComparedRow:
    """One system at one setting in one evaluation.

    ``curve``: the name of its line in the plots, with which other rows may share it; ``intervals``: 95 % intervals by
    metric; ``protocols``: by metric, what beside the pictures must be equal for values to be comparable.
    """

    curve: str
    run: str
    ours: bool
    row: SummaryRow
    intervals: Mapping[str, Interval]
    protocols: Mapping[str, str]

    @property
    def label(self) -> str:
        """A name for captions and lists, unique in a comparison."""
        if self.ours:
            return self.curve if self.curve.startswith(f"{self.run}: ") else f"{self.curve} ({self.run})"
        return f"{self.curve}, {self.row.setting} ({self.run})"

    def value(self, metric: str, protocol: str) -> float | None:
        """The value of a metric; None if it was not measured, or by another protocol."""
        return self.row.values.get(metric) if self.protocols.get(metric, "") == protocol else None


def curve_name(run: str, row: SummaryRow, *, ours: bool) -> str:
    """Name the line of a row: ours by run and setting, another system by its name, over all runs."""
    if not ours:
        return system_label(row.system)
    system = system_label(row.system).split(" (")[0]
    return f"{run}: {'x_hat' if row.system == 'autoencoder' else f'{system}, {row.setting}'}"


@dataclass(frozen=True)
class ComparedTable:
    """Rows over the same pictures. ``title``: which pictures these are."""

    title: str
    rows: tuple[ComparedRow, ...]


@dataclass(frozen=True)
class ComparedSet:
    """Evaluations over the same pictures. ``tables``: the first over all of ``images``, others over fewer.

    ``examples``: pictures of the gallery; ``pictures_note``: in what form they are shown.
    """

    title: str
    images: Sequence[str]
    tables: tuple[ComparedTable, ...]
    extremes: tuple[Extremes, ...]
    examples: tuple[ShownExample, ...]
    pictures_note: str = ""


@dataclass(frozen=True)
class ComparedRun:
    """An evaluation: ``command`` makes it again with ``settings`` (YAML) in a file; both may be empty."""

    name: str
    facts: tuple[tuple[str, str], ...]
    command: str
    settings: str


@dataclass(frozen=True)
class Comparison:
    """Content of the page. ``command`` makes the page again; ``warnings``: sentences at its top; ``published``:
    results of others, by protocols of their own."""

    title: str
    sets: tuple[ComparedSet, ...]
    runs: tuple[ComparedRun, ...]
    warnings: tuple[str, ...]
    command: str
    published: tuple[PublishedPoint, ...] = ()
