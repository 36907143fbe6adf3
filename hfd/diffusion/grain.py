"""Grain: fine noise against the denoising effect, the loss of faint texture in samples (beyond the paper of HFD).

High-passed white noise, in the top octave, scaled by the local contrast of the sample's own top octave: texture gets
more than sky. An amount measured on held-out pictures gives the top octave the energy of the original.
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
"""Radius of the average of the contrast; the filter adds ``FILTER_PX``."""

FILTER_PX = 2
"""Radius of the high-pass filter."""

GRAIN_STEP = 2**31 - 1
"""Step number of the grain's noise; no sampler takes as many steps."""

_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def high_pass(x: Tensor, binomial: Sequence[float] = _BINOMIAL) -> Tensor:
    """x (B, C, H, W) less its binomial blur: half of the amplitude at 0.18 cycles/px, all of it at 0.5."""
    taps = torch.tensor(binomial, dtype=x.dtype, device=x.device) / sum(binomial)
    size, radius = len(binomial), len(binomial) // 2
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, size, size)
    return x - F.conv2d(F.pad(x, (radius,) * 4, mode="replicate"), kernel, groups=x.shape[1])


def add_grain(sample: Tensor, amount: float, *, seeds: Sequence[int], window: Window | None = None) -> Tensor:
    """Add grain, the same in all three colours, to ``sample`` (B, 3, H, W) in [0, 1].

    ``amount``: in units of the sample's local standard deviation in the top octave. ``window``: the part of larger
    pictures that the samples are.
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
    """Compute the amount that brings the mean top-octave energy to 1, from the energies at amounts 0 and 1.

    Grain is independent of the sample, so that energies add: E(a) = E(0) + a^2 (E(1) - E(0)). Ignores infinities,
    which flat pictures have. 0 if no energy is missing or none was measured.
    """
    pairs = [(a, b) for a, b in zip(without, with_one, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if not pairs:
        return 0.0
    before, after = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    if before >= 1.0 or after <= before:
        return 0.0
    return math.sqrt((1.0 - before) / (after - before))
