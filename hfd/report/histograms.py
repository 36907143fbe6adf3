"""Histograms and bar charts of a data set: kept and rejected photographs, stacked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hfd.report.charts import GRID, MUTED, Chart, empty, finish, mark_at, new_axes

KEPT, REJECTED = "#0b5fc4", "#9a6a00"
_HEIGHT = 260
_BINS = 32


def histogram(
    title: str, kept: npt.NDArray[np.float64], rejected: npt.NDArray[np.float64], *, unit: str, log: bool = False
) -> Chart:
    """Distribution of a property.

    Args:
        kept, rejected: finite values, one for each photograph.
        log: bins of equal ratio rather than equal width; values have to be above 0.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    values = np.concatenate([kept, rejected])
    hint = f"median {float(np.median(values)):.4g}" if values.size else ""
    figure, axes = new_axes(title, hint, height=_HEIGHT, left=48, right=12, bottom=46)
    if not values.size:
        return empty(figure, axes, title, "not measured")
    edges = bin_edges(values, log=log)
    if log:
        axes.set_xscale("log")
        if edges[-1] < 1000 * edges[0]:
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())  # labels of all minor ticks would overlap
    axes.hist([kept, rejected], bins=edges, stacked=True, color=[KEPT, REJECTED], rwidth=0.9)
    axes.set_xlim(edges[0], edges[-1])
    axes.locator_params(axis="y", nbins=5, integer=True)
    axes.grid(axis="y", color=GRID)
    axes.set_xlabel(unit, color=MUTED, fontsize=11)
    lower, upper = (np.histogram(side, edges)[0] for side in (kept, rejected))
    marks = [
        mark_at(axes, (a, b), (0, k + r), f"{a:.4g} to {b:.4g}: {k} kept, {r} rejected")
        for a, b, k, r in zip(edges[:-1], edges[1:], lower, upper, strict=True)
        if k + r
    ]
    return finish(figure, title, tuple(marks))


def bars(title: str, counts: Mapping[str, tuple[int, int]]) -> Chart:
    """Numbers of (kept, rejected) photographs by name, the largest first."""
    figure, axes = new_axes(title, "photographs" if counts else "", height=_HEIGHT, left=12, right=60, bottom=8)
    if not counts:
        return empty(figure, axes, title, "none")
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    axes.set_axis_off()
    axes.set_ylim(max(len(ordered), 5) - 0.4, -0.8)
    marks = []
    for index, (name, (kept, rejected)) in enumerate(ordered):
        axes.barh(index, kept, 0.35, color=KEPT)
        axes.barh(index, rejected, 0.35, left=kept, color=REJECTED)
        axes.text(0, index - 0.24, name, va="bottom", color=MUTED, parse_math=False)
        axes.annotate(f"{kept + rejected:,}", (kept + rejected, index), (6, 0), textcoords="offset points", va="center")
        marks.append((index, kept + rejected, f"{name}: {kept} kept, {rejected} rejected"))
    axes.set_xlim(0, max(total for _, total, _ in marks))
    return finish(
        figure,
        title,
        tuple(mark_at(axes, (0, total), (index - 0.7, index + 0.2), text) for index, total, text in marks),
    )


def bin_edges(values: npt.NDArray[np.float64], *, log: bool) -> npt.NDArray[np.float64]:
    """Edges of about 32 bins that hold every value; whole numbers in a small range get bins centred on them."""
    low, high = float(values.min()), float(values.max())
    if log:
        return np.geomspace(low * 0.99, high * 1.01, _BINS + 1)
    if np.array_equal(values, np.rint(values)) and high - low <= 2 * _BINS:
        return np.arange(low - 0.5, high + 1.0)
    margin = 1e-9 * max(abs(low), abs(high), 1.0)
    return np.linspace(low - margin, high + margin, _BINS + 1)
