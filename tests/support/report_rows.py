"""Rows of a report from plain numbers, and rows with other values."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from hfd.report.content import ImageRow, SummaryRow

QUALITIES = ("bpp", "bpp_est", "psnr", "ms_ssim", "top_octave_energy")
SUMMARY_METRICS = (*QUALITIES, "fd_effnet", "kd_effnet", "encode_s_per_mp", "decode_s_per_mp")
IMAGE_METRICS = (*QUALITIES, "encode_s", "decode_s")

R = TypeVar("R", SummaryRow, ImageRow)


def summary_row(system: str, setting: str, num_images: int, *values: float | None) -> SummaryRow:
    """``values`` in the order of `SUMMARY_METRICS`; LPIPS is unknown."""
    return SummaryRow(system, setting, num_images, {**dict(zip(SUMMARY_METRICS, values, strict=True)), "lpips": None})


def image_row(
    image: str, system: str, setting: str, width: int, height: int, num_bytes: int, *values: float | None
) -> ImageRow:
    """``values`` in the order of `IMAGE_METRICS`; LPIPS is unknown."""
    metrics = {**dict(zip(IMAGE_METRICS, values, strict=True)), "lpips": None}
    return ImageRow(image, system, setting, width, height, num_bytes, metrics)


def with_values(row: R, **values: float | None) -> R:
    return dataclasses.replace(row, values={**row.values, **values})
