"""Plots of a comparison: each quality against the rate, a line for each system, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hfd.metrics.table import Metric
from hfd.report.charts import INK, Chart, Mark, empty, finish, mark_at, new_axes, scale_by_rate
from hfd.report.compare.content import ComparedRow
from hfd.report.content import PublishedPoint
from hfd.report.plots import HINTS, PUBLISHED_ROW_PT, draw_published, published_curves
from hfd.report.tables import format_number

_PALETTE = (
    "#0b5fc4", "#d3126e", "#117a5a", "#9a6a00", "#6a45bf", "#c2410c", "#0e7490", "#4d7c0f", "#a21caf", "#5f6b76",
)  # fmt: skip
_MARKERS = "oDsv^P<>Xp"
_LEGEND_ROW_PT = 16


def colour_of(curve: str, curves: Sequence[str]) -> str:
    """Return the colour of a curve: by its place among all curves of the page."""
    return _PALETTE[curves.index(curve) % len(_PALETTE)] if curve in curves else _PALETTE[-1]


def curve_plot(
    rows: Sequence[ComparedRow],
    metric: Metric,
    protocol: str,
    curves: Sequence[str],
    published: Sequence[PublishedPoint] = (),
) -> Chart:
    """Bits per pixel against one quality; rows of another protocol or without a finite value are left out.

    The points of a curve are joined in order of rate; bars are 95 % intervals. ``curves``: all of the page, which set
    colours and marks. ``published``: dashed, each curve with its protocol.
    """
    others = [point for point in published if metric.name in point.values]
    named = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
    title, hint = (f"{named} · {protocol}" if protocol else named), HINTS[metric.better]
    points = [(row, value) for row in rows if (value := _finite(row, metric, protocol)) is not None]
    shown = [curve for curve in curves if any(row.curve == curve for row, _ in points)]
    columns = 2 if max((len(curve) for curve in shown), default=0) > 16 else 3
    below = PUBLISHED_ROW_PT * len(published_curves(others))
    legend = _LEGEND_ROW_PT * math.ceil(len(shown) / columns) + below
    figure, axes = new_axes(named, hint, height=290 + legend, left=60, right=16, bottom=50 + legend)
    if not points and not others:
        return empty(figure, axes, title, "not measured")
    scale_by_rate(axes)
    for curve in shown:
        own = sorted(((row, value) for row, value in points if row.curve == curve), key=lambda one: one[0].row.bpp)
        _draw(axes, metric, own, _style(curve, curves))
    _legend(figure, _handles(shown, curves), columns, (3 + below) / (290 + legend))
    others_marks = draw_published(figure, axes, others, metric)
    marks = (*(_mark(axes, metric, *point) for point in points), *others_marks)
    return finish(figure, f"{title} against bits per pixel; {hint[2:]}", marks)


def _finite(row: ComparedRow, metric: Metric, protocol: str) -> float | None:
    value = row.value(metric.name, protocol)
    return value if value is not None and math.isfinite(value) and math.isfinite(row.row.bpp) else None


def _style(curve: str, curves: Sequence[str]) -> dict[str, Any]:
    return {
        "color": colour_of(curve, curves),
        "marker": _MARKERS[curves.index(curve) % len(_MARKERS)],
        "markersize": 8,
        "markeredgecolor": "#fefefe",
        "markeredgewidth": 0.8,
        "linewidth": 1.8,
    }


def _draw(axes: Any, metric: Metric, points: Sequence[tuple[ComparedRow, float]], style: dict[str, Any]) -> None:
    x, y = [row.row.bpp for row, _ in points], [value for _, value in points]
    bars = [row.intervals.get(metric.name, (value, value)) for row, value in points]
    reach = [[max(0.0, at - low) for at, (low, _) in zip(y, bars, strict=True)],
             [max(0.0, high - at) for at, (_, high) in zip(y, bars, strict=True)]]  # fmt: skip
    axes.errorbar(x, y, yerr=reach, elinewidth=1.3, capsize=3, zorder=3, clip_on=False, **style)


def _mark(axes: Any, metric: Metric, row: ComparedRow, value: float) -> Mark:
    text = f"{row.label}: {row.row.bpp:.3f} bpp, {metric.heading} {format_number(value, metric.digits)}"
    if metric.name in row.intervals:
        low, high = (format_number(end, metric.digits) for end in row.intervals[metric.name])
        text += f", 95 % {low} to {high}"
    return mark_at(axes, (row.row.bpp, row.row.bpp), (value, value), text, margin=8.0)


def _handles(shown: Sequence[str], curves: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], label=curve.lstrip("_").replace("$", r"\$"), **{**_style(curve, curves), "markersize": 6})
        for curve in shown
    ]


def _legend(figure: Any, handles: Sequence[Any], columns: int, bottom: float) -> None:
    style = {"frameon": False, "fontsize": 10, "labelcolor": INK}
    gaps = {"handlelength": 1.3, "handletextpad": 0.5, "columnspacing": 1.1}
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, bottom), ncols=columns, **style, **gaps)
