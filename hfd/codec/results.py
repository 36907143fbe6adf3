"""Results of the encoder: a finished file, and a picture that is analysed but not yet coded."""

from __future__ import annotations

from dataclasses import dataclass

from hfd.autoencoder.coding import Latents


@dataclass(frozen=True)
class Compressed:
    """``data``: the finished file; ``bpp``: 8 x its bytes over the pixels; ``bpp_est``: the likelihood estimate, if
    it was asked for."""

    data: bytes
    bpp: float
    bpp_est: float | None = None


@dataclass(frozen=True, eq=False)
class Analysis:
    """An analysed picture, ``width`` x ``height`` px, ready to code at any rate. ``is_grey``: R = G = B everywhere."""

    width: int
    height: int
    latents: Latents
    is_grey: bool = False
