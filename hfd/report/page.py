"""The report of an evaluation as one HTML page that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
from collections.abc import Sequence
from importlib import resources
from string import Template

from PIL import Image

from hfd.image.load import encode_webp_lossless
from hfd.metrics.table import set_metrics
from hfd.report.content import OUR_SYSTEMS, Example, ImageRow, Report, SummaryRow, Version, system_label
from hfd.report.plots import energy_chart, rate_plot, system_colour
from hfd.report.tables import (
    Column,
    cell_text,
    cell_value,
    format_number,
    image_columns,
    summary_columns,
)

RAW_BPP = 24  # three channels of eight bits
_ZOOMS = (1, 2, 4, 8)
_THUMBNAIL_PX = 128
_TILES = (
    ("bpp", "Rate", "bits per pixel", 3),
    ("fd_effnet", "Realism", "FD-EffNet, lower is better", 1),
    ("psnr", "Fidelity", "PSNR in dB, higher is better", 2),
    ("top_octave_energy", "Fine detail", "top-octave energy, 1.0 is right", 2),
)
_ENERGY_CAPTION = (
    "Power in the finest octave of detail, relative to the original. Below 1 the picture is too smooth; "
    "above 1 it has detail or noise that the original has not."
)


def render(report: Report) -> str:
    """The page as HTML text: pictures, plots, tables, style and script are all inside it.

    Pictures are embedded as lossless WebP: what the browser shows are the very pixels of each
    ``Version.x``. All text of the report is escaped. The output depends on ``report`` alone.

    Raises:
        hfd.errors.DataError: a picture too large for WebP (more than 16383 pixels on a side).
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_asset("page.html")).substitute(
        title=_esc(report.title),
        script=script,
        script_hash=f"sha256-{digest}",
        style=_asset("page.css"),
        headline=_headline(report.summary),
        warnings=_warnings(report.warnings),
        pictures=_pictures(report.examples),
        summary=_table(report.summary, summary_columns(), "scroll"),
        plots=_plots(report.summary),
        images=_images(report.images),
        facts=_facts(report.facts),
    )


def _asset(name: str) -> str:
    return resources.files("hfd.report").joinpath(name).read_text(encoding="utf-8")


def _esc(text: str) -> str:
    return html.escape(text, quote=True)


def _none(text: str) -> str:
    return f'<p class="none">{text}</p>'


# --- headline -------------------------------------------------------------------------------------


def _headline(rows: Sequence[SummaryRow]) -> str:
    """What the first sample row (else the first of ours) costs and gains, beside each codec near its rate."""
    ours = next((row for name in reversed(OUR_SYSTEMS) for row in rows if row.system == name), None)
    if ours is None:
        return '<p class="claim">No result of this codec in this report.</p>'
    peers = _peers(ours, rows)
    images = "photograph" if ours.num_images == 1 else "photographs"
    claim = f"{ours.num_images} {images} at {format_number(ours.bpp, 3)} bits per pixel"
    if math.isfinite(ours.bpp) and ours.bpp > 0:
        claim += f", {RAW_BPP / ours.bpp:.0f} times smaller than raw"
    tiles = "".join(_tile(ours, peers, *tile) for tile in _TILES)
    return f'<p class="claim">{claim}.</p><p>{_esc(_story(ours, peers))}</p><div class="tiles">{tiles}</div>'


def _peers(ours: SummaryRow, rows: Sequence[SummaryRow]) -> list[SummaryRow]:
    """One row per other system: the cheapest at our rate or above (to its advantage), else its dearest."""
    peers = []
    for system in dict.fromkeys(row.system for row in rows if row.system != ours.system):
        own = sorted((row for row in rows if row.system == system), key=lambda row: row.bpp)
        # Both of our pictures come out of one file, so their rates are equal but for rounding.
        peers.append(next((row for row in own if row.bpp >= ours.bpp * (1 - 1e-6)), own[-1]))
    return peers


def _story(ours: SummaryRow, peers: Sequence[SummaryRow]) -> str:
    """Two or three sentences, each only where its numbers were measured."""
    parts = []
    stage_one = next((row for row in peers if row.system == "autoencoder"), None)
    if stage_one and ours.system == "sample" and math.isclose(ours.bpp, stage_one.bpp, rel_tol=1e-3):
        parts.append("One file gives two pictures: the autoencoder's x_hat, and the sample drawn from it.")
    if stage_one and _known(ours.values["fd_effnet"]) and _known(stage_one.values["fd_effnet"]):
        (fd, psnr), (fd_1, psnr_1) = (
            (format_number(row.values["fd_effnet"], 1), format_number(row.values["psnr"], 2))
            for row in (ours, stage_one)
        )
        parts.append(f"Stage 2 moves FD-EffNet from {fd_1} to {fd} and PSNR from {psnr_1} to {psnr} dB.")
    if any(row.system not in OUR_SYSTEMS for row in peers):
        parts.append(
            "Other codecs stand beside it at their nearest setting that spends at least as many bits; "
            "where they have none, at their largest."
        )
    return " ".join(parts)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _tile(ours: SummaryRow, peers: Sequence[SummaryRow], field: str, name: str, unit: str, digits: int) -> str:
    items = "".join(f"<li>{_name(row.system)}<b>{format_number(row.values[field], digits)}</b></li>" for row in peers)
    big = format_number(ours.values[field], digits)
    return (
        f'<div class="tile"><h3>{name}</h3><p class="unit">{unit}</p>'
        f'<p class="big">{big}<small>{_name(ours.system)}</small></p><ul>{items}</ul></div>'
    )


def _name(system: str) -> str:
    return _dot(system) + _esc(system_label(system).split(" (")[0])


def _dot(system: str) -> str:
    return f'<i class="dot" style="--dot: {system_colour(system)}"></i>'


def _warnings(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{_esc(text)}</li>" for text in warnings)
    return f'<ul class="warnings" aria-label="Warnings">{items}</ul>' if warnings else ""


# --- pictures -------------------------------------------------------------------------------------


def _pictures(examples: Sequence[Example]) -> str:
    if not examples:
        return _none("No pictures were kept for this report.")
    lead = (
        '<p class="lead">Drag the divider, or move it with the arrow keys. Zoom with the buttons, with Ctrl '
        "and the wheel, or by pinching a trackpad; then drag the picture to move it.</p>"
    )
    return lead + _strip(examples) + "".join(_example(example) for example in examples)


def _strip(examples: Sequence[Example]) -> str:
    if len(examples) == 1:
        return ""
    buttons = "".join(
        f'<button type="button" aria-label="{_esc(example.image)}" title="{_esc(example.image)}">'
        f'<img alt="" src="{_thumbnail(example.versions[0])}"></button>'
        for example in examples
    )
    return f'<div class="strip" role="group" aria-label="Choose a picture">{buttons}</div>'


def _example(example: Example) -> str:
    height, width, _ = example.versions[0].x.shape
    first_right = min(2, len(example.versions) - 1)  # original, x_hat, sample: open on the sample
    layers = "".join(
        f'<div class="layer" data-label="{_esc(version.label)}">'
        f'<img alt="{_esc(example.image)}: {_esc(version.label)}" width="{width}" height="{height}" '
        f'decoding="async" src="{_data_uri(encode_webp_lossless(version.x))}"></div>'
        for version in example.versions
    )
    versions = "".join(_version(index, version) for index, version in enumerate(example.versions))
    zooms = "".join(f'<button type="button" data-zoom="{zoom}">{zoom}×</button>' for zoom in _ZOOMS)
    return (
        f'<article class="example" style="--w: {width}; --h: {height}"><h3 class="name">{_esc(example.image)}'
        f"<small>{width} × {height} pixels</small></h3>"
        f'<div class="layers" data-right="{first_right}">{layers}'
        '<div class="tags" aria-hidden="true"><span></span><span></span></div>'
        '<div class="divider" role="slider" tabindex="0" aria-label="Divider between the left and the right '
        'picture" aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"></div></div>'
        f'<ul class="versions">{versions}</ul>'
        f'<div class="bar" role="group" aria-label="Zoom">{zooms}<output></output></div></article>'
    )


def _version(index: int, version: Version) -> str:
    label = _esc(version.label)
    sides = "".join(
        f'<button type="button" data-side="{side}" data-index="{index}" '
        f'aria-label="{label} on the {side}">{text}</button>'
        for side, text in (("left", "◧ Left"), ("right", "Right ◨"))
    )
    caption = f'<p class="caption">{_esc(version.caption)}</p>'
    return f'<li><h3>{label}</h3>{caption}<div class="pick">{sides}</div></li>'


def _thumbnail(version: Version) -> str:
    picture = Image.fromarray(version.x)
    picture.thumbnail((4 * _THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return _data_uri(buffer.getvalue())


def _data_uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


# --- plots, tables, facts -------------------------------------------------------------------------


def _plots(rows: Sequence[SummaryRow]) -> str:
    # A rate that some images could not reach is a mean over other images: no point of the same curve.
    most = max((row.num_images for row in rows), default=0)
    rows = [row for row in rows if row.num_images == most]
    figures = [(rate_plot(rows, metric), metric.caption) for metric in set_metrics() if metric.caption]
    figures.append((energy_chart(rows), _ENERGY_CAPTION))
    return "\n".join(f"<figure>{svg}<figcaption>{text}</figcaption></figure>" for svg, text in figures)


def _images(rows: Sequence[ImageRow]) -> str:
    if not rows:
        return _none("No per-image results in this report.")
    search = '<input type="search" placeholder="an image, a system, …">'
    return f'<label class="filter">Show rows with {search}</label>' + _table(rows, image_columns(), "scroll tall")


def _table(rows: Sequence[SummaryRow] | Sequence[ImageRow], columns: Sequence[Column], style: str) -> str:
    if not rows:
        return _none("No results.")
    heads = "".join(
        f'<th scope="col"{_text_class(column)}><button type="button" title="{_esc(column.hint)}">'
        f"{_esc(column.heading)}</button></th>"
        for column in columns
    )
    body = "\n".join(_table_row(row, columns) for row in rows)
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return f'<div class="{style}" tabindex="0" role="region" aria-label="Table">{table}</div>'


def _table_row(row: SummaryRow | ImageRow, columns: Sequence[Column]) -> str:
    ours = ' class="ours"' if row.system in OUR_SYSTEMS else ""
    return f"<tr{ours}>" + "".join(_cell(row, column) for column in columns) + "</tr>"


def _cell(row: SummaryRow | ImageRow, column: Column) -> str:
    text = _esc(cell_text(row, column))
    if column.is_text:
        dot = _dot(row.system) if column.field == "system" else ""
        return f'<td class="text">{dot}{text}</td>'
    value = cell_value(row, column)  # unrounded, for sorting; JavaScript spells infinity out
    number = "" if value is None else str(value).replace("inf", "Infinity")
    return f'<td data-value="{number}">{text}</td>'


def _text_class(column: Column) -> str:
    return ' class="text"' if column.is_text else ""


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return _none("No facts were recorded.")
    items = "".join(f"<div><dt>{_esc(name)}</dt><dd>{_esc(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{items}</dl>'
