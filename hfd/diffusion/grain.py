"""Grain: fine noise against the denoising effect, the loss of the faintest texture that samplers are known for.

Not a part of the paper, which names the effect and no remedy. White noise is high-passed, so that it lies
in the top octave, and follows the local contrast of the sample's own top octave: texture gets more of it
than sky. One number, measured on held-out pictures, scales it so that the top octave has the original's energy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.diffusion.noise import noise_in
from hfd.geometry.box import Window

REACH_PX = 8
"""How far contrast is averaged. Noise and contrast depend on no pixel further away than this and the filter's 2."""

FILTER_PX = 2
"""What the filter adds to it."""

GRAIN_STEP = 2**31 - 1
"""The number under which the noise of a seed is drawn: no sampler takes as many steps."""

_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def high_pass(x: Tensor) -> Tensor:
    """x less its binomial blur, (B, C, H, W): half of the amplitude at 0.18 cycles/px, all of it at 0.5."""
    taps = torch.tensor(_BINOMIAL, dtype=x.dtype, device=x.device) / 16.0
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 5, 5)
    return x - F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=x.shape[1])


def add_grain(sample: Tensor, amount: float, *, seeds: Sequence[int], window: Window | None = None) -> Tensor:
    """``sample`` (B, 3, H, W) in [0, 1] with grain: the same noise in all three colours, as film and sensors' luma.

    ``amount`` is in units of the sample's local standard deviation in the top octave; 0 changes nothing. ``window``:
    where in larger pictures the samples lie.
    """
    if amount == 0.0:
        return sample
    luma = sample.mean(dim=1, keepdim=True)
    energy = high_pass(luma).square()
    local = F.avg_pool2d(F.pad(energy, (REACH_PX,) * 4, mode="replicate"), 2 * REACH_PX + 1, stride=1).sqrt()
    white = noise_in(seeds, 1, (sample.shape[-2], sample.shape[-1]), sample.device, window)(GRAIN_STEP)
    return (sample + amount * local * high_pass(white) / _STD).clamp(0.0, 1.0)


def _std_of_high_passed_noise() -> float:
    kernel = -torch.outer(torch.tensor(_BINOMIAL), torch.tensor(_BINOMIAL)) / 256.0
    kernel[2, 2] += 1.0
    return float(kernel.square().sum().sqrt())


_STD = _std_of_high_passed_noise()


def amount_for(without: Sequence[float], with_one: Sequence[float]) -> float:
    """The amount that brings the mean top-octave energy to 1, from the energies at amounts 0 and 1.

    Grain is independent of the sample, so that energies add: E(a) = E(0) + a^2 (E(1) - E(0)). 0 where nothing is
    missing, and where there was nothing to measure; infinities, of flat pictures, are left out.
    """
    pairs = [(a, b) for a, b in zip(without, with_one, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if not pairs:
        return 0.0
    before, after = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    if before >= 1.0 or after <= before:
        return 0.0
    return math.sqrt((1.0 - before) / (after - before))
