"""Render a comparison of evaluations as one HTML page that needs no network and no other file."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from hfd.metrics.table import Metric, set_metrics
from hfd.report.charts import Chart
from hfd.report.compare.content import ComparedRow, ComparedSet, ComparedTable, Comparison
from hfd.report.compare.curves import colour_of, curve_plot
from hfd.report.content import PublishedPoint, ShownExample
from hfd.report.extremes import ShownLists, shown_lists
from hfd.report.page import Cell, Table, TableRow, published_table, script_and_hash
from hfd.report.tables import Column, counted, format_number, one_line, training_text
from hfd.report.template import render_template


@dataclass(frozen=True)
class ProtocolColumn:
    """A column of numbers: one metric by one protocol."""

    metric: Metric
    protocol: str


@dataclass(frozen=True)
class ShownSet:
    number: int
    title: str
    plots: Sequence[tuple[Chart, str]]
    tables: Sequence[tuple[str, Table, str]]
    """Title, table, and the protocols of its columns."""
    lists: ShownLists
    examples: Sequence[ShownExample]
    pictures_note: str


def render_comparison(comparison: Comparison) -> str:
    """Render the page as HTML text; all text is escaped, and the output depends on ``comparison`` only."""
    curves = list(dict.fromkeys(row.curve for one in comparison.sets for table in one.tables for row in table.rows))
    colour = functools.partial(colour_of, curves=curves)
    script, script_hash = script_and_hash()
    return render_template(
        "compare.html",
        comparison=comparison,
        claim=_claim(comparison),
        label=lambda curve: curve,
        colour=colour,
        script=script,
        script_hash=script_hash,
        published=published_table(comparison.published),
        sets=[_shown_set(number, one, curves, comparison.published) for number, one in enumerate(comparison.sets)],
    )


def _claim(comparison: Comparison) -> str:
    runs, systems = len(comparison.runs), {row.curve for one in comparison.sets for row in one.tables[0].rows}
    pictures = sum(len(one.images) for one in comparison.sets)
    return f"{plural(runs, 'evaluation')}, {plural(len(systems), 'system')}, {plural(pictures, 'picture')}."


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown_set(number: int, one: ComparedSet, curves: Sequence[str], published: Sequence[PublishedPoint]) -> ShownSet:
    main = one.tables[0]
    return ShownSet(
        number,
        one.title,
        _plots(main.rows, curves, published),
        [_table(table) for table in one.tables],
        shown_lists(one.extremes, one.examples),
        one.examples,
        one.pictures_note,
    )


def protocol_columns(rows: Sequence[ComparedRow]) -> list[ProtocolColumn]:
    """Return one column for each metric and protocol, so that no column mixes protocols."""
    measured = {name for row in rows for name in row.row.values}
    columns = []
    for metric in set_metrics(measured):
        protocols = dict.fromkeys(row.protocols.get(metric.name, "") for row in rows if metric.name in row.row.values)
        columns += [ProtocolColumn(metric, protocol) for protocol in protocols]
    return columns


def _plots(
    rows: Sequence[ComparedRow], curves: Sequence[str], published: Sequence[PublishedPoint]
) -> list[tuple[Chart, str]]:
    plots = []
    for column in protocol_columns(rows):
        has_values = any(row.value(column.metric.name, column.protocol) is not None for row in rows)
        if column.metric.better is not None and has_values:
            caption = column.metric.caption or f"{column.metric.hint[:1].upper()}{column.metric.hint[1:]}."
            chart = curve_plot(rows, column.metric, column.protocol, curves, published)
            plots.append((chart, f"{caption} {_protocol_text(column.protocol)}".strip()))
    return plots


def _protocol_text(protocol: str) -> str:
    return f"Protocol: {protocol}." if protocol else ""


def _table(table: ComparedTable) -> tuple[str, Table, str]:
    columns = protocol_columns(table.rows)
    split = {column.metric.name for column in columns if sum(column.metric is other.metric for other in columns) > 1}
    headings = [Column(name, name, None) for name in ("system", "setting", "evaluation")]
    headings.append(Column("num_images", "pictures", 0))
    for column in columns:
        metric = column.metric
        heading = f"{metric.heading} · {column.protocol}" if metric.name in split else metric.heading
        hint = f"{metric.hint}; {column.protocol}" if column.protocol else metric.hint
        headings.append(Column(metric.name, heading, metric.digits, hint))
    rows = [
        TableRow(row.curve, row.ours, [*_identity(row), *(_cell(row, one) for one in columns)]) for row in table.rows
    ]
    named: dict[str, list[str]] = {}
    for column in columns:
        if column.protocol:
            named.setdefault(column.protocol, []).append(column.metric.label)
    lines = [f"{', '.join(labels)}: {protocol}." for protocol, labels in named.items()]
    if any(row.row.trained_on for row in table.rows):
        lines.append(training_text([row.row for row in table.rows]))
    return table.title, Table(headings, rows), " ".join(lines)


def _identity(row: ComparedRow) -> list[Cell]:
    texts = [Cell(one_line(row.curve), None, True)]
    texts += [Cell(one_line(text), None, False) for text in (row.row.setting, row.run)]
    return [*texts, Cell(str(row.row.num_images), str(row.row.num_images), False)]


def _cell(row: ComparedRow, column: ProtocolColumn) -> Cell:
    metric, value = column.metric, row.value(column.metric.name, column.protocol)
    text = counted(format_number(value, metric.digits), row.row, metric.name) if value is not None else "–"
    number = "" if value is None or value != value else str(value).replace("inf", "Infinity")
    if metric.name in ("bpp", "bpp_est") or metric.name not in row.intervals or number == "":
        return Cell(text, number, False)
    low, high = row.intervals[metric.name]
    ends = (format_number(end, metric.digits) for end in (low, high))
    spread = f"±{format_number((high - low) / 2, metric.digits)}"
    return Cell(text, number, False, spread, f"95 % between {' and '.join(ends)}")
