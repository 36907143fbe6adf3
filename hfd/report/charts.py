"""Draw charts with matplotlib as SVG images, with the position of each mark for its tooltip."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 440
"""Width of every chart, in points."""

INK, MUTED, GRID = "#1c1c1d", "#6e6e70", "#dededf"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hfd",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the first one ships with matplotlib
    "font.size": 11.0,
    "axes.edgecolor": GRID,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Mark:
    """A rectangle of a chart in percent of its width and height, and the text to show at it."""

    left: float
    top: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Chart:
    """An SVG file, its description in words, and its marks."""

    svg: bytes
    label: str
    marks: tuple[Mark, ...] = ()

    @property
    def uri(self) -> str:
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


def new_axes(title: str, hint: str, *, height: int, left: int, right: int, bottom: int) -> tuple[Figure, Any]:
    """Create a figure of `WIDTH` x ``height`` points with a title, a hint at the right, and bare axes in margins."""
    import matplotlib
    from matplotlib.figure import Figure

    top = 38
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + top) / height)
        axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, length=0, labelsize=11, pad=6)
    text: dict[str, Any] = {"va": "top", "y": 1 - 14 / height, "parse_math": False}
    figure.text(x=0.012, s=title, ha="left", fontweight="bold", color=INK, fontsize=13, **text)
    figure.text(x=0.985, s=hint, ha="right", color=MUTED, fontsize=11, **text)
    return figure, axes


def scale_by_rate(axes: Any) -> None:
    """Prepare axes for a quality against bits per pixel, before anything is drawn."""
    axes.margins(x=0.09, y=0.12)
    axes.grid(axis="y", color=GRID, linewidth=1.0)
    axes.locator_params(nbins=6)
    axes.ticklabel_format(useOffset=False)
    axes.set_xlabel("bits per pixel", color=MUTED, fontsize=11, labelpad=4)


def mark_at(axes: Any, x: tuple[float, float], y: tuple[float, float], text: str, margin: float = 0.0) -> Mark:
    """Return the mark over the data ranges ``x`` and ``y``, ``margin`` points larger on every side."""
    axes.get_xlim(), axes.get_ylim()  # sets the limits from the data
    width, height = axes.figure.bbox.size
    (x0, y0), (x1, y1) = axes.transData.transform([(x[0], y[0]), (x[1], y[1])])
    left, right, bottom, top = min(x0, x1) - margin, max(x0, x1) + margin, min(y0, y1) - margin, max(y0, y1) + margin
    box = (left / width, 1 - top / height, (right - left) / width, (top - bottom) / height)
    left, top, width, height = (round(100 * float(value), 2) for value in box)
    return Mark(left, top, width, height, text)


def empty(figure: Figure, axes: Any, title: str, text: str) -> Chart:
    """Draw a chart without data, with a message."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=12, color=MUTED, transform=axes.transAxes)
    return finish(figure, f"{title}: {text}")


def finish(figure: Figure, label: str, marks: tuple[Mark, ...] = ()) -> Chart:
    """Write the figure as SVG. The bytes depend on the figure only: no date, no random identifiers."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return Chart(buffer.getvalue(), label, marks)
