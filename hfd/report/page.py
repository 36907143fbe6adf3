"""Render the report of an evaluation as one HTML page that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfd.metrics.table import set_metrics
from hfd.report.charts import Chart
from hfd.report.content import (
    OUR_SYSTEMS,
    ImageRow,
    PublishedPoint,
    Report,
    SummaryRow,
    over_all_images,
    system_label,
)
from hfd.report.extremes import shown_lists
from hfd.report.headline import claim_without_ours, headline_of
from hfd.report.plots import energy_chart, rate_plot, system_colour
from hfd.report.tables import (
    Column,
    cell_text,
    cell_value,
    fewer_title,
    format_number,
    image_columns,
    one_line,
    published_columns,
    summary_columns,
)
from hfd.report.template import read_template, render_template

if TYPE_CHECKING:
    from markupsafe import Markup

_ENERGY_CAPTION = (
    "Power in the highest octave of spatial frequency, relative to the original. Below 1 the picture is too smooth; "
    "above 1 it has detail or noise that the original does not have."
)


@dataclass(frozen=True)
class Cell:
    """``number``: unrounded, for sorting, as JavaScript reads it, empty where missing; None: a cell of text.

    ``spread``: half of the width of an interval, as text; ``hint``: the interval.
    """

    text: str
    number: str | None
    dot: bool
    spread: str = ""
    hint: str = ""


@dataclass(frozen=True)
class TableRow:
    system: str
    ours: bool
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    columns: Sequence[Column]
    rows: Sequence[TableRow]


def render(report: Report) -> str:
    """Render the page as HTML text, which contains pictures, plots, tables, style and script.

    All text of the report is escaped. The output depends on ``report`` only.
    """
    script, script_hash = script_and_hash()
    return render_template(
        "page.html",
        report=report,
        label=system_label,
        colour=system_colour,
        script=script,
        script_hash=script_hash,
        headline=headline_of(report),
        claim=claim_without_ours(report.summary),
        lists=shown_lists(report.extremes, report.examples),
        summary=_summary_table(over_all_images(report.summary, report.fewer)),
        fewer=[(fewer_title(one), _summary_table([*one.beside, *one.rows])) for one in report.fewer],
        published=published_table(report.published),
        plots=_plots(report),
        images=_table(report.images, image_columns(report.images)),
    )


def script_and_hash() -> tuple[Markup, str]:
    """Return the script of the pages, and its hash for the page's policy."""
    from markupsafe import Markup

    script = read_template("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Markup(script), f"sha256-{digest}"


def published_table(points: Sequence[PublishedPoint]) -> Table:
    """Return the table of published points; it has no rows where there are none."""
    columns = published_columns(points)
    rows = []
    for point in points:
        texts = [Cell(one_line(text), None, False) for text in (point.system, point.protocol)]
        numbers = [(point.values.get(column.field), column.digits or 0) for column in columns[3:]]
        cells = [
            Cell(format_number(value, digits), "" if value is None else str(value), False)
            for value, digits in [(point.bpp, 3), *numbers]
        ]
        rows.append(TableRow(point.system, False, [*texts, *cells]))
    return Table(columns, rows)


def _plots(report: Report) -> list[tuple[Chart, str]]:
    # A rate that some images could not reach is a mean over other images, and so no point of the same curve.
    rows = [row for row in over_all_images(report.summary, report.fewer) if row.num_images]
    metrics = set_metrics({name for row in rows for name in row.values})
    charts = [(rate_plot(rows, metric, report.published), metric.caption) for metric in metrics if metric.caption]
    return [*charts, (energy_chart(rows), _ENERGY_CAPTION)]


def _summary_table(rows: Sequence[SummaryRow]) -> Table:
    return _table(rows, summary_columns(rows))


def _table(rows: Sequence[SummaryRow] | Sequence[ImageRow], columns: Sequence[Column]) -> Table:
    shown = [
        TableRow(row.system, row.system in OUR_SYSTEMS, [_cell(row, column) for column in columns]) for row in rows
    ]
    return Table(columns, shown)


def _cell(row: SummaryRow | ImageRow, column: Column) -> Cell:
    text = cell_text(row, column)
    if column.is_text:
        return Cell(text, None, column.field == "system")
    value = cell_value(row, column)
    return Cell(text, "" if value is None else str(value).replace("inf", "Infinity"), False)
