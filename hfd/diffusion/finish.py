"""The finish of a sample: amplify the finest detail and add faint colour noise (beyond the paper of HFD).

Both reduce the denoising effect and cost little realism; luma noise (:mod:`hfd.diffusion.grain`) restores the same
energy at a far higher Frechet distance (figures: docs/study). Amplifying maps a Gaussian posterior mean to its
posterior at the least error (Freirich et al., arXiv 2107.02555), here more where the top octave is stronger. Sensors
leave colour noise in every photograph, and no decoder keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfd.arrays import Array, correlated, device_of
from hfd.diffusion.grain import high_pass
from hfd.diffusion.noise import noise_in
from hfd.geometry.box import Window

REACH_PX = 3
"""Largest distance of a pixel that a finished pixel depends on."""

EDGE = 30.0
"""Local contrast of the top octave, in grey levels of 255, that gets half of ``sharpen``: edges and strong texture,
which a reconstruction has right, get more, faint texture almost nothing."""

FINISH_STEP = 2**31 - 2
"""Step number of the finish's noise; no sampler takes as many steps."""

GREY_LEVEL = 1.0 / 255.0

_LUMA = (0.299, 0.587, 0.114)
BINOMIAL = (1.0, 2.0, 1.0)
"""The blur of its high pass, which has half of the amplitude at 0.25 cycles/px, all of it at 0.5."""


@dataclass(frozen=True)
class Finish:
    """``sharpen``: factor of the luma's high pass that is added at the highest contrast; ``chroma_noise``: standard
    deviation of each colour's noise, before its luma is removed, in grey levels of 255. 0: none."""

    sharpen: float = 0.0
    chroma_noise: float = 0.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Finish:
        """Read a decoder's configuration; without the section, no finish."""
        section = config.get("finish") or {}
        return cls(float(section.get("sharpen", 0.0)), float(section.get("chroma_noise", 0.0)))


def finished(sample: Array, finish: Finish, *, seeds: Sequence[int], window: Window | None = None) -> Array:
    """Apply a finish to ``sample`` (B, 3, H, W) in [0, 1], with one seed per picture.

    ``window``: the part of larger pictures that the samples are; exact except within ``REACH_PX`` of inner edges.
    """
    if finish == Finish():
        return sample
    detail = finish.sharpen * edges(luma(sample))
    noise = noise_in(seeds, 3, (sample.shape[-2], sample.shape[-1]), device_of(sample), window)(FINISH_STEP)
    noise = (finish.chroma_noise * GREY_LEVEL) * (noise - luma(noise))
    return (sample + detail + noise).clip(0.0, 1.0)


def edges(y: Array) -> Array:
    """High pass of y (B, 1, H, W) in [0, 1], times c^2 / (c^2 + EDGE^2), with its rms c over 5 x 5 pixels."""
    fine = high_pass(y, BINOMIAL)
    contrast = correlated(fine**2, (0.2,) * 5)
    return fine * contrast / (contrast + (EDGE * GREY_LEVEL) ** 2)


def luma(x: Array) -> Array:
    """BT.601 luma (B, 1, H, W) of RGB pictures (B, 3, H, W)."""
    return sum(weight * x[:, i : i + 1] for i, weight in enumerate(_LUMA))


def sharpen_for(target: float, energies: Sequence[float]) -> float:
    """Compute the ``sharpen`` that brings a picture's energy to ``target``, from its energies at 0, 1 and 2.

    E(a) = E(0) + b a + c a^2, c >= 0. Returns the smallest a >= 0 that reaches the target; 0 if there is none.
    """
    none, one, two = energies
    c = (two - 2.0 * one + none) / 2.0
    b = one - none - c
    missing = target - none
    if missing <= 0.0:
        return 0.0
    root = b * b + 4.0 * c * missing
    if root < 0.0 or b + math.sqrt(root) <= 0.0:  # nothing to amplify
        return 0.0
    return 2.0 * missing / (b + math.sqrt(root))
