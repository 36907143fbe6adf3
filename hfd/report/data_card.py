"""Render the card of a data set as one HTML page that needs no network and no other file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.image.load import RgbArray
from hfd.report.histograms import bars, histogram
from hfd.report.template import render_template

TILE_PX = 144
COLUMNS = 8


@dataclass(frozen=True)
class Property:
    """Values of one property, of the photographs that were kept and of those rejected."""

    title: str
    unit: str
    kept: npt.NDArray[np.float64]
    rejected: npt.NDArray[np.float64]
    log: bool = False


@dataclass(frozen=True)
class Card:
    """Contents of the page. ``counts``: headline numbers by label; the two mappings: (kept, rejected) by name."""

    title: str
    source: str
    counts: Mapping[str, int]
    properties: Sequence[Property]
    formats: Mapping[str, tuple[int, int]]
    reasons: Mapping[str, tuple[int, int]]
    sheet: bytes
    """WebP of `contact_sheet`; empty if there is no crop."""
    sheet_images: int
    sources: Sequence[tuple[str, str, str, int, int, int]] = ()
    """Name, URI, share, and the numbers of photographs, of those kept and of crops, of each of several sources."""


def contact_sheet(pictures: Sequence[RgbArray]) -> bytes:
    """Arrange pictures, uint8 (H, W, 3), in rows of eight tiles, cropped to the centre square, as WebP; none: empty."""
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
    """Render the page as HTML text, with all text of ``card`` escaped; it depends on ``card`` only."""
    charts = [histogram(one.title, one.kept, one.rejected, unit=one.unit, log=one.log) for one in card.properties]
    charts += [bars("Formats", card.formats), bars("Reasons for rejection", card.reasons)]
    return render_template("card.html", card=card, charts=charts)
