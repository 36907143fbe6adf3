"""The interface of the processes that stage 2 learns: training pairs, and x0_pred from a network's output.

A process joins a clean image x0 (t = 0) to a start x1 (t = 1) by x_t = a_t x0 + b_t x1. The processes are the two
diffusions of :mod:`hfd.diffusion.vp` and the two flows of :mod:`hfd.diffusion.flow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hfd.arrays import Array, as_float

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EARLIEST, LATEST = 1e-5, 1.0 - 1e-5
"""Bounds of training times: the target of a diffusion is not defined at 0 and 1."""


@dataclass(frozen=True)
class TrainingPair:
    """``x_t`` and ``target`` (B, 3, H, W): noisy input and target; ``noise_level`` (B,): input of the network;
    ``weight`` (B,): of each sample's mean squared error on the target."""

    x_t: Array
    target: Array
    noise_level: Array
    weight: Array


@dataclass(frozen=True)
class Preconditioning:
    """The output is ``skip + scale * network(x_in)``, with ``x_in`` (B, 3, H, W).

    The best linear estimate from x_t and x_hat has a closed form and need not be learned. With r = x0 - x_hat of
    variance ``residual_std``^2 and x_t - k x_hat = a r + n eps, ``x_in`` is that difference over its standard
    deviation, ``skip`` the output at the best linear estimate of r, and ``scale`` the standard deviation of the rest:
    the network's input and target have unit variance at every time (as in EDM, Karras et al., arXiv 2206.00364, whose
    data has mean 0 where ours has mean x_hat).
    """

    x_in: Array
    skip: Array | float
    scale: Array | float


class Process(Protocol):
    """Times are (B,) in [0, 1]; images (B, 3, H, W), x0 and x_hat in [-1, 1]; eps is standard normal."""

    def times(self, batch: int, generator: torch.Generator) -> Tensor:
        """Training times, float32 (B,), stratified over their distribution."""

    def training_pair(self, x0: Array, x_hat: Array, eps: Array, t: Array) -> TrainingPair: ...

    def start(self, x_hat: Array, eps: Array) -> Array:
        """x1, from which sampling starts."""

    def path(self, t: Array) -> tuple[Array, Array]:
        """a_t and b_t, the shape of ``t``."""

    def noise_level(self, t: Array) -> Array:
        """The network's input for t, (B,), of the order of one."""

    def precondition(self, x_t: Array, x_hat: Array, t: Array) -> Preconditioning:
        """Preconditioning of the network; the identity without ``residual_std``."""

    def x0_pred(self, x_t: Array, output: Array, t: Array) -> Array:
        """The clean image of an output at x_t."""


Network = Callable[[Array, Array, Array, Array | None], Array]
"""(x_in, x_hat, noise_level, known) -> (B, 3, H, W)."""


def predict(
    process: Process, network: Network, x_t: Array, x_hat: Array, t: Array, known: Array | None = None
) -> Array:
    """Evaluate the preconditioned network at x_t: v, eps, x0 or u, float32 (B, 3, H, W)."""
    around = process.precondition(x_t, x_hat, t)
    output = network(around.x_in, x_hat, process.noise_level(t), known)
    return around.skip + around.scale * as_float(output, 32)


def stratified_uniform(batch: int, generator: torch.Generator) -> Tensor:
    """float64 (B,), uniform on (0, 1) and evenly spaced over the batch: u_i = (i + u) / B with one u for all.

    Low-discrepancy sampling (variational diffusion models, arXiv 2107.00630, appendix I.1).
    """
    import torch

    u = torch.rand((), generator=generator, dtype=torch.float64)
    return ((torch.arange(batch, dtype=torch.float64) + u) / batch).clamp(EARLIEST, LATEST)


def as_images(*values: Array) -> tuple[Array, ...]:
    """(B,) to (B, 1, 1, 1) each."""
    return tuple(value.reshape(-1, 1, 1, 1) for value in values)
