"""Render the report of an evaluation as one HTML page that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from hfd.image.load import RgbArray, encode_webp_lossless
from hfd.metrics.table import METRICS, set_metrics
from hfd.report.charts import Chart
from hfd.report.content import (
    OUR_SYSTEMS,
    Example,
    ImageRow,
    PublishedPoint,
    Report,
    SharedImages,
    SummaryRow,
    system_label,
)
from hfd.report.plots import energy_chart, rate_plot, system_colour
from hfd.report.summarise import headline_row
from hfd.report.tables import (
    Column,
    cell_text,
    cell_value,
    counted,
    format_number,
    image_columns,
    one_line,
    published_columns,
    shared_text,
    summary_columns,
)
from hfd.report.template import read_template, render_template, webp_uri

if TYPE_CHECKING:
    from markupsafe import Markup

RAW_BPP = 24
"""Three channels of eight bits."""

_THUMBNAIL_PX = 128
_TILES = (
    ("bpp", "Rate", "bits per pixel"),
    ("fd_effnet", "Realism", "FD-EffNet, lower is better"),
    ("psnr", "Fidelity", "PSNR in dB, higher is better"),
    ("top_octave_energy", "Fine detail", "top-octave energy, 1.0 is right"),
)
_ENERGY_CAPTION = (
    "Power in the highest octave of spatial frequency, relative to the original. Below 1 the picture is too smooth; "
    "above 1 it has detail or noise that the original does not have."
)


@dataclass(frozen=True)
class Tile:
    """One of our numbers beside those of the other systems."""

    name: str
    unit: str
    ours: str
    others: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Headline:
    """The top of the page, about one row of ``system``."""

    system: str
    claim: str
    text: str
    tiles: Sequence[Tile]


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
        headline=_headline(report),
        claim=_claim_without_ours(report.summary),
        examples=[_example(example) for example in report.examples],
        summary=_table(report.summary, summary_columns(report.summary)),
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


def _claim_without_ours(rows: Sequence[SummaryRow]) -> str:
    """Return the claim of a report without a row of ours."""
    systems = [system_label(system) for system in dict.fromkeys(row.system for row in rows)]
    if not systems:
        return "This report has no results of this codec."
    images = max(row.num_images for row in rows)
    return f"{images} {'photograph' if images == 1 else 'photographs'}, without a model: {', '.join(systems)}."


def _headline(report: Report) -> Headline | None:
    """Compare the first sample row (or else our first row) with each codec near its rate."""
    ours = headline_row(report.summary)
    if ours is None:
        return None
    shared = {(one.system, one.setting): one for one in report.shared}
    others = _others(ours, report.summary, shared)
    images = "photograph" if ours.num_images == 1 else "photographs"
    claim = f"{ours.num_images} {images} at {format_number(ours.bpp, 3)} bits per pixel"
    if math.isfinite(ours.bpp) and ours.bpp > 0:
        claim += f", {RAW_BPP / ours.bpp:.0f} times smaller than raw"
    tiles = [
        Tile(name, unit, _number(ours, metric), [(row.system, _beside(row, metric, shared)) for row in others])
        for metric, name, unit in _TILES
    ]
    return Headline(ours.system, f"{claim}.", _explanation(ours, others, report.shared), tiles)


_ByCurve = Mapping[tuple[str, str], SharedImages]


def _others(ours: SummaryRow, rows: Sequence[SummaryRow], shared: _ByCurve) -> list[SummaryRow]:
    """Select one row per other system: of those with the most images, the lowest rate not below ours (in its favour),
    or else the highest rate."""

    def our_bpp(row: SummaryRow) -> float:
        one = shared.get((row.system, row.setting))
        return ours.bpp if one is None else one.ours.bpp

    others = []
    for system in dict.fromkeys(row.system for row in rows if row.system != ours.system):
        most = max(row.num_images for row in rows if row.system == system)
        own = [row for row in rows if row.system == system and row.num_images == most]
        own.sort(key=lambda row: row.bpp)
        # Both of our pictures come out of one file, so their rates are equal up to rounding.
        others.append(next((row for row in own if row.bpp >= our_bpp(row) * (1 - 1e-6)), own[-1]))
    return others


def _beside(row: SummaryRow, metric: str, shared: _ByCurve) -> str:
    """Format another system's number; if it lacks images, with ours over the same images."""
    one = shared.get((row.system, row.setting))
    number = _number(row, metric)
    return number if one is None else f"{number} (ours {_number(one.ours, metric)} on its {row.num_images} images)"


def _explanation(ours: SummaryRow, others: Sequence[SummaryRow], shared: Sequence[SharedImages]) -> str:
    """Return a few sentences, each only if its numbers were measured."""
    parts = []
    stage_1 = next((row for row in others if row.system == "autoencoder"), None)
    if stage_1 and ours.system == "sample" and math.isclose(ours.bpp, stage_1.bpp, rel_tol=1e-3):
        parts.append("Each file decodes to two pictures: the reconstruction x_hat of stage 1, and a sample of stage 2.")
    if stage_1 and all(math.isfinite(row.values["fd_effnet"] or math.nan) for row in (ours, stage_1)):
        (fd_1, psnr_1), (fd_2, psnr_2) = ((_number(row, "fd_effnet"), _number(row, "psnr")) for row in (stage_1, ours))
        parts.append(f"Stage 2 changes FD-EffNet from {fd_1} to {fd_2} and PSNR from {psnr_1} to {psnr_2} dB.")
    if any(row.system not in OUR_SYSTEMS for row in others):
        parts.append(
            "Other codecs are shown at their lowest measured rate that is not below ours or, if there is none, at "
            "their highest."
        )
    return " ".join([*parts, *map(shared_text, shared)])


def _number(row: SummaryRow, metric: str) -> str:
    return counted(format_number(row.values[metric], METRICS[metric].digits), row, metric)


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
    rows: Sequence[SummaryRow] = report.summary
    # A rate that some images could not reach is a mean over other images, and so no point of the same curve.
    most = max((row.num_images for row in rows), default=0)
    rows = [row for row in rows if row.num_images == most]
    metrics = set_metrics({name for row in rows for name in row.values})
    charts = [(rate_plot(rows, metric, report.published), metric.caption) for metric in metrics if metric.caption]
    return [*charts, (energy_chart(rows), _ENERGY_CAPTION)]


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
