"""The noise schedule: shifted cosine, variance preserving, t in [0, 1] with 0 = data and 1 = noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_SNR_BOUND = 15.0


@dataclass(frozen=True)
class CosineSchedule:
    """log_snr(t) = -2 (log tan(pi t / 2) + log s), clamped to [-15, 15].

    ``s = 1`` is the plain cosine; ``s < 1`` is less noise, as in HFD (arXiv 2305.18231), since x_hat has the global
    structure. The shift is that of simple diffusion (arXiv 2301.11093).
    """

    s: float

    def log_snr(self, t: Tensor) -> Tensor:
        """float32, the shape of ``t``; decreasing in t. Computed in float64: tan is steep near t = 1."""
        angle = torch.tan(math.pi / 2 * t.double())
        log_snr = -2.0 * (angle.log() + math.log(self.s))
        return log_snr.clamp(-LOG_SNR_BOUND, LOG_SNR_BOUND).to(torch.float32)


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_t = sqrt(sigmoid(log_snr)), sigma_t = sqrt(sigmoid(-log_snr)); alpha_t^2 + sigma_t^2 = 1."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def time_grid(num_steps: int) -> Tensor:
    """num_steps + 1 times from 1 down to 0, evenly spaced, float32."""
    return torch.linspace(1.0, 0.0, num_steps + 1)
