"""Names of the file sizes that codecs are measured at."""

from __future__ import annotations

SIDES = ("at most", "at least")
"""Of a target: the nearest file that is no larger, and the nearest that is no smaller."""


def setting_label(side: str, rate: float) -> str:
    return f"{side} {rate_name(rate)}"


def rate_name(rate: float) -> str:
    return "our rate" if rate == 1.0 else f"{rate:g} x our rate"


def bpp_name(bpp: float) -> str:
    return f"{bpp:g} bpp"
