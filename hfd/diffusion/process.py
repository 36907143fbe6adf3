"""The process that stage 2 learns: what a training target is, and what a network's answer means.

A :class:`Process` turns (x0, eps, t) into a training pair and a network's raw output into x0_pred. The
training loop and the samplers know only this interface, so other processes (rectified flow) share both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hfd.diffusion.schedule import CosineSchedule, alpha_sigma


@dataclass(frozen=True)
class TrainingPair:
    """``x_t`` and ``target`` (B, 3, H, W): noisy input and answer; ``noise_level`` (B,): told to the network."""

    x_t: Tensor
    target: Tensor
    noise_level: Tensor


class Process(Protocol):
    """Times are (B,) in [0, 1]; images (B, 3, H, W) in [-1, 1]."""

    def training_pair(self, x0: Tensor, eps: Tensor, t: Tensor) -> TrainingPair: ...

    def noise_level(self, t: Tensor) -> Tensor:
        """What the network is told about t, (B,), of the order of one."""

    def x0_pred(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The clean image that a network's output at x_t stands for."""


@dataclass(frozen=True)
class Diffusion:
    """Variance-preserving diffusion with v-prediction (Salimans and Ho, arXiv 2202.00512).

    x_t = alpha_t x0 + sigma_t eps;  v = alpha_t eps - sigma_t x0;  x0 = alpha_t x_t - sigma_t v.
    """

    schedule: CosineSchedule

    def training_pair(self, x0: Tensor, eps: Tensor, t: Tensor) -> TrainingPair:
        alpha_t, sigma_t = _as_images(*alpha_sigma(self.schedule.log_snr(t)))
        x_t = alpha_t * x0 + sigma_t * eps
        v = alpha_t * eps - sigma_t * x0
        return TrainingPair(x_t=x_t, target=v, noise_level=self.noise_level(t))

    def noise_level(self, t: Tensor) -> Tensor:
        return self.schedule.log_snr(t) / 4.0

    def x0_pred(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        alpha_t, sigma_t = _as_images(*alpha_sigma(self.schedule.log_snr(t)))
        return alpha_t * x_t - sigma_t * output


def stratified_times(batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """One t per sample, uniform on (0, 1), spread evenly over the batch: t_i = (i + u) / B with one u for all.

    Low-discrepancy sampling (variational diffusion models, arXiv 2107.00630, appendix I.1).
    """
    u = torch.rand((), generator=generator, dtype=torch.float64)
    t = (torch.arange(batch, dtype=torch.float64) + u) / batch
    return t.clamp(1e-5, 1.0 - 1e-5).to(device=device, dtype=torch.float32)


def _as_images(*values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.reshape(-1, 1, 1, 1) for value in values)
