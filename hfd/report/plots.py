"""Plots of an evaluation: each quality against the rate, and the energy of fine detail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hfd.metrics.table import Metric
from hfd.report.charts import GRID, INK, MUTED, Chart, Mark, empty, finish, mark_at, new_axes, scale_by_rate
from hfd.report.content import OUR_SYSTEMS, SYSTEM_LABELS, PublishedPoint, SummaryRow, system_label
from hfd.report.tables import format_number

HINTS = {"higher": "↑ higher is better", "lower": "↓ lower is better", None: ""}
_MARKERS = {"autoencoder": "D", "sample": "o", "jpeg": "s", "webp": "^", "avif": "v"}
_COLOURS = {"autoencoder": "#0b5fc4", "sample": "#d3126e", "jpeg": "#9a6a00", "webp": "#117a5a", "avif": "#6a45bf"}
_OTHER = "#5f6b76"
_PUBLISHED = ("#5f6b76", "#8a6d3b", "#4b6a88", "#7a4d6d", "#4f7355")
PUBLISHED_ROW_PT = 15
_MOST_CHARS = 75
_ENERGY = "top_octave_energy"


def rate_plot(rows: Sequence[SummaryRow], metric: Metric, published: Sequence[PublishedPoint] = ()) -> Chart:
    """Bits per pixel against one quality.

    The points of a baseline are joined in order of rate; ours are single, larger points. Rows without a finite value
    are left out and counted in a line under the plot. ``published``: dashed, each curve with its protocol.
    """
    others = [point for point in published if metric.name in point.values]
    title, hint = ", ".join(filter(None, (metric.label, metric.unit))), HINTS[metric.better]
    points = [(row, row.values[metric.name] or 0.0) for row in rows if _finite(row.values.get(metric.name), row.bpp)]
    below = PUBLISHED_ROW_PT * len(published_curves(others))
    figure, axes = new_axes(title, hint, height=320 + below, left=56, right=16, bottom=74 + below)
    if not points and not others:
        return empty(figure, axes, title, "not measured in this run")
    scale_by_rate(axes)
    systems = dict.fromkeys(row.system for row, _ in points)
    for system in systems:
        _draw_system(axes, system, [(row.bpp, value) for row, value in points if row.system == system])
    _legend(figure, [name for name in dict.fromkeys([*SYSTEM_LABELS, *systems]) if name in systems], below)
    published_marks = draw_published(figure, axes, others, metric)
    if len(points) < len(rows):
        note = f"{len(rows) - len(points)} without a finite value not shown"
        figure.text(0.985, (3.84 + below) / (320 + below), note, ha="right", va="bottom", fontsize=9.5, color=MUTED)
    marks = tuple(_mark(axes, row, value, metric) for row, value in points)
    return finish(figure, f"{title} against bits per pixel; {hint[2:]}", (*marks, *published_marks))


def published_curves(points: Sequence[PublishedPoint]) -> list[tuple[str, str]]:
    """Return the curves, each a system by one protocol, in order of first appearance."""
    return list(dict.fromkeys((point.system, point.protocol) for point in points))


def draw_published(figure: Any, axes: Any, points: Sequence[PublishedPoint], metric: Metric) -> list[Mark]:
    """Draw published curves, dashed, with a legend of a row of `PUBLISHED_ROW_PT` each at the bottom."""
    from matplotlib.lines import Line2D

    handles = []
    for place, (system, protocol) in enumerate(published_curves(points)):
        own = [point for point in points if (point.system, point.protocol) == (system, protocol)]
        style: dict[str, Any] = {
            "color": _PUBLISHED[place % len(_PUBLISHED)],
            "linestyle": "--",
            "linewidth": 1.4,
            "marker": "osD^v"[place % 5],
            "markersize": 6,
            "markerfacecolor": "#fefefe",
        }
        axes.plot(*zip(*sorted((one.bpp, one.values[metric.name]) for one in own), strict=True), zorder=2, **style)
        text = _plain(f"published: {system} ({protocol})")
        handles.append(Line2D([], [], label=text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…", **style))
    if handles:
        place_of = {"loc": "lower left", "bbox_to_anchor": (0.02, 0.0), "ncols": 1, "labelspacing": 0.3}
        figure.legend(handles=handles, frameon=False, fontsize=9.5, labelcolor=MUTED, **place_of)
    return [_published_mark(axes, point, metric) for point in points]


def _published_mark(axes: Any, point: PublishedPoint, metric: Metric) -> Mark:
    value = point.values[metric.name]
    number = f"{metric.heading} {format_number(value, metric.digits)}"
    text = f"published: {point.system} ({point.protocol}): {point.bpp:.3f} bpp, {number}"
    return mark_at(axes, (point.bpp, point.bpp), (value, value), text, margin=8.0)


def _plain(text: str) -> str:
    """Escape what a legend would read as mathematics; a leading "_" would hide an entry."""
    return text.lstrip("_").replace("$", r"\$")


def energy_chart(rows: Sequence[SummaryRow]) -> Chart:
    """Top-octave energy of each row: a dot on a line, with the original at 1.0.

    Rows without a finite value keep their line and show "–" or "∞".
    """
    title, hint = "Top-octave energy", "1.0 is the original"
    figure, axes = new_axes(title, hint, height=92 + 34 * max(len(rows), 3), left=18, right=58, bottom=40)
    if not rows:
        return empty(figure, axes, title, "not measured in this run")
    largest = max([value for row in rows if _finite(value := row.values[_ENERGY]) and value is not None], default=0.0)
    axes.set_xlim(0.0, max(1.25, 1.08 * largest))
    axes.set_ylim(len(rows) - 0.35, -0.75)
    axes.set_yticks([])
    axes.axvline(1.0, color=INK, linewidth=1.2, dashes=(3, 3), zorder=1)
    for index, row in enumerate(rows):
        _draw_energy(axes, index, row)
    return finish(figure, f"{title} of each system; {hint}")


def system_colour(system: str) -> str:
    """The CSS colour of a system, with a fallback: ``var(--c-avif, #6a45bf)``."""
    return f"var(--c-{system if system in _COLOURS else 'other'}, {_colour(system)})"


def _draw_system(axes: Any, system: str, points: list[tuple[float, float]]) -> None:
    ours = system in OUR_SYSTEMS
    axes.plot(
        *zip(*sorted(points), strict=True),
        color=_colour(system),
        linestyle="none" if ours else "-",
        linewidth=1.8,
        marker=_MARKERS.get(system, "P"),
        markersize=11 if ours else 7.5,
        markeredgecolor="#fefefe",
        markeredgewidth=1.6 if ours else 0.8,
        clip_on=False,
        zorder=4 if ours else 3,
    )


def _mark(axes: Any, row: SummaryRow, value: float, metric: Metric) -> Mark:
    number = f"{metric.heading} {format_number(value, metric.digits)}"
    text = f"{system_label(row.system)}, {row.setting}: {row.bpp:.3f} bpp, {number}"
    return mark_at(axes, (row.bpp, row.bpp), (value, value), text, margin=8.0)


def _legend(figure: Any, systems: Sequence[str], below: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            *([], []),
            color=_colour(name),
            linestyle="none" if name in OUR_SYSTEMS else "-",
            marker=_MARKERS.get(name, "P"),
            markersize=8 if name in OUR_SYSTEMS else 6,
            label=_plain(_short(name)),
        )
        for name in systems
    ]
    style = {"frameon": False, "fontsize": 10.5, "labelcolor": INK}
    gaps = {"handlelength": 1.3, "handletextpad": 0.5, "columnspacing": 1.1}
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, (9.6 + below) / (320 + below)),
        ncols=5,
        **style,
        **gaps,
    )


def _draw_energy(axes: Any, index: int, row: SummaryRow) -> None:
    value, colour, transform = row.values[_ENERGY], _colour(row.system), axes.get_yaxis_transform()
    label = ", ".join(filter(None, (_short(row.system), row.setting)))
    axes.text(0.0, index - 0.24, label, transform=transform, va="bottom", fontsize=10.5, color=MUTED, parse_math=False)
    axes.plot([0, 1], [index, index], transform=transform, color=GRID, linewidth=2, zorder=0)
    if _finite(value):
        axes.plot([1.0, value], [index, index], color=colour, linewidth=4, zorder=2, solid_capstyle="butt")
        axes.plot([value], [index], marker=_MARKERS.get(row.system, "P"), markersize=9, color=colour, zorder=3)
    number = format_number(value, 2)
    axes.text(1.02, index, number, transform=transform, va="center", fontsize=11, color=INK, fontweight="bold")


def _colour(system: str) -> str:
    return _COLOURS.get(system, _OTHER)


def _short(system: str) -> str:
    return system_label(system).split(" (")[0]


def _finite(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)
