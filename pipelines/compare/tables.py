"""The rows of a comparison: every system of every evaluation over the same pictures, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from hfd.metrics.bootstrap import MIN_IMAGES, mean_interval
from hfd.metrics.table import finite, set_metrics
from hfd.report.compare.content import ComparedRow, ComparedTable, Interval, curve_name
from hfd.report.content import OUR_SYSTEMS, Extremes, SummaryRow
from hfd.report.summarise import CurveDistances, CurveRows, summary_row
from pipelines.compare.features import RunDistances
from pipelines.compare.finished import Finished
from pipelines.compare.protocols import protocols_of
from pipelines.compare.shared import Shared
from pipelines.evaluate.rows import curves_of, extremes_of_curve, rows_on

MAX_SUBSETS = 4
"""Tables over fewer pictures."""


class RunRows:
    """The rows of one evaluation over chosen pictures."""

    def __init__(self, run: Finished) -> None:
        self._run, self._distances = run, RunDistances(run)
        self._protocols = protocols_of(run.settings, run.facts)

    def over(self, images: Sequence[str], *, ours: bool = False) -> list[tuple[ComparedRow, frozenset[str]]]:
        """Return the rows, or ``ours`` alone, with the pictures of each: those of ``images`` that the row has."""
        chosen = pc.is_in(self._run.table["image"], pa.array(images, pa.string()))
        table = self._run.table.filter(chosen)
        curves = [rows for rows in curves_of(table) if rows.system in OUR_SYSTEMS or not ours]
        own = [frozenset(rows_on(table, (rows.system, rows.setting))["image"].to_pylist()) for rows in curves]
        wanted = [((rows.system, rows.setting), has) for rows, has in zip(curves, own, strict=True)]
        found = self._distances.over(wanted)
        rows = [self._row(*one) for one in zip(curves, found, strict=True)]
        return list(zip(rows, own, strict=True))

    def gaps(self) -> list[ComparedRow]:
        """Return the rows of systems of which nothing was measured."""
        return [self._compared(row, {}) for row in self._run.summary.values() if row.num_images == 0]

    def _row(self, rows: CurveRows, distances: CurveDistances) -> ComparedRow:
        reported = self._run.summary.get((rows.system, rows.setting))
        row = summary_row(rows, distances)
        row = replace(row, trained_on=reported.trained_on) if reported is not None else row
        return self._compared(row, _intervals(rows, distances))

    def _compared(self, row: SummaryRow, intervals: Mapping[str, Interval]) -> ComparedRow:
        ours = row.system in OUR_SYSTEMS
        curve = curve_name(self._run.label, row, ours=ours)
        return ComparedRow(curve, self._run.name, ours, row, intervals, self._protocols)


def _intervals(rows: CurveRows, distances: CurveDistances) -> dict[str, Interval]:
    means = [metric.name for metric in set_metrics(rows.columns) if metric.of_image is not None]
    values = {name: finite(rows.columns[name]) for name in means}
    found = {name: mean_interval(known) for name, known in values.items() if len(known) >= MIN_IMAGES}
    found |= {name: draws.interval() for name, draws in distances.draws.items()}
    return found


def tables_of(shared: Shared) -> tuple[list[ComparedTable], list[str]]:
    """Return the table over all shared pictures, one for each smaller set of pictures that a row has, and notes."""
    runs = [RunRows(run) for run in shared.runs]
    everything = frozenset(shared.images)
    main: list[ComparedRow] = []
    fewer: dict[frozenset[str], list[ComparedRow]] = {}
    for run in runs:
        for row, images in run.over(shared.images):
            (main if images == everything else fewer.setdefault(images, [])).append(row)
        main += run.gaps()
    tables, notes = [ComparedTable("", tuple(_each_once(main)))], []
    for images, rows in list(fewer.items())[:MAX_SUBSETS]:
        ours = [row for run in runs for row, own in run.over(sorted(images), ours=True) if own == images]
        lacking = sorted(everything - images)
        named = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        tables.append(ComparedTable(f"Without {named}: {len(images)} pictures", tuple(_each_once([*rows, *ours]))))
    if len(fewer) > MAX_SUBSETS:
        left = [row.label for rows in list(fewer.values())[MAX_SUBSETS:] for row in rows]
        notes.append(f"Left out, since they lack still other pictures: {', '.join(left)}.")
    return tables, notes


def _each_once(rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """Drop rows that another evaluation of the same files has too, and bring the rows of each curve together."""
    kept: dict[object, ComparedRow] = {}
    for row in rows:
        values = tuple(value for name, value in row.row.values.items() if not name.endswith("_s_per_mp"))
        kept.setdefault((row.curve, row.row.setting, str(values), tuple(row.protocols.items())), row)
    curves = list(dict.fromkeys(row.curve for row in kept.values()))
    return sorted(kept.values(), key=lambda row: (not row.ours, curves.index(row.curve), row.row.bpp))


def extremes_of(shared: Shared, rows: Sequence[ComparedRow]) -> list[Extremes]:
    """Return the worst and best of the shared pictures of every row by every metric with a direction."""
    chosen = pa.array(shared.images, pa.string())
    tables = {run.name: run.table.filter(pc.is_in(run.table["image"], chosen)) for run in shared.runs}
    return [
        found
        for row in rows
        for found in extremes_of_curve(row.label, tables[row.run], (row.row.system, row.row.setting))
    ]
