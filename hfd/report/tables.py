"""Tables of results as plain text, as Markdown and, through `Column` and `cell_text`, as HTML in the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hfd.report.content import Gain, ImageRow, RatePoint, SummaryRow, system_label

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """One column: ``field`` of the row, its heading, and the decimals of a number (None: text)."""

    field: str
    heading: str
    digits: int | None
    hint: str = ""

    @property
    def is_text(self) -> bool:
        return self.digits is None


_QUALITY = (
    Column("bpp", "bpp", 3, "bits per pixel of the finished files"),
    Column("bpp_est", "bpp est.", 3, "the model's own likelihood estimate; not a file"),
    Column("psnr", "PSNR dB", 2, "higher is closer to the original, pixel by pixel"),
    Column("ms_ssim", "MS-SSIM", 4, "higher is closer to the original in structure; at most 1"),
    Column("top_octave_energy", "energy", 2, "top-octave power over the original's; 1 is right, below 1 is blur"),
)

SUMMARY_COLUMNS: tuple[Column, ...] = (
    Column("system", "system", None),
    Column("setting", "setting", None),
    Column("num_images", "images", 0),
    *_QUALITY,
    Column("fd_effnet", "FD-EffNet", 1, "Frechet distance of EfficientNet features; lower looks more real"),
    Column("kd_effnet", "KD-EffNet", 4, "kernel distance of EfficientNet features; lower looks more real"),
    Column("encode_s_per_mp", "enc s/MP", 2, "seconds to encode a megapixel"),
    Column("decode_s_per_mp", "dec s/MP", 2, "seconds to decode a megapixel"),
)

IMAGE_COLUMNS: tuple[Column, ...] = (
    Column("image", "image", None),
    Column("system", "system", None),
    Column("setting", "setting", None),
    Column("width", "width", 0),
    Column("height", "height", 0),
    Column("num_bytes", "bytes", 0),
    *_QUALITY,
    Column("encode_s", "enc s", 2, "seconds to encode"),
    Column("decode_s", "dec s", 2, "seconds to decode"),
)


def format_number(value: float | None, digits: int) -> str:
    """``value`` with ``digits`` decimals; None and NaN as "–", infinities as "∞" and "-∞"."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:z.{digits}f}"


def gain_text(gain: Gain) -> str:
    """One line: ``sample, 1 step: FD-EffNet -93.1 against x_hat, 95 % between -110.2 and -80.0``."""
    digits = 4 if gain.metric.startswith("KD") else 1
    value, low, high = (f"{number:+.{digits}f}" for number in (gain.value, gain.low, gain.high))
    return f"sample, {gain.setting}: {gain.metric} {value} against x_hat, 95 % between {low} and {high}"


def rate_text(point: RatePoint) -> str:
    """One line: ``AVIF at 0.251 bpp, interpolated: 29.60 dB, FD-EffNet 251.3, KD-EffNet 0.1402``."""
    return (
        f"{system_label(point.system)} at {point.bpp:.3f} bpp, interpolated: {point.psnr:.2f} dB, "
        f"FD-EffNet {point.fd_effnet:.1f}, KD-EffNet {point.kd_effnet:.4f}"
    )


def cell_value(row: SummaryRow | ImageRow, column: Column) -> str | float | None:
    """What a cell holds: text, a number, or None where nothing was measured (NaN included)."""
    value: str | float | None = getattr(row, column.field)
    if isinstance(value, float) and math.isnan(value):
        return None
    if column.field == "system" and isinstance(value, str):
        return system_label(value)
    return value


def cell_text(row: SummaryRow | ImageRow, column: Column) -> str:
    """A cell as it is shown, on one line: control characters and line breaks become spaces."""
    value = cell_value(row, column)
    if isinstance(value, str):
        return "".join(char if char.isprintable() else " " for char in value)
    return format_number(value, column.digits or 0)


def summary_text(rows: Sequence[SummaryRow]) -> str:
    """The summary as an aligned table of plain text, without a final line break.

    Text columns are left-aligned, numbers right-aligned. No rows: the headings alone.
    """
    widths = [max([len(column.heading), *(len(cell_text(row, column)) for row in rows)]) for column in SUMMARY_COLUMNS]
    headings = [column.heading for column in SUMMARY_COLUMNS]
    cells = [[cell_text(row, column) for column in SUMMARY_COLUMNS] for row in rows]
    rule = ["─" * width for width in widths]
    return "\n".join(_aligned(line, widths) for line in [headings, rule, *cells])


def summary_markdown(rows: Sequence[SummaryRow]) -> str:
    """The summary as a Markdown table (GitHub's), without a final line break. Cell text is escaped."""
    lines = [
        _markdown_line(column.heading for column in SUMMARY_COLUMNS),
        _markdown_line("---" if column.is_text else "---:" for column in SUMMARY_COLUMNS),
    ]
    lines += [_markdown_line(_escape(cell_text(row, column)) for column in SUMMARY_COLUMNS) for row in rows]
    return "\n".join(lines)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.ljust(width) if column.is_text else cell.rjust(width)
        for cell, width, column in zip(cells, widths, SUMMARY_COLUMNS, strict=True)
    )
    return "  ".join(padded).rstrip()


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    for special in "\\`*_[]|":
        text = text.replace(special, "\\" + special)
    return text.replace("&", "&amp;").replace("<", "&lt;")
