"""The noise schedule: shifted cosine, variance preserving, t in [0, 1] with 0 = data and 1 = noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfd.arrays import Array, as_float, namespace, sigmoid

LOG_SNR_BOUND = 15.0

NEAR = 1e-6
"""Distance within which two times are the same: rounding of float32, below the steps of any grid."""


@dataclass(frozen=True)
class CosineSchedule:
    """log_snr(t) = -2 (log tan(pi t / 2) + log s), clamped to [-15, 15].

    ``s = 1`` is the plain cosine; ``s < 1`` is less noise, as in HFD (arXiv 2305.18231), since x_hat has the global
    structure. The shift is that of simple diffusion (arXiv 2301.11093).
    """

    s: float

    def log_snr(self, t: Array) -> Array:
        """float32, the shape of ``t``; decreasing in t. Computed in float64: tan is steep near t = 1."""
        xp = namespace(t)
        angle = xp.tan(math.pi / 2 * as_float(t, 64))
        with np.errstate(divide="ignore"):  # the logarithm of 0, at t = 0
            log_snr = -2.0 * (xp.log(angle) + math.log(self.s))
        return as_float(xp.clip(log_snr, -LOG_SNR_BOUND, LOG_SNR_BOUND), 32)


def alpha_sigma(log_snr: Array) -> tuple[Array, Array]:
    """alpha_t = sqrt(sigmoid(log_snr)), sigma_t = sqrt(sigmoid(-log_snr)); alpha_t^2 + sigma_t^2 = 1."""
    xp = namespace(log_snr)
    return xp.sqrt(sigmoid(log_snr)), xp.sqrt(sigmoid(-log_snr))


def time_grid(num_steps: int) -> npt.NDArray[np.float32]:
    """num_steps + 1 times from 1 down to 0, evenly spaced, float32."""
    return np.linspace(1.0, 0.0, num_steps + 1, dtype=np.float32)


def times_to(stop: float, times: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The times of a grid down to ``stop``, which ends them: those above it, and then itself, float32."""
    kept = times[times > stop + NEAR] if stop > 0.0 else times[:-1]
    return np.append(kept, np.float32(stop)).astype(np.float32)
