"""Samplers: pure functions of a denoiser, a condition, noise and a time grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hfd.diffusion.schedule import CosineSchedule, alpha_sigma

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, 3, H, W), t (B,)) -> x0_pred (B, 3, H, W) in [-1, 1]. The condition is closed over."""

NoiseSource = Callable[[int], Tensor]
"""step index -> standard normal noise (B, 3, H, W); index 0 is the start."""


def ancestral(
    denoise: Denoise,
    noise: NoiseSource,
    schedule: CosineSchedule,
    times: Tensor,
    *,
    gamma: float = 0.0,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Ancestral (DDPM) sampling from t = times[0] to times[-1]; returns x0_pred of the last step, (B, 3, H, W).

    A step t -> r, with c = -expm1(log_snr(t) - log_snr(r)):
    mean = alpha_r ((1 - c) x_t / alpha_t + c x0_pred), and the variance log-interpolated,
    log var = gamma log(c sigma_t^2) + (1 - gamma) log(c sigma_r^2); ``gamma = 0`` is the least noise
    (Hoogeboom et al., arXiv 2301.11093 and 2305.18231). ``times``: (S + 1,) decreasing in [0, 1].
    """
    x_t = noise(0)
    log_snrs = schedule.log_snr(times)
    alphas, sigmas = alpha_sigma(log_snrs)
    steps = len(times) - 1
    for step in range(steps):
        t = times[step].expand(x_t.shape[0]).to(x_t.device)
        x0_pred = denoise(x_t, t)
        if on_step is not None:
            on_step(step)
        if step == steps - 1:
            break
        c = -torch.expm1(log_snrs[step] - log_snrs[step + 1])
        mean = alphas[step + 1] * ((1.0 - c) * x_t / alphas[step] + c * x0_pred)
        std = c.sqrt() * sigmas[step] ** gamma * sigmas[step + 1] ** (1.0 - gamma)
        x_t = mean + std * noise(step + 1)
    return x0_pred


def seeded_noise(seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> NoiseSource:
    """Noise that depends on each sample's own seed and the step only, never on the batch it is in.

    ``shape`` is (3, H, W). Drawn on the CPU, so that every device starts from the same numbers.
    """

    def noise(step: int) -> Tensor:
        rows = []
        for seed in seeds:
            generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step) % 2**63)
            rows.append(torch.randn(shape, generator=generator))
        return torch.stack(rows).to(device)

    return noise
