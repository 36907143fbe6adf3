"""Adversarial fine-tuning of a few-step sampler (beyond the paper of HFD)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch._functorch.config as functorch
from torch import Tensor

from hfd.diffusion.discriminator import Discriminator, change, discriminator_loss, generator_loss
from hfd.diffusion.ema import PowerEma
from hfd.diffusion.neighbours import known_pixels
from hfd.diffusion.process import Process, predict
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.weights import DecoderNet
from hfd.precision import autocast
from hfd.training.critic import LossRange
from hfd.training.moves import moved
from hfd.training.randomness import SampleRandomness
from hfd.training.shards import Shards
from hfd.training.strategy import Parallelism, Units, syncing, wrap_module
from hfd.training.tasks import OptimiserSettings, adam, clipped_step, named_averages, sample_masks, units_of_network

BETAS = (0.5, 0.95)
"""Betas of both Adam optimisers: short averages, since each network's loss changes with the other's."""

PENALTY_NOISE = 0.2
"""Standard deviation of the noise of the gradient penalty, as a factor of ``residual_std``."""

RANGE = LossRange(0.0, math.log(2.0), certain=0.1)
"""Of the discriminator's loss without its penalty. At 0.1 it is sure of nine in ten pairs of pictures."""


@dataclass(frozen=True)
class AdversarialSettings:
    """``steps`` of the sampler; ``weight`` of the adversarial loss beside the MSE of pictures in [-1, 1];
    ``discriminator_lr`` at factor 1; ``penalty``: weight of the discriminator's change under ``PENALTY_NOISE``."""

    steps: int
    weight: float
    discriminator_lr: float
    penalty: float


class AdversarialTask:
    """Trains a sampler and a discriminator on the same samples, with one update of each per step.

    Gradients pass through all ``steps`` of the sampler. ``neighbours_share`` as in
    :class:`hfd.training.tasks.DecoderTask`. Always DDP: FSDP does not support two losses that share forward passes.
    """

    def __init__(
        self,
        net: DecoderNet,
        discriminator: Discriminator,
        process: Process,
        settings: OptimiserSettings,
        adversarial: AdversarialSettings,
        *,
        sigma_rels: Sequence[float],
        neighbours_share: float = 0.0,
        parallelism: Parallelism = Parallelism(),
    ) -> None:
        self.net, self.discriminator = net, discriminator
        self._process, self._settings, self._adversarial = process, settings, adversarial
        self._neighbours_share = neighbours_share
        parallelism = replace(parallelism, strategy="ddp")
        if parallelism.compile:
            # Two backward passes use one graph: the first must keep its buffers.
            functorch.donated_buffer = False
        self._module = wrap_module(net, parallelism, units_of_network(net))
        # Not compiled: each of the two backward passes would then compute the gradients of both.
        self._critic = wrap_module(discriminator, replace(parallelism, compile=False, recompute=False), Units())
        self._shards = Shards(list(net.parameters()))
        self.optimiser = adam(self._shards, settings, betas=BETAS)
        self._critic_shards = Shards(list(discriminator.parameters()))
        self.critic_optimiser = adam(self._critic_shards, settings, betas=BETAS)
        self.ema = PowerEma(self._shards.local, sigma_rels)
        self._norms_before: list[Tensor] = []

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        del progress
        self._begin()
        x0, x_hat = (
            picture.contiguous(memory_format=torch.channels_last)
            for picture in (batch[:, :2] * 2.0 - 1.0).unbind(dim=1)
        )
        sample = self.sample(x0, x_hat, randomness)
        seen_sample, seen_x0, seen_x_hat = moved((sample, x0, x_hat), randomness, cell_px=self.discriminator.stride)
        with autocast(x0.device, self._settings.precision):
            sampled, real = self._critic(seen_sample, seen_x_hat), self._critic(seen_x0, seen_x_hat)
            noise = _noise(x0, randomness, "penalty") * (PENALTY_NOISE * self.discriminator.residual_std)
            noisy = [self._critic(picture.detach() + noise, seen_x_hat) for picture in (seen_sample, seen_x0)]
        mse = (sample - x0).square().mean()
        adversarial = generator_loss(real, sampled)
        # On real and sampled pictures: relativistic losses need both to converge (Huang et al., arXiv 2501.05441).
        penalty = change(sampled, noisy[0]) + change(real, noisy[1])
        return {
            "loss": mse + self._adversarial.weight * adversarial,
            "mse": mse,
            "adversarial": adversarial,
            "discriminator": discriminator_loss(real, sampled) + self._adversarial.penalty * penalty,
            "penalty": penalty,
        }

    def sample(self, x0: Tensor, x_hat: Tensor, randomness: SampleRandomness) -> Tensor:
        """Sample (B, 3, h, w), about [-1, 1], with gradients."""
        masks = sample_masks(randomness, x0.shape[-1], self._neighbours_share).to(x0.device)
        known = known_pixels(x0, masks).contiguous(memory_format=torch.channels_last)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(x0.device, self._settings.precision):
                output = predict(self._process, self._module, x_t, x_hat, t, known)
            x0_pred: Tensor = self._process.x0_pred(x_t, output, t)
            return x0_pred

        sample: Tensor = run_sampler(
            Sampling(steps=self._adversarial.steps),
            self._process,
            denoise,
            x_hat,
            lambda step: _noise(x0, randomness, f"eps {step}"),
        )
        return sample

    def _begin(self) -> None:
        """Before each part of a step's batch, restore the spectral norms from the start of the step.

        Every pass updates them, and the result may not depend on the number of parts.
        """
        buffers = list(self.discriminator.buffers())
        if not self._norms_before:
            self._norms_before = [buffer.clone() for buffer in buffers]
        for buffer, before in zip(buffers, self._norms_before, strict=True):
            buffer.copy_(before)

    def backward(self, losses: Mapping[str, Tensor], *, weight: float) -> None:
        # Both losses come from the same forward passes; each backward pass stops at its own parameters.
        sampler, critic = list(self.net.parameters()), list(self.discriminator.parameters())
        (losses["loss"] * weight).backward(inputs=sampler, retain_graph=True)  # type: ignore[no-untyped-call]
        (losses["discriminator"] * weight).backward(inputs=critic)  # type: ignore[no-untyped-call]

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        return syncing(last, self._module, self._critic)

    def update(self, *, step: int, lr_factor: float) -> Tensor:
        norm = clipped_step(self._shards, self.optimiser, self._settings.lr * lr_factor, self._settings.grad_clip)
        critic_lr = self._adversarial.discriminator_lr * lr_factor
        clipped_step(self._critic_shards, self.critic_optimiser, critic_lr, self._settings.grad_clip)
        self._norms_before = []
        self.ema.update(step)
        return norm

    def problem(self, means: Mapping[str, float]) -> str | None:
        """Describe a diverged discriminator, from the means of the losses over all workers, with advice."""
        advice = "Try a smaller adversarial.discriminator_lr or adversarial.weight, or a larger adversarial.penalty"
        mean = means["discriminator"] - self._adversarial.penalty * means["penalty"]
        return RANGE.problem("discriminator", mean, advice)

    def averages(self) -> dict[float, dict[str, Tensor]]:
        """Averaged weights of the sampler by relative width and parameter name."""
        return named_averages(self.net, self.ema, self._shards)

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "discriminator_optimiser": self.critic_optimiser.state_dict(),
            "ema": self.ema.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.critic_optimiser.load_state_dict(state["discriminator_optimiser"])
        self.ema.load(state["ema"])


def _noise(like: Tensor, randomness: SampleRandomness, stream: str) -> Tensor:
    return randomness.normal(like.shape[1:], stream, like.device).contiguous(memory_format=torch.channels_last)
