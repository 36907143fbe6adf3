"""Histograms and bar charts of a data set as SVG text that can stand in a page, many at once.

Written out by hand in place of matplotlib, which would cost a second in a step that may take five. Every colour is
``var(--name, #fallback)``, so that a page can follow the reader's light or dark setting.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

KEPT, REJECTED = "var(--c-kept, #0b5fc4)", "var(--c-rejected, #9a6a00)"
_INK, _MUTED, _GRID = "var(--ink, #1c1c1d)", "var(--muted, #5c5c60)", "var(--line, #dadadd)"
_BINS = 32
_WIDTH, _HEIGHT = 440, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 40, 46


def histogram(
    title: str, kept: npt.NDArray[np.float64], rejected: npt.NDArray[np.float64], *, unit: str, log: bool = False
) -> str:
    """How values are spread, kept and rejected photographs stacked, as SVG text.

    Args:
        kept, rejected: finite values, one for each photograph.
        log: bins of equal ratio rather than equal width; values have to be above 0.
    """
    values = np.concatenate([kept, rejected])
    if not values.size:
        return _svg(title, "", [_text(_WIDTH / 2, _HEIGHT / 2, "not measured", anchor="middle")])
    edges = bin_edges(values, log=log)
    lower, upper = (np.histogram(side, edges)[0] for side in (kept, rejected))
    top = int((lower + upper).max())
    places = np.log(edges) if log else edges
    x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (places - places[0]) / (places[-1] - places[0])
    parts = _levels(top)
    for i, (low, high) in enumerate(zip(lower.tolist(), (lower + upper).tolist(), strict=True)):
        label = f"{edges[i]:.4g} to {edges[i + 1]:.4g}: {low} kept, {high - low} rejected"
        left, right = float(x[i]) + 0.5, float(x[i + 1]) - 0.5
        bar = _bar(left, _height(low, top), right, _height(0, top), KEPT)
        bar += _bar(left, _height(high, top), right, _height(low, top), REJECTED)
        parts.append(f"<g>{bar}<title>{html.escape(label)}</title></g>")
    for tick in _log_ticks(edges[0], edges[-1]) if log else _ticks(edges[0], edges[-1]):
        place = math.log(tick) if log else tick
        at = float(np.interp(place, [places[0], places[-1]], [_LEFT, _WIDTH - _RIGHT]))
        parts.append(_text(min(at, _WIDTH - 18), _HEIGHT - _BOTTOM + 17, f"{tick:g}", anchor="middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, unit, anchor="middle"))
    return _svg(title, f"median {float(np.median(values)):.4g}", parts)


def bars(title: str, counts: Mapping[str, tuple[int, int]]) -> str:
    """Numbers of (kept, rejected) photographs by name as SVG text, the largest first."""
    if not counts:
        return _svg(title, "", [_text(_WIDTH / 2, _HEIGHT / 2, "none", anchor="middle")])
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    top = max(sum(pair) for pair in counts.values())
    step = min(44.0, (_HEIGHT - _TOP - 8) / len(ordered))
    parts = []
    for row, (name, (kept, rejected)) in enumerate(ordered):
        y = _TOP + step * row
        scale = (_WIDTH - 24 - 64) / top
        end = 12 + scale * (kept + rejected)
        parts.append(_text(12, y + step * 0.42, name))
        parts.append(_bar(12, y + step * 0.52, 12 + scale * kept, y + step * 0.86, KEPT))
        parts.append(_bar(12 + scale * kept, y + step * 0.52, end, y + step * 0.86, REJECTED))
        parts.append(_text(end + 6, y + step * 0.69 + 4, f"{kept + rejected:,}", colour=_INK))
    return _svg(title, "photographs", parts)


def bin_edges(values: npt.NDArray[np.float64], *, log: bool) -> npt.NDArray[np.float64]:
    """Edges of about 32 bins that hold every value; whole numbers within a small range get bins about them."""
    low, high = float(values.min()), float(values.max())
    if log:
        return np.geomspace(low * 0.99, high * 1.01, _BINS + 1)
    if np.array_equal(values, np.rint(values)) and high - low <= 2 * _BINS:
        return np.arange(low - 0.5, high + 1.0)
    margin = 1e-9 * max(abs(low), abs(high), 1.0)
    return np.linspace(low - margin, high + margin, _BINS + 1)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high], about five."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-6)
    return [float(f"{step * k:.6g}") for k in range(first, math.floor(high / step + 1e-6) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    ticks = [float(f"{digit}e{power}") for power in range(-6, 12) for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside[:: max(1, math.ceil(len(inside) / 7))]


def _levels(top: int) -> list[str]:
    """Horizontal lines at round counts, with their numbers."""
    parts = []
    for count in _ticks(0, top):
        if count == int(count):
            y = _height(int(count), top)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{_GRID}" fill="none"/>')
            parts.append(_text(_LEFT - 8, y + 4, f"{int(count):,}", anchor="end"))
    return parts


def _height(count: int, top: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * count / top


def _bar(left: float, top: float, right: float, bottom: float, colour: str) -> str:
    if right <= left or bottom <= top:
        return ""
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" fill="{colour}"/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = _MUTED, size: float = 11, more: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size:g}"{more}>'
        f"{html.escape(text)}</text>"
    )


def _svg(title: str, hint: str, parts: Sequence[str]) -> str:
    heading = _text(12, 20, title, colour=_INK, size=13, more=' font-weight="bold"')
    note = _text(_WIDTH - _RIGHT, 20, hint, anchor="end")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="system-ui, sans-serif">{heading}{note}{"".join(parts)}</svg>'
    )
