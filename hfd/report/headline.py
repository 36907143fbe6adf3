"""The top of the report: our numbers beside those of the other systems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hfd.metrics.table import METRICS
from hfd.report.content import OUR_SYSTEMS, FewerImages, Report, SummaryRow, system_label
from hfd.report.summarise import headline_row
from hfd.report.tables import counted, format_number, one_line

RAW_BPP = 24
"""Three channels of eight bits."""

_TILES = (
    ("bpp", "Rate", "bits per pixel"),
    ("fd_effnet", "Realism", "FD-EffNet, lower is better"),
    ("psnr", "Fidelity", "PSNR in dB, higher is better"),
    ("top_octave_energy", "Fine detail", "top-octave energy, 1.0 is right"),
)


@dataclass(frozen=True)
class Tile:
    """One of our numbers beside those of the other systems."""

    name: str
    unit: str
    ours: str
    others: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Headline:
    """The top of the page, about one row of ``system``."""

    system: str
    claim: str
    text: str
    tiles: Sequence[Tile]


def claim_without_ours(rows: Sequence[SummaryRow]) -> str:
    """Return the claim of a report without a row of ours."""
    systems = [system_label(system) for system in dict.fromkeys(row.system for row in rows)]
    if not systems:
        return "This report has no results of this codec."
    images = max(row.num_images for row in rows)
    return f"{images} {'photograph' if images == 1 else 'photographs'}, without a model: {', '.join(systems)}."


def headline_of(report: Report) -> Headline | None:
    """Compare the first sample row (or else our first row) with each codec near its rate."""
    ours = headline_row(report.summary)
    if ours is None:
        return None
    shared = _ours_beside(report.fewer)
    others = _others(ours, report.summary, shared)
    images = "photograph" if ours.num_images == 1 else "photographs"
    claim = f"{ours.num_images} {images} at {format_number(ours.bpp, 3)} bits per pixel"
    if math.isfinite(ours.bpp) and ours.bpp > 0:
        claim += f", {RAW_BPP / ours.bpp:.0f} times smaller than raw"
    tiles = [
        Tile(name, unit, _number(ours, metric), [(row.system, _beside(row, metric, shared)) for row in others])
        for metric, name, unit in _TILES
    ]
    return Headline(ours.system, f"{claim}.", _explanation(ours, others, report.fewer), tiles)


_ByCurve = Mapping[tuple[str, str], SummaryRow]


def _ours_beside(fewer: Sequence[FewerImages]) -> _ByCurve:
    """Return the headline row over the images of each row that lacks some, by the system and setting of that row."""
    ours = [(one, headline_row(one.beside)) for one in fewer]
    return {(row.system, row.setting): own for one, own in ours if own is not None for row in one.rows}


def _others(ours: SummaryRow, rows: Sequence[SummaryRow], shared: _ByCurve) -> list[SummaryRow]:
    """Select one row per other system: of those with the most images, the lowest rate not below ours (in its favour),
    or else the highest rate."""

    def our_bpp(row: SummaryRow) -> float:
        return shared.get((row.system, row.setting), ours).bpp

    others = []
    for system in dict.fromkeys(row.system for row in rows if row.system != ours.system):
        most = max(row.num_images for row in rows if row.system == system)
        own = [row for row in rows if row.system == system and row.num_images == most]
        own.sort(key=lambda row: row.bpp)
        # Both of our pictures come out of one file, so their rates are equal up to rounding.
        others.append(next((row for row in own if row.bpp >= our_bpp(row) * (1 - 1e-6)), own[-1]))
    return others


def _beside(row: SummaryRow, metric: str, shared: _ByCurve) -> str:
    """Format another system's number; if it lacks images, with ours over the same images."""
    ours = shared.get((row.system, row.setting))
    number = _number(row, metric)
    return number if ours is None else f"{number} (ours {_number(ours, metric)} on its {row.num_images} images)"


def _explanation(ours: SummaryRow, others: Sequence[SummaryRow], fewer: Sequence[FewerImages]) -> str:
    """Return a few sentences, each only if its numbers were measured."""
    parts = []
    stage_1 = next((row for row in others if row.system == "autoencoder"), None)
    if stage_1 and ours.system == "sample" and math.isclose(ours.bpp, stage_1.bpp, rel_tol=1e-3):
        parts.append("Each file decodes to two pictures: the reconstruction x_hat of stage 1, and a sample of stage 2.")
    if stage_1 and all(math.isfinite(row.values["fd_effnet"] or math.nan) for row in (ours, stage_1)):
        (fd_1, psnr_1), (fd_2, psnr_2) = ((_number(row, "fd_effnet"), _number(row, "psnr")) for row in (stage_1, ours))
        parts.append(f"Stage 2 changes FD-EffNet from {fd_1} to {fd_2} and PSNR from {psnr_1} to {psnr_2} dB.")
    if any(row.system not in OUR_SYSTEMS for row in others):
        parts.append(
            "Other codecs are shown at their lowest measured rate that is not below ours or, if there is none, at "
            "their highest."
        )
    if fewer:
        names = ", ".join(f"{system_label(row.system)} {row.setting}" for one in fewer for row in one.rows)
        parts.append(f"Compared on fewer images, in tables of their own: {one_line(names)}.")
    return " ".join(parts)


def _number(row: SummaryRow, metric: str) -> str:
    return counted(format_number(row.values[metric], METRICS[metric].digits), row, metric)
