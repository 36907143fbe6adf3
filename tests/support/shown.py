"""Pictures of a report from arrays, embedded without loss."""

from __future__ import annotations

from collections.abc import Mapping

from hfd.image.load import RgbArray, encode_webp_lossless
from hfd.report.content import ShownExample, ShownVersion
from hfd.report.gallery import thumbnail
from hfd.report.template import webp_uri


def shown_example(image: str, versions: Mapping[str, RgbArray]) -> ShownExample:
    """``versions``: uint8 (H, W, 3) of one size by label, the original first; a caption is its label and a mark."""
    first = next(iter(versions.values()))
    shown = [ShownVersion(label, f"{label}!", webp_uri(encode_webp_lossless(x))) for label, x in versions.items()]
    return ShownExample(image, first.shape[1], first.shape[0], thumbnail(first), shown)
