"""Histograms and bar charts of a data set as SVG text, in the style of :mod:`hfd.report.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from hfd.report.plots import _COLOURS, _HEIGHT, _STYLE, _empty, _figure, _finish

KEPT, REJECTED = _COLOURS["autoencoder"], _COLOURS["jpeg"]
_BINS = 32


def histogram(
    prefix: str, title: str, kept: Sequence[float], rejected: Sequence[float], *, unit: str, log: bool = False
) -> str:
    """How values are spread, kept and rejected photographs stacked, as SVG text.

    Args:
        prefix: what identifiers in the SVG begin with; unique in a page.
        log: bins of equal ratio rather than equal width; values have to be above 0.
    """
    values = np.concatenate([np.asarray(kept, dtype=np.float64), np.asarray(rejected, dtype=np.float64)])
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": prefix}):
        figure, axes = _figure(_HEIGHT, bottom=48, title=title, hint=_hint(values))
        if not values.size:
            return _finish(_empty(figure, axes), prefix, f"{title}: not measured", {})
        edges = bin_edges(values, log=log)
        if log:
            axes.set_xscale("log")
        axes.hist([kept, rejected], bins=edges, stacked=True, color=[KEPT, REJECTED], rwidth=0.92, linewidth=0)
        if log:
            axes.minorticks_off()
            ticks = _log_ticks(float(edges[0]), float(edges[-1]))
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        _dress(axes, unit)
        return _finish(figure, prefix, f"{title}: a histogram of {values.size} photographs", {})


def bars(prefix: str, title: str, counts: Mapping[str, tuple[int, int]]) -> str:
    """Numbers of (kept, rejected) photographs by name as SVG text, the largest first."""
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": prefix}):
        figure, axes = _figure(_HEIGHT, bottom=24, title=title, hint="photographs", left=18, right=70)
        if not counts:
            return _finish(_empty(figure, axes), prefix, f"{title}: none", {})
        ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
        for row, (name, (kept, rejected)) in enumerate(ordered):
            axes.barh([row, row], [kept, rejected], left=[0, kept], color=[KEPT, REJECTED], height=0.36, linewidth=0)
            small = {"va": "bottom", "fontsize": 10.5, "color": _COLOURS["muted"], "parse_math": False}
            axes.text(0.0, row - 0.24, name, transform=axes.get_yaxis_transform(), **small)
            axes.annotate(
                f"{kept + rejected:,}", (kept + rejected, row), xytext=(6, 0), textcoords="offset points",
                va="center", fontsize=11, color=_COLOURS["ink"], annotation_clip=False,
            )  # fmt: skip
        axes.set_ylim(max(len(ordered), 4) - 0.4, -0.8)
        axes.set_xlim(0, max(sum(pair) for pair in counts.values()))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
        return _finish(figure, prefix, f"{title}: numbers of photographs", {})


def bin_edges(values: npt.NDArray[np.float64], *, log: bool) -> npt.NDArray[np.float64]:
    """Edges of about 32 bins that hold every value; whole numbers within a small range get a bin each."""
    low, high = float(values.min()), float(values.max())
    if log:
        return np.geomspace(low * 0.99, high * 1.01, _BINS + 1)
    if np.array_equal(values, np.rint(values)) and high - low <= 2 * _BINS:
        return np.arange(low - 0.5, high + 1.0)
    margin = 1e-9 * max(abs(low), abs(high), 1.0)
    return np.linspace(low - margin, high + margin, _BINS + 1)


def _log_ticks(low: float, high: float) -> list[float]:
    ticks = [float(f"{step}e{power}") for power in range(-6, 9) for step in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside[:: max(1, len(inside) // 6)]


def _hint(values: npt.NDArray[np.float64]) -> str:
    return f"median {float(np.median(values)):.4g}" if values.size else ""


def _dress(axes: Any, unit: str) -> None:
    axes.grid(axis="y", color=_COLOURS["grid"], linewidth=1.0)
    axes.set_axisbelow(True)
    axes.locator_params(axis="y", nbins=5)
    axes.tick_params(colors=_COLOURS["muted"], length=0, labelsize=11, pad=6)
    axes.set_xlabel(unit, color=_COLOURS["muted"], fontsize=11, labelpad=4)
