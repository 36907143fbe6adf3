"""Samplers: pure functions of a denoiser, a start, noise and a time grid.

All take ``denoise``, which returns x0_pred for any process. ``ancestral``, ``ddim`` and ``dpmpp_2m`` integrate a
variance-preserving diffusion, ``euler``, ``heun`` and ``midpoint`` a rectified flow. ``times``: (S + 1,) decreasing in
[0, 1]; the result is x at times[-1], where t = 0 means x0_pred itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from hfd.arrays import Array, batch_of
from hfd.diffusion.noise import NoiseSource
from hfd.diffusion.schedule import CosineSchedule, alpha_sigma

Denoise = Callable[[Array, Array], Array]
"""(x_t (B, 3, H, W), t (B,)) -> x0_pred (B, 3, H, W) in [-1, 1]. The condition is closed over."""

OnStep = Callable[[int], None]


def ancestral(
    denoise: Denoise,
    x1: Array,
    noise: NoiseSource,
    schedule: CosineSchedule,
    times: Array,
    *,
    gamma: float = 0.0,
    on_step: OnStep | None = None,
) -> Array:
    """Ancestral (DDPM) sampling.

    A step t -> r, with c = -expm1(log_snr(t) - log_snr(r)):
    mean = alpha_r ((1 - c) x_t / alpha_t + c x0_pred), and the variance log-interpolated,
    log var = gamma log(c sigma_t^2) + (1 - gamma) log(c sigma_r^2); ``gamma = 0`` is the least noise
    (Hoogeboom et al., arXiv 2301.11093 and 2305.18231). Step k adds ``noise(k + 1)``.
    """
    log_snrs, alphas, sigmas = _levels(schedule, times)

    def step(k: int, x_t: Array, x0_pred: Array) -> Array:
        c = -math.expm1(log_snrs[k] - log_snrs[k + 1])
        mean = alphas[k + 1] * ((1.0 - c) * x_t / alphas[k] + c * x0_pred)
        std = math.sqrt(c) * sigmas[k] ** gamma * sigmas[k + 1] ** (1.0 - gamma)
        return mean + std * noise(k + 1)

    return _iterate(denoise, x1, times, step, on_step)


def ddim(
    denoise: Denoise, x1: Array, schedule: CosineSchedule, times: Array, *, on_step: OnStep | None = None
) -> Array:
    """Deterministic, order 1 (Song et al., arXiv 2010.02502): x_r = alpha_r x0_pred + sigma_r eps_pred."""
    _, alphas, sigmas = _levels(schedule, times)

    def step(k: int, x_t: Array, x0_pred: Array) -> Array:
        eps_pred = (x_t - alphas[k] * x0_pred) / sigmas[k]
        return alphas[k + 1] * x0_pred + sigmas[k + 1] * eps_pred

    return _iterate(denoise, x1, times, step, on_step)


def dpmpp_2m(
    denoise: Denoise, x1: Array, schedule: CosineSchedule, times: Array, *, on_step: OnStep | None = None
) -> Array:
    """DPM-Solver++(2M), order 2 with one evaluation a step (Lu et al., arXiv 2211.01095, algorithm 2).

    With lambda = log_snr / 2 and h = lambda_r - lambda_t: x_r = sigma_r / sigma_t x_t - alpha_r expm1(-h) D, where D
    extrapolates x0_pred from this step and the one before. The first step is of order 1, and so is the last one
    where it ends at t = 0.
    """
    log_snrs, alphas, sigmas = _levels(schedule, times)
    widths = [(after - before) / 2.0 for before, after in pairwise(log_snrs)]
    before: list[Array] = []

    def step(k: int, x_t: Array, x0_pred: Array) -> Array:
        estimate = x0_pred
        if before:
            estimate = x0_pred + widths[k] / (2.0 * widths[k - 1]) * (x0_pred - before.pop())
        before.append(x0_pred)
        return sigmas[k + 1] / sigmas[k] * x_t - alphas[k + 1] * math.expm1(-widths[k]) * estimate

    return _iterate(denoise, x1, times, step, on_step)


def euler(denoise: Denoise, x1: Array, times: Array, *, on_step: OnStep | None = None) -> Array:
    """Order 1 for flows: x_r = x_t + (r - t) u, with u = (x_t - x0_pred) / t."""

    at = times.tolist()

    def step(k: int, x_t: Array, x0_pred: Array) -> Array:
        return x_t + (at[k + 1] - at[k]) / at[k] * (x_t - x0_pred)

    return _iterate(denoise, x1, times, step, on_step)


def heun(denoise: Denoise, x1: Array, times: Array, *, on_step: OnStep | None = None) -> Array:
    """Order 2 for flows, two evaluations a step: the mean of the velocities at both ends of an Euler step.

    A step to t = 0 is Euler's, as in Karras et al. (arXiv 2206.00364): x0_pred holds no velocity there.
    """

    at = times.tolist()

    def step(k: int, x_t: Array, x0_pred: Array) -> Array:
        t, r = at[k], at[k + 1]
        u_t = (x_t - x0_pred) / t
        x_r = x_t + (r - t) * u_t
        u_r = (x_r - denoise(x_r, batch_of(r, times, x_r))) / r
        return x_t + (r - t) * (u_t + u_r) / 2.0

    return _iterate(denoise, x1, times, step, on_step)


def midpoint(denoise: Denoise, x1: Array, times: Array, *, on_step: OnStep | None = None) -> Array:
    """Order 2 for flows, two evaluations a step: the velocity half-way along an Euler step carries the whole step."""

    at = times.tolist()

    def step(k: int, x_t: Array, x0_pred: Array) -> Array:
        t, r = at[k], at[k + 1]
        m = (t + r) / 2.0
        x_m = x_t + (m - t) / t * (x_t - x0_pred)
        u_m = (x_m - denoise(x_m, batch_of(m, times, x_m))) / m
        return x_t + (r - t) * u_m

    return _iterate(denoise, x1, times, step, on_step, shortcut=False)


def _iterate(
    denoise: Denoise,
    x1: Array,
    times: Array,
    step: Callable[[int, Array, Array], Array],
    on_step: OnStep | None,
    *,
    shortcut: bool = True,
) -> Array:
    """Apply ``step(k, x_t, x0_pred)`` along the grid. With ``shortcut``, a step to t = 0 returns x0_pred."""
    x_t, at = x1, times.tolist()
    for k in range(len(at) - 1):
        x0_pred = denoise(x_t, batch_of(at[k], times, x_t))
        at_data = shortcut and at[k + 1] == 0.0
        x_t = x0_pred if at_data else step(k, x_t, x0_pred)
        if on_step is not None:
            on_step(k)
    return x_t


def _levels(schedule: CosineSchedule, times: Array) -> tuple[list[float], list[float], list[float]]:
    """log_snr, alpha and sigma at the times."""
    log_snrs = schedule.log_snr(times)
    alphas, sigmas = alpha_sigma(log_snrs)
    return log_snrs.tolist(), alphas.tolist(), sigmas.tolist()
