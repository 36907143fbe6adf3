"""Settings of sampling, and the choice of the sampler for a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from hfd.arrays import Array, batch_of
from hfd.diffusion.flow import RectifiedFlow
from hfd.diffusion.noise import NoiseSource
from hfd.diffusion.process import Process
from hfd.diffusion.samplers import Denoise, OnStep, ancestral, ddim, dpmpp_2m, euler, heun, midpoint
from hfd.diffusion.schedule import time_grid, times_to
from hfd.diffusion.vp import Diffusion
from hfd.errors import ConfigError
from hfd.kinds import DiffusionSampler, FlowSampler, SamplerKind

_FLOW_SAMPLERS: Mapping[str, Callable[..., Array]] = {"euler": euler, "heun": heun, "midpoint": midpoint}


@dataclass(frozen=True)
class Sampling:
    """Settings of a sampler. ``kind``: "auto" is ancestral for a diffusion and euler for a flow.

    ``gamma`` in [0, 1]: variance of the ancestral sampler. ``realism`` in [0, 1]: 0 gives x_hat, 1 the sample, and
    values between them their mixture, the optimal path from least error to the posterior's realism where x_hat is the
    posterior mean (Freirich et al., arXiv 2107.02555). ``finish``: apply the decoder's finish
    (:mod:`hfd.diffusion.finish`). ``grain``: add the amount of grain in the decoder's configuration after it.
    ``grey``: of a picture without colour: no colour noise, and the channels of the sample are averaged.
    ``stop`` in [0, 1]: the time, a share of the path from 0, the data, to 1, the start, at which sampling stops with
    x0_pred, as in DIRAC (arXiv 2301.05489): less error and less realism, and no evaluations beyond it. 0: at the end of
    the path; 1: at once, with the posterior mean.
    Raises :class:`ConfigError` on values out of range.
    """

    steps: int
    kind: SamplerKind = "auto"
    gamma: float = 0.0
    realism: float = 1.0
    grain: bool = False
    finish: bool = True
    grey: bool = False
    stop: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(SamplerKind):
            raise ConfigError(f"sampler: got {self.kind!r}, expected one of {', '.join(get_args(SamplerKind))}")
        if self.steps < 1:
            raise ConfigError(f"steps: got {self.steps}, expected at least 1")
        for name in ("gamma", "realism", "stop"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected 0 to 1")

    @property
    def label(self) -> str:
        """A short, unique name for tables: the values that differ from the defaults."""
        parts = [f"{self.steps} step{'s' * (self.steps != 1)}"]
        parts += [self.kind] * (self.kind != "auto")
        parts += [f"gamma {self.gamma:g}"] * (self.gamma != 0.0)
        parts += [f"realism {self.realism:g}"] * (self.realism != 1.0)
        parts += [f"stop {self.stop:g}"] * (self.stop != 0.0)
        return ", ".join(parts + ["grain"] * self.grain + ["no finish"] * (not self.finish))

    def kind_for(self, process: Process) -> SamplerKind:
        """The sampler for a process. Raises :class:`ConfigError` if the two do not fit."""
        family = "flow" if isinstance(process, RectifiedFlow) else "diffusion"
        fitting: tuple[SamplerKind, ...] = get_args(FlowSampler if family == "flow" else DiffusionSampler)
        kind = fitting[0] if self.kind == "auto" else self.kind
        if kind not in fitting:
            raise ConfigError(
                f"sampler: got {self.kind}, expected one of {', '.join(fitting)}, since this model's decoder is a "
                f"{family}"
            )
        if self.gamma != 0.0 and kind != "ancestral":
            raise ConfigError(f"gamma: got {self.gamma:g}, expected 0 with {kind}: only the ancestral sampler has one")
        return kind

    def evaluations(self, process: Process) -> int:
        """Number of evaluations of the network."""
        steps = len(self.times) - 1
        each = 2 * steps if self.kind_for(process) in ("heun", "midpoint") else steps
        if self.stop:
            return each + 1
        return each - 1 if self.kind_for(process) == "heun" else each

    @property
    def times(self) -> npt.NDArray[np.float32]:
        """Times of the steps, float32, from 1 to ``stop``: those of ``steps`` steps to 0, cut off."""
        return times_to(self.stop, time_grid(self.steps))

    @property
    def num_parts(self) -> int:
        """Number of calls of ``on_step`` in :func:`run_sampler`: its steps, and the evaluation at ``stop``."""
        return len(self.times) - 1 + (self.stop > 0.0)


def run_sampler(
    settings: Sampling,
    process: Process,
    denoise: Denoise,
    x_hat: Array,
    noise: NoiseSource,
    on_step: OnStep | None = None,
) -> Array:
    """Sample x0 (B, 3, H, W), about [-1, 1], for ``x_hat`` in [-1, 1]; ``noise(0)`` makes the start x1."""
    times = settings.times
    x_t = _along(settings, process, denoise, process.start(x_hat, noise(0)), noise, times, on_step)
    if not settings.stop:
        return x_t
    x0_pred = denoise(x_t, batch_of(times[-1], times, x_t))
    if on_step is not None:
        on_step(settings.num_parts - 1)
    return x0_pred


def _along(
    settings: Sampling,
    process: Process,
    denoise: Denoise,
    x1: Array,
    noise: NoiseSource,
    times: Array,
    on_step: OnStep | None,
) -> Array:
    kind = settings.kind_for(process)
    if not isinstance(process, Diffusion):
        return _FLOW_SAMPLERS[kind](denoise, x1, times, on_step=on_step)
    if kind == "ancestral":
        scaled = noise if process.noise_std == 1.0 else lambda step: process.noise_std * noise(step)
        return ancestral(denoise, x1, scaled, process.schedule, times, gamma=settings.gamma, on_step=on_step)
    return (ddim if kind == "ddim" else dpmpp_2m)(denoise, x1, process.schedule, times, on_step=on_step)
