"""The card of a data set as one HTML page that needs no network and no other file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.image.load import RgbArray
from hfd.report.histograms import KEPT, REJECTED, bars, histogram

TILE_PX = 144
COLUMNS = 8


@dataclass(frozen=True)
class Property:
    """One measured property of the photographs: its values among those kept and those rejected."""

    title: str
    unit: str
    kept: npt.NDArray[np.float64]
    rejected: npt.NDArray[np.float64]
    log: bool = False


@dataclass(frozen=True)
class Card:
    """What the page shows. ``counts``: headline numbers by label; the two mappings: (kept, rejected) by name."""

    title: str
    source: str
    counts: Mapping[str, int]
    properties: Sequence[Property]
    formats: Mapping[str, tuple[int, int]]
    reasons: Mapping[str, tuple[int, int]]
    sheet: bytes
    """WebP of `contact_sheet`; empty where there is no crop."""
    sheet_images: int


_STYLE = """
:root { --bg: #f3f3f4; --surface: #fff; --ink: #1c1c1d; --muted: #5c5c60; --line: #dadadd; --c-kept: #0b5fc4;
  --c-rejected: #9a6a00; }
@media (prefers-color-scheme: dark) { :root { --bg: #131314; --surface: #1c1c1e; --ink: #ededee; --muted: #a3a3a8;
  --line: #343438; --c-kept: #6aaaff; --c-rejected: #dcae4e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 2rem clamp(1rem, 3.5vw, 2.5rem) 4rem; background: var(--bg);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; }
p { margin: .2rem 0 0; color: var(--muted); overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1px; margin: 1.4rem 0 0;
  background: var(--line); border: 1px solid var(--line); }
dl div { background: var(--surface); padding: .8rem 1rem; }
dt { color: var(--muted); font-size: .9rem; } dd { margin: 0; font-size: 1.5rem; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; margin-top: 1rem; }
.charts > div { background: var(--surface); border: 1px solid var(--line); padding: .8rem; }
.charts svg { display: block; width: 100%; height: auto; }
img { display: block; width: 100%; height: auto; margin-top: 1rem; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
"""


def contact_sheet(pictures: Sequence[RgbArray]) -> bytes:
    """Pictures, uint8 (H, W, 3), in rows of eight tiles, each cut to its middle square; as WebP. Empty for none."""
    if not pictures:
        return b""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (TILE_PX * min(COLUMNS, len(pictures)), TILE_PX * rows), (128, 128, 128))
    for number, x in enumerate(pictures):
        side = min(x.shape[:2])
        top, left = (x.shape[0] - side) // 2, (x.shape[1] - side) // 2
        tile = Image.fromarray(np.ascontiguousarray(x[top : top + side, left : left + side]))
        tile = tile.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
        sheet.paste(tile, (TILE_PX * (number % COLUMNS), TILE_PX * (number // COLUMNS)))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=90, method=1)
    return buffer.getvalue()


def render_card(card: Card) -> str:
    """The page as HTML text, all of its text escaped; a function of ``card`` alone."""
    tiles = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{count:,}</dd></div>" for name, count in card.counts.items())
    charts = [histogram(one.title, one.kept, one.rejected, unit=one.unit, log=one.log) for one in card.properties]
    charts += [bars("Formats", card.formats), bars("Reasons for rejection", card.reasons)]
    picture = ""
    if card.sheet:
        data = base64.b64encode(card.sheet).decode()
        picture = (
            f"<h2>{card.sheet_images} of the training crops</h2><p>Taken evenly over the shards; the middle square of "
            f'each.</p><img alt="{card.sheet_images} training crops" src="data:image/webp;base64,{data}">'
        )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(card.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(card.title)}</h1>\n<p>{html.escape(card.source)}</p>\n<dl>{tiles}</dl>\n{picture}\n"
        f"<h2>What the photographs are like</h2>\n<p>{_dot(KEPT)}kept &ensp; "
        f"{_dot(REJECTED)}rejected. Sizes are known of photographs that were decoded.</p>\n"
        f'<div class="charts">{"".join(f"<div>{chart}</div>" for chart in charts)}</div>\n</body>\n</html>\n'
    )


def _dot(colour: str) -> str:
    return f'<span class="dot" style="background: {colour}"></span>'
