"""Grain: fine noise against the denoising effect, the loss of faint texture in samples (beyond the paper of HFD).

High-passed white noise, in the top octave, scaled by the local contrast of the sample's own top octave: texture gets
more than sky. An amount measured on held-out pictures gives the top octave the energy of the original.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hfd.arrays import Array, correlated, device_of, namespace
from hfd.diffusion.noise import noise_in
from hfd.geometry.box import Window

REACH_PX = 8
"""Radius of the average of the contrast; the filter adds ``FILTER_PX``."""

FILTER_PX = 2
"""Radius of the high-pass filter."""

GRAIN_STEP = 2**31 - 1
"""Step number of the grain's noise; no sampler takes as many steps."""

_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def high_pass(x: Array, binomial: tuple[float, ...] = _BINOMIAL) -> Array:
    """x (B, C, H, W) less its binomial blur: half of the amplitude at 0.18 cycles/px, all of it at 0.5."""
    return x - correlated(x, tuple(weight / sum(binomial) for weight in binomial))


def add_grain(sample: Array, amount: float, *, seeds: Sequence[int], window: Window | None = None) -> Array:
    """Add grain, the same in all three colours, to ``sample`` (B, 3, H, W) in [0, 1].

    ``amount``: in units of the sample's local standard deviation in the top octave. ``window``: the part of larger
    pictures that the samples are.
    """
    if amount == 0.0:
        return sample
    xp = namespace(sample)
    energy = high_pass(xp.mean(sample, axis=1, keepdims=True)) ** 2
    local = xp.sqrt(correlated(energy, (1.0 / (2 * REACH_PX + 1),) * (2 * REACH_PX + 1)))
    white = noise_in(seeds, 1, (sample.shape[-2], sample.shape[-1]), device_of(sample), window)(GRAIN_STEP)
    return (sample + amount * local * high_pass(white) / _STD).clip(0.0, 1.0)


def _std_of_high_passed_noise() -> float:
    """The square root of the sum of the filter's squared weights."""
    share = [weight / sum(_BINOMIAL) for weight in _BINOMIAL]
    weights = [(i == j == FILTER_PX) - a * b for i, a in enumerate(share) for j, b in enumerate(share)]
    return math.sqrt(sum(weight * weight for weight in weights))


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
