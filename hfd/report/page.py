"""Render the report of an evaluation as one HTML page that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from hfd.image.load import RgbArray, encode_webp_lossless
from hfd.metrics.table import set_metrics
from hfd.report.charts import Chart
from hfd.report.content import (
    OUR_SYSTEMS,
    Example,
    ImageRow,
    PublishedPoint,
    Report,
    SummaryRow,
    over_all_images,
    system_label,
)
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
from hfd.report.template import read_template, render_template, webp_uri

if TYPE_CHECKING:
    from markupsafe import Markup

_THUMBNAIL_PX = 128
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


@dataclass(frozen=True)
class ShownVersion:
    label: str
    caption: str
    uri: str


@dataclass(frozen=True)
class ShownExample:
    """An example with its pictures as data URIs; sides in px."""

    image: str
    width: int
    height: int
    thumbnail: str
    versions: Sequence[ShownVersion]


def render(report: Report) -> str:
    """Render the page as HTML text, which contains pictures, plots, tables, style and script.

    Pictures are embedded as lossless WebP: the browser shows the exact pixels of each ``Version.x``. All text of the
    report is escaped. The output depends on ``report`` only.

    Raises:
        hfd.errors.DataError: a picture too large for WebP (more than 16383 pixels on a side).
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
        examples=[_example(example) for example in report.examples],
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


def _example(example: Example) -> ShownExample:
    height, width, _ = example.versions[0].x.shape
    versions = [
        ShownVersion(version.label, version.caption, webp_uri(encode_webp_lossless(version.x)))
        for version in example.versions
    ]
    return ShownExample(example.image, width, height, thumbnail(example.versions[0].x), versions)


def thumbnail(x: RgbArray) -> str:
    """Return a small version of a picture, uint8 (H, W, 3), as a data URI."""
    picture = Image.fromarray(x)
    picture.thumbnail((4 * _THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return webp_uri(buffer.getvalue())


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
