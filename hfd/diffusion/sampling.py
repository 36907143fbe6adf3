"""Settings of sampling, and the choice of the sampler for a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from hfd.arrays import Array
from hfd.diffusion.flow import RectifiedFlow
from hfd.diffusion.noise import NoiseSource
from hfd.diffusion.process import Process
from hfd.diffusion.samplers import Denoise, OnStep, ancestral, ddim, dpmpp_2m, euler, heun, midpoint
from hfd.diffusion.schedule import time_grid
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
    Raises :class:`ConfigError` on values out of range.
    """

    steps: int
    kind: SamplerKind = "auto"
    gamma: float = 0.0
    realism: float = 1.0
    grain: bool = False
    finish: bool = True
    grey: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(SamplerKind):
            raise ConfigError(f"sampler: got {self.kind!r}, expected one of {', '.join(get_args(SamplerKind))}")
        if self.steps < 1:
            raise ConfigError(f"steps: got {self.steps}, expected at least 1")
        for name in ("gamma", "realism"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected 0 to 1")

    @property
    def label(self) -> str:
        """A short, unique name for tables: the values that differ from the defaults."""
        parts = [f"{self.steps} step{'s' * (self.steps != 1)}"]
        parts += [self.kind] * (self.kind != "auto")
        parts += [f"gamma {self.gamma:g}"] * (self.gamma != 0.0)
        parts += [f"realism {self.realism:g}"] * (self.realism != 1.0)
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
        match self.kind_for(process):
            case "heun":
                return 2 * self.steps - 1
            case "midpoint":
                return 2 * self.steps
            case _:
                return self.steps


def run_sampler(
    settings: Sampling,
    process: Process,
    denoise: Denoise,
    x_hat: Array,
    noise: NoiseSource,
    on_step: OnStep | None = None,
) -> Array:
    """Sample x0 (B, 3, H, W), about [-1, 1], for ``x_hat`` in [-1, 1]; ``noise(0)`` makes the start x1."""
    kind, times = settings.kind_for(process), time_grid(settings.steps)
    x1 = process.start(x_hat, noise(0))
    if not isinstance(process, Diffusion):
        return _FLOW_SAMPLERS[kind](denoise, x1, times, on_step=on_step)
    if kind == "ancestral":
        return ancestral(denoise, x1, noise, process.schedule, times, gamma=settings.gamma, on_step=on_step)
    return (ddim if kind == "ddim" else dpmpp_2m)(denoise, x1, process.schedule, times, on_step=on_step)
