"""Plots of an evaluation as SVG text that can stand in a page (many at once) or in a file of its own.

Text stays text: the page's own font draws it and a reader can select it. Every colour is written as
``var(--name, #fallback)``, so a page can follow the reader's light or dark setting while a lone file keeps
its colours. The output depends on the rows alone: no dates, no random identifiers.
"""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hfd.metrics.table import Metric
from hfd.report.content import OUR_SYSTEMS, SYSTEM_LABELS, SummaryRow, system_label
from hfd.report.tables import format_number

_HINTS = {"higher": "↑ higher is better", "lower": "↓ lower is better", None: ""}
_MARKERS = {"autoencoder": "D", "sample": "o", "jpeg": "s", "webp": "^", "avif": "v"}
# Told apart by shape as well as by colour. Each colour is unique: `_recolour` finds it in the output.
_COLOURS = {
    "autoencoder": "#0b5fc4",
    "sample": "#d3126e",
    "jpeg": "#9a6a00",
    "webp": "#117a5a",
    "avif": "#6a45bf",
    "other": "#5f6b76",
    "ink": "#1c1c1d",
    "muted": "#6e6e70",
    "grid": "#dededf",
    "surface": "#fefefe",
}
_WIDTH, _HEIGHT = 440, 320  # user units of the viewBox (points)
_STYLE = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the layout is the same on every machine
    "font.size": 12.0,
    "axes.edgecolor": _COLOURS["grid"],
    "axes.linewidth": 1.0,
    "axes.unicode_minus": True,
}
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def rate_plot(rows: Sequence[SummaryRow], metric: Metric) -> str:
    """Bits per pixel against one quality as SVG text; identifiers in it begin with the metric's name.

    A baseline's points are joined in order of rate; ours stand alone, larger. Rows without the value (None,
    NaN, infinite) are left out and counted in a line under the plot.
    """
    title, hint = ", ".join(filter(None, (metric.label, metric.unit))), _HINTS[metric.better]
    values = [(row, row.values[metric.name]) for row in rows]
    points = [(row, value) for row, value in values if value is not None and _finite(value) and _finite(row.bpp)]
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": metric.name}):
        figure, axes = _figure(_HEIGHT, bottom=74, title=title, hint=hint)
        if not points:
            return _finish(_empty(figure, axes), metric.name, f"{title}: not measured", {})
        titles = _draw_systems(axes, points, metric)
        _style_rate_axes(axes)
        _legend(figure, list(dict.fromkeys(row.system for row, _ in points)))
        left_out = len(rows) - len(points)
        if left_out:
            note = f"{left_out} without a finite value not shown"
            figure.text(0.985, 0.012, note, ha="right", va="bottom", fontsize=9.5, color=_COLOURS["muted"])
        label = f"{title} against bits per pixel; {hint[2:]}"
        return _finish(figure, metric.name, label, titles)


def energy_chart(rows: Sequence[SummaryRow]) -> str:
    """Top-octave energy of each row as SVG text: a dot on a line whose mark at 1.0 is the original.

    Rows without a finite value keep their line and show "–" or "∞". Identifiers begin with ``energy``.
    """
    finite = [value for row in rows if (value := row.values["top_octave_energy"]) is not None and _finite(value)]
    height = 92 + 34 * max(len(rows), 3)
    title, hint = "Top-octave energy", "1.0 is the original"
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": "energy"}):
        figure, axes = _figure(height, bottom=40, title=title, hint=hint, left=18, right=58)
        if not rows:
            return _finish(_empty(figure, axes), "energy", f"{title}: not measured", {})
        axes.set_xlim(0.0, max([1.25, *(1.08 * value for value in finite)]))
        axes.set_ylim(len(rows) - 0.35, -0.75)
        axes.set_yticks([])
        axes.tick_params(colors=_COLOURS["muted"], length=0, labelsize=11, pad=6)
        axes.axvline(1.0, color=_COLOURS["ink"], linewidth=1.2, dashes=(3, 3), zorder=1)
        for index, row in enumerate(rows):
            _draw_energy(axes, index, row)
        return _finish(figure, "energy", f"{title} of each system; {hint}", {})


def system_colour(system: str) -> str:
    """The CSS colour of a system, with a fallback: ``var(--c-avif, #6a45bf)``."""
    return f"var({_variable(system)}, {_COLOURS.get(system, _COLOURS['other'])})"


def _figure(height: int, *, bottom: int, title: str, hint: str, left: int = 56, right: int = 16) -> tuple[Any, Any]:
    """A figure of _WIDTH x height units with one bare axes (matplotlib ships no types we can name)."""
    figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    top = 38
    box = (left / _WIDTH, bottom / height, 1 - (left + right) / _WIDTH, 1 - (bottom + top) / height)
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    edge = 1 - 14 / height
    figure.text(0.012, edge, title, ha="left", va="top", fontweight="bold", color=_COLOURS["ink"], fontsize=13)
    figure.text(0.985, edge, hint, ha="right", va="top", color=_COLOURS["muted"], fontsize=11)
    return figure, axes


def _draw_systems(axes: Any, points: Sequence[tuple[SummaryRow, float]], metric: Metric) -> dict[str, str]:
    """Draw each system; returns the tooltip of every point by the identifier of its group."""
    titles: dict[str, str] = {}
    for system in dict.fromkeys(row.system for row, _ in points):
        own = sorted(((r, v) for r, v in points if r.system == system), key=lambda pair: pair[0].bpp)
        ours = system in OUR_SYSTEMS
        colour = _colour(system)
        if not ours and len(own) > 1:
            axes.plot([r.bpp for r, _ in own], [v for _, v in own], color=colour, linewidth=1.8, zorder=2)
        for row, value in own:
            gid = f"point-{len(titles)}"
            axes.plot(
                *([row.bpp], [value]),
                linestyle="none",
                marker=_MARKERS.get(system, "P"),
                markersize=11 if ours else 7.5,
                markerfacecolor=colour,
                markeredgecolor=_COLOURS["surface"],
                markeredgewidth=1.6 if ours else 0.8,
                clip_on=False,
                zorder=4 if ours else 3,
                gid=gid,
            )
            number = format_number(value, metric.digits)
            titles[gid] = f"{system_label(system)}, {row.setting}: {row.bpp:.3f} bpp, {metric.heading} {number}"
    return titles


def _style_rate_axes(axes: Any) -> None:
    axes.margins(x=0.09, y=0.12)
    axes.grid(axis="y", color=_COLOURS["grid"], linewidth=1.0)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=6)
    axes.tick_params(colors=_COLOURS["muted"], length=0, labelsize=11, pad=6)
    axes.ticklabel_format(useOffset=False)
    axes.set_xlabel("bits per pixel", color=_COLOURS["muted"], fontsize=11, labelpad=4)


def _legend(figure: Any, systems: Sequence[str]) -> None:
    known = [*OUR_SYSTEMS, *(name for name in SYSTEM_LABELS if name not in OUR_SYSTEMS)]
    ordered = sorted(systems, key=lambda name: known.index(name) if name in known else len(known))
    handles = [
        Line2D(
            *([], []),
            color=_colour(name),
            linestyle="none" if name in OUR_SYSTEMS else "-",
            marker=_MARKERS.get(name, "P"),
            markersize=8 if name in OUR_SYSTEMS else 6,
            label=_short(name).lstrip("_").replace("$", r"\$"),  # a leading "_" would hide the entry
        )
        for name in ordered
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.03),
        ncols=5,
        **{"frameon": False, "fontsize": 10.5, "labelcolor": _COLOURS["ink"]},
        **{"handlelength": 1.3, "handletextpad": 0.5, "columnspacing": 1.1},
    )


def _draw_energy(axes: Any, index: int, row: SummaryRow) -> None:
    value = row.values["top_octave_energy"]
    colour = _colour(row.system)
    transform = axes.get_yaxis_transform()
    label = ", ".join(filter(None, (_short(row.system), row.setting)))
    small = {"va": "bottom", "fontsize": 10.5, "color": _COLOURS["muted"], "parse_math": False}
    axes.text(0.0, index - 0.24, label, transform=transform, **small)
    axes.plot([0, 1], [index, index], transform=transform, color=_COLOURS["grid"], linewidth=2, zorder=0)
    number = {"va": "center", "fontsize": 12, "fontweight": "bold", "color": _COLOURS["ink"]}
    axes.text(1.03, index, format_number(value, 2), transform=transform, **number)
    if _finite(value):
        axes.plot([1.0, value], [index, index], color=colour, linewidth=4, zorder=2, solid_capstyle="butt")
        axes.plot([value], [index], marker=_MARKERS.get(row.system, "P"), color=colour, markersize=9, zorder=3)


def _empty(figure: Any, axes: Any) -> Any:
    axes.set_axis_off()
    middle = {"ha": "center", "va": "center", "color": _COLOURS["muted"], "transform": axes.transAxes}
    axes.text(0.5, 0.5, "not measured in this run", **middle)
    return figure


def _finish(figure: Any, prefix: str, label: str, titles: dict[str, str]) -> str:
    """Write the figure, then make it fit to stand in a page among others."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    root = ET.fromstring(buffer.getvalue())
    _strip(root)
    for element in root.iter("g"):
        title = titles.get(element.get("id", ""))
        if title is not None:
            ET.SubElement(element, "title").text = title
    _prefix_ids(root, prefix)
    for name in ("width", "height"):  # the page decides; the viewBox keeps the shape
        root.attrib.pop(name, None)
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _strip(root: ET.Element) -> None:
    """Drop namespaces (an inline SVG needs none but its own), metadata, the fixed font family and colours."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if "}" in key]:
            element.set(key.rpartition("}")[2], element.attrib.pop(key))
        style = element.get("style")
        if style is not None:
            element.set("style", _recolour(re.sub(r"'DejaVu Sans'[^;]*", _FONT, style)))
    for child in root.findall("metadata") + root.findall("defs[style]"):
        root.remove(child)  # a <style> would reach beyond the plot, into the whole page
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")


def _prefix_ids(root: ET.Element, prefix: str) -> None:
    """Give every identifier and every reference to one the prefix: two plots in a page must not clash."""
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif key == "href":
                element.set(key, value.replace("#", f"#{prefix}-", 1))
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{prefix}-"))


def _recolour(style: str) -> str:
    for name, colour in _COLOURS.items():
        style = style.replace(colour, f"var({_variable(name)}, {colour})")
    return style


def _variable(name: str) -> str:
    return f"--c-{name if name in _COLOURS else 'other'}"


def _colour(system: str) -> str:
    return _COLOURS.get(system, _COLOURS["other"])


def _short(system: str) -> str:
    return system_label(system).split(" (")[0]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
