"""The finish of a sample: its finest detail amplified, and faint noise in its colours. Beyond the paper of HFD.

Both are remedies against the denoising effect that cost little realism where a network has learned little: noise in
the luma, as of :mod:`hfd.diffusion.grain`, brings the same energy at a far higher Frechet distance (docs/study has
the figures). Amplifying is what transports a Gaussian posterior mean to its posterior at the least error (Freirich
et al., arXiv 2107.02555), here the more the stronger the top octave is; noise in colours is what sensors leave in
every photograph and no decoder keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.diffusion.noise import noise_in
from hfd.geometry.box import Window

REACH_PX = 3
"""A pixel depends on none further away than this, nor does its noise on any other pixel."""

EDGE = 30.0
"""Local contrast of the top octave, in grey levels of 255, at which half of ``sharpen`` is done: edges and strong
texture get it, where a reconstruction is right; its faint texture, which may be wrong, gets next to nothing."""

FINISH_STEP = 2**31 - 2
"""The number under which the noise of a seed is drawn: no sampler takes as many steps."""

GREY_LEVEL = 1.0 / 255.0

_LUMA = (0.299, 0.587, 0.114)
_BINOMIAL = (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class Finish:
    """``sharpen``: how often the luma's high pass is added to it where contrast is highest; ``chroma_noise``: standard
    deviation of the noise of each colour before its luma is taken out, in grey levels of 255. Zeros do nothing."""

    sharpen: float = 0.0
    chroma_noise: float = 0.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Finish:
        """Of a decoder's configuration; one without the section has none."""
        section = config.get("finish") or {}
        return cls(float(section.get("sharpen", 0.0)), float(section.get("chroma_noise", 0.0)))


def finished(sample: Tensor, finish: Finish, *, seeds: Sequence[int], window: Window | None = None) -> Tensor:
    """``sample`` (B, 3, H, W) in [0, 1] with its finish, in the same range. One seed a picture.

    ``window``: where in larger pictures the samples lie; right but for ``REACH_PX`` at edges that are not theirs.
    """
    if finish == Finish():
        return sample
    detail = finish.sharpen * edges(luma(sample))
    noise = noise_in(seeds, 3, (sample.shape[-2], sample.shape[-1]), sample.device, window)(FINISH_STEP)
    noise = (finish.chroma_noise * GREY_LEVEL) * (noise - luma(noise))
    return (sample + detail + noise).clamp(0.0, 1.0)


def edges(y: Tensor) -> Tensor:
    """The high pass of y (B, 1, H, W) in [0, 1], times c^2 / (c^2 + EDGE^2) with its rms c over 5 x 5 pixels."""
    fine = high_pass(y)
    contrast = F.avg_pool2d(F.pad(fine.square(), (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    return fine * contrast / (contrast + (EDGE * GREY_LEVEL) ** 2)


def high_pass(x: Tensor) -> Tensor:
    """x (B, 1, H, W) less its 3 x 3 binomial blur: half of the amplitude at 0.25 cycles/px, all of it at 0.5."""
    taps = torch.tensor(_BINOMIAL, dtype=x.dtype, device=x.device)
    kernel = torch.outer(taps, taps).reshape(1, 1, 3, 3)
    return x - F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel)


def luma(x: Tensor) -> Tensor:
    """BT.601 luma (B, 1, H, W) of RGB pictures (B, 3, H, W)."""
    weights = torch.tensor(_LUMA, dtype=x.dtype, device=x.device).reshape(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)


def sharpen_for(target: float, energies: Sequence[float]) -> float:
    """The ``sharpen`` at which a picture's energy is ``target``, from its energies at 0, 1 and 2.

    Linear in the amplitude, so that E(a) = E(0) + b a + c a^2, c >= 0. The least a >= 0 that reaches the target; 0
    where E(0) does.
    """
    none, one, two = energies
    c = (two - 2.0 * one + none) / 2.0
    b = one - none - c
    missing = target - none
    if missing <= 0.0:
        return 0.0
    root = b * b + 4.0 * c * missing
    if root < 0.0 or b + math.sqrt(root) <= 0.0:  # nothing there to amplify
        return 0.0
    return 2.0 * missing / (b + math.sqrt(root))
