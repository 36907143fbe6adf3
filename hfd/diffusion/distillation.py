"""Targets of progressive distillation: one step of a student for two deterministic steps of its teacher.

Salimans and Ho, arXiv 2202.00512, for any process x_t = a_t x0 + b_t x1. Beyond the paper of HFD. A deterministic step
keeps the predicted x1, x_r = a_r x0_pred + b_r (x_t - a_t x0_pred) / b_t: DDIM's for a diffusion, Euler's for a flow.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hfd.diffusion.flow import PosteriorMeanFlow
from hfd.diffusion.process import Process, as_images
from hfd.diffusion.schedule import time_grid
from hfd.diffusion.vp import Diffusion

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, 3, H, W), t (B,)) -> x0_pred (B, 3, H, W)."""


def two_step_target(process: Process, denoise: Denoise, x_t: Tensor, t: Tensor, m: Tensor, r: Tensor) -> Tensor:
    """The x0_pred (B, 3, H, W) whose one step t -> r ends where the teacher's steps t -> m -> r end.

    ``t`` > ``m`` > ``r``: (B,). With k = a / b it is the mean of the teacher's predictions at t and m, weighted
    k_m - k_t and k_r - k_m: no difference of large numbers, and at r = 0, where k is infinite, the one at m.
    """
    x0_t = denoise(x_t, t)
    x_m = step(process, x_t, x0_t, t, m)
    x0_m = denoise(x_m, m)
    k_t, k_m, k_r = (_ratio(process, at) for at in (t, m, r))
    # A step along which the schedule is clamped moves nothing.
    weight = torch.where(k_r > k_t, (k_m - k_t) / (k_r - k_t), torch.ones_like(k_t))
    (weight,) = as_images(weight)
    target: Tensor = weight * x0_t + (1.0 - weight) * x0_m
    return target


def step(process: Process, x_t: Tensor, x0_pred: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """x_r (B, 3, H, W) after a deterministic step from t to r > 0, (B,)."""
    a_t, b_t, a_r, b_r = as_images(*process.path(t), *process.path(r))
    x_r: Tensor = b_r / b_t * x_t + (a_r - a_t * b_r / b_t) * x0_pred
    return x_r


def truncated_snr(process: Process, t: Tensor) -> Tensor:
    """max(a_t^2 / b_t^2, 1), (B,): the weight of errors of x0, not zero at the start, where one step begins."""
    return _ratio(process, t).square().clamp_min(1.0)


def _ratio(process: Process, t: Tensor) -> Tensor:
    """a_t / b_t; infinite at t = 0, where samplers return x0_pred, although a schedule may be clamped there."""
    a, b = process.path(t)
    return torch.where(t > 0.0, a / b, torch.inf)


def steps_of(t: Tensor, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """The times t, m and r of the steps, (B,), that begin at the times ``t`` of a grid of ``num_steps`` steps."""
    halves = torch.from_numpy(time_grid(2 * num_steps)).to(t.device)
    index = 2 * ((1.0 - t) * num_steps).round().long()
    return halves[index], halves[index + 1], halves[index + 2]


def grid_times(uniform: Tensor, num_steps: int) -> Tensor:
    """The times (B,), float32, at which the steps of a grid begin, from numbers (B,) in (0, 1)."""
    return torch.from_numpy(time_grid(num_steps))[(uniform * num_steps).long().clamp(max=num_steps - 1)]


def same_path(one: Process, other: Process) -> bool:
    """Report whether two processes have the same start and the same a_t and b_t."""
    if isinstance(one, Diffusion) and isinstance(other, Diffusion):
        return (one.schedule, one.noise_std) == (other.schedule, other.noise_std)
    if isinstance(one, PosteriorMeanFlow) and isinstance(other, PosteriorMeanFlow):
        return one.sigma_s == other.sigma_s
    return type(one) is type(other)
