"""Tables of results as plain text, as Markdown and, through `Column` and `cell_text`, as HTML in the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hfd.metrics.table import METRICS, Metric, image_metrics, set_metrics
from hfd.report.content import FewerImages, Gain, ImageRow, PublishedPoint, RatePoint, SummaryRow, system_label

MISSING = "–"
MAX_NAMED = 5
"""Images that a sentence names."""


@dataclass(frozen=True)
class Column:
    """One column: ``field`` of the row, its heading, and the decimals of a number (None: text)."""

    field: str
    heading: str
    digits: int | None
    hint: str = ""

    @property
    def is_text(self) -> bool:
        return self.digits is None


TRAINED_ON_MARK = "†"
"""Follows values of metrics that share a network with a loss of the row's decoder."""

_NETWORK_LABELS = {"alexnet": "AlexNet", "vgg16": "VGG16", "efficientnet": "EfficientNet"}


def summary_columns(rows: Sequence[SummaryRow] = ()) -> list[Column]:
    """Return the columns of the summary: the row's identity, then every metric of a set; optional ones if measured."""
    metrics = set_metrics(_measured(rows))
    return [*_texts("system", "setting"), Column("num_images", "images", 0), *map(_column, metrics)]


def image_columns(rows: Sequence[ImageRow] = ()) -> list[Column]:
    """Return the columns of the table of images; those of optional metrics if measured."""
    counts = [Column("width", "width", 0), Column("height", "height", 0), Column("num_bytes", "bytes", 0)]
    return [*_texts("image", "system", "setting"), *counts, *map(_column, image_metrics(_measured(rows)))]


def _measured(rows: Sequence[SummaryRow] | Sequence[ImageRow]) -> set[str]:
    return {name for row in rows for name in row.values}


def _texts(*names: str) -> list[Column]:
    return [Column(name, name, None) for name in names]


def _column(metric: Metric) -> Column:
    return Column(metric.name, metric.heading, metric.digits, metric.hint)


def format_number(value: float | None, digits: int) -> str:
    """Format ``value`` with ``digits`` decimals; None and NaN as "–", infinities as "∞" and "-∞"."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:z.{digits}f}"


def gain_text(gain: Gain) -> str:
    """Format one line: ``sample, 1 step: FD-EffNet -93.1 against x_hat, 95 % between -110.2 and -80.0``."""
    digits = next((metric.digits for metric in METRICS.values() if metric.label == gain.metric), 1)
    value, low, high = (f"{number:+.{digits}f}" for number in (gain.value, gain.low, gain.high))
    return f"sample, {gain.setting}: {gain.metric} {value} against x_hat, 95 % between {low} and {high}"


def rate_text(point: RatePoint) -> str:
    """Format one line: ``AVIF at 0.251 bpp, interpolated: 29.60 dB, FD-EffNet 251.3, KD-EffNet 0.1402``."""
    return (
        f"{system_label(point.system)} at {point.bpp:.3f} bpp, interpolated: {format_number(point.psnr, 2)} dB, "
        f"FD-EffNet {point.fd_effnet:.1f}, KD-EffNet {point.kd_effnet:.4f}"
    )


def fewer_title(fewer: FewerImages) -> str:
    """Format the title of a table: ``Without icon.png: 3 images``."""
    num = len(fewer.lacking)
    more = f" and {num - MAX_NAMED} more" if num > MAX_NAMED else ""
    named = ", ".join(map(one_line, fewer.lacking[:MAX_NAMED])) + more
    return f"Without {named}: {fewer.num_images} {'image' if fewer.num_images == 1 else 'images'}"


def fewer_text(fewer: FewerImages) -> str:
    """Format the table of rows that lack images, with those beside them, as plain text."""
    return f"{fewer_title(fewer)}\n{summary_text([*fewer.beside, *fewer.rows])}"


def published_text(point: PublishedPoint) -> str:
    """Format one line: ``published: theirs (FID/256, CLIC 2020): 0.250 bpp, PSNR 30.10 dB``."""
    numbers = [
        f"{metric.label} {format_number(point.values[metric.name], metric.digits)}{metric.unit and f' {metric.unit}'}"
        for metric in set_metrics(point.values)
        if metric.name in point.values
    ]
    values = ", ".join([f"{point.bpp:.3f} bpp", *numbers])
    return f"published: {one_line(point.system)} ({one_line(point.protocol)}): {values}"


def published_columns(points: Sequence[PublishedPoint]) -> list[Column]:
    """Return the columns of the table of published points: their metrics alone."""
    names = {name for point in points for name in point.values}
    metrics = [metric for metric in set_metrics(names) if metric.name in names]
    return [*_texts("system", "protocol"), Column("bpp", "bpp", 3), *map(_column, metrics)]


def cell_value(row: SummaryRow | ImageRow, column: Column) -> str | float | None:
    """Return the content of a cell: text, a number, or None if nothing was measured (or NaN)."""
    name = column.field
    value: str | float | None = row.values[name] if name in row.values else getattr(row, name)
    if isinstance(value, float) and math.isnan(value):
        return None
    if column.field == "system" and isinstance(value, str):
        return system_label(value)
    return value


def cell_text(row: SummaryRow | ImageRow, column: Column) -> str:
    """Format a cell on one line: control characters and line breaks become spaces."""
    value = cell_value(row, column)
    if isinstance(value, str):
        return one_line(value)
    return counted(format_number(value, column.digits or 0), row, column.field)


def one_line(text: str) -> str:
    """Replace control characters and line breaks by spaces."""
    return "".join(char if char.isprintable() else " " for char in text)


def counted(number: str, row: SummaryRow | ImageRow, name: str) -> str:
    """Format a number with the number of images in its mean if some are left out: ``0.9207 of 1``; with a mark if the
    metric shares a network with a loss of the row's decoder: ``0.151 †``."""
    if not isinstance(row, SummaryRow):
        return number
    number = f"{number} of {row.counts[name]}" if name in row.counts else number
    was_loss = name in METRICS and METRICS[name].network in row.trained_on
    return f"{number} {TRAINED_ON_MARK}" if was_loss and number != MISSING else number


def training_text(rows: Sequence[SummaryRow]) -> str:
    """Format one line: the pretrained networks in the training of stage 2, and the metrics that they exclude as judges.

    ``Pretrained networks in the training of stage 2: AlexNet. † LPIPS uses one of them and does not judge it.``
    """
    networks = sorted({network for row in rows for network in row.trained_on})
    named = ", ".join(_NETWORK_LABELS.get(network, network) for network in networks) or "none"
    excluded = [metric.label for metric in set_metrics(_measured(rows)) if metric.network in networks]
    judges = "uses one of them and does not judge it" if len(excluded) == 1 else "use them and do not judge it"
    line = f"Pretrained networks in the training of stage 2: {one_line(named)}."
    return f"{line} {TRAINED_ON_MARK} {', '.join(excluded)} {judges}." if excluded else line


def summary_text(rows: Sequence[SummaryRow]) -> str:
    """Format the summary as an aligned table of plain text, without a final line break.

    Text columns are left-aligned, numbers right-aligned. No rows: the headings alone.
    """
    columns = summary_columns(rows)
    lines = [[column.heading for column in columns], *([cell_text(row, column) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    lines.insert(1, ["─" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column.is_text else cell.rjust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    )


def summary_markdown(rows: Sequence[SummaryRow]) -> str:
    """Format the summary as a Markdown table (GitHub's), without a final line break. Cell text is escaped."""
    columns = summary_columns(rows)
    lines = [
        [column.heading for column in columns],
        ["---" if column.is_text else "---:" for column in columns],
        *([_escape(cell_text(row, column)) for column in columns] for row in rows),
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _escape(text: str) -> str:
    for special in "\\`*_[]|":
        text = text.replace(special, "\\" + special)
    return text.replace("&", "&amp;").replace("<", "&lt;")
