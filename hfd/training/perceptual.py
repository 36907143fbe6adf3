"""Training of a few-step sampler with perceptual losses and a critic.

Beyond the paper of HFD. Score-matching losses train every noise level; these losses train the sample itself, after the
sampler's own steps, so that one or few steps are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
import torch._functorch.config as functorch
from torch import Tensor

from hfd.diffusion.ema import PowerEma
from hfd.diffusion.neighbours import known_pixels
from hfd.diffusion.process import Network, Process, predict
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.weights import DecoderNet
from hfd.io.storage import Folder
from hfd.perceptual.critic import FeatureCritic, adversarial_loss, critic_loss, hinge_adversarial_loss, hinge_loss
from hfd.perceptual.patch_critic import PatchCritic
from hfd.precision import autocast
from hfd.training.critic import CriticSettings
from hfd.training.critic_weights import critic_into, write_critic
from hfd.training.moves import moved
from hfd.training.perceptual_losses import PerceptualLosses, PerceptualSettings
from hfd.training.randomness import SampleRandomness
from hfd.training.shards import Shards
from hfd.training.strategy import Parallelism, Units, syncing, wrap_module
from hfd.training.tasks import OptimiserSettings, adam, clipped_step, named_averages, sample_masks, units_of_network

BETAS = (0.9, 0.99)
CRITIC_BETAS = (0.5, 0.95)
"""Betas of the critic's Adam: short averages, since its task changes with the sampler."""


class PerceptualTask:
    """Trains a sampler by gradients through all of its steps, and the critic, if any, by one update per step.

    With several steps of the critic for one of the sampler, the sampler steps in the last of them. The others take
    pictures and noise of their own, and no gradients of the sampler.

    ``neighbours_share`` as in :class:`hfd.training.tasks.DecoderTask`; ``critic_from``: folder of a decoder whose
    critic to start from, of the same network (:mod:`hfd.training.critic_weights`); None: from scratch. Every worker
    holds the whole networks, for any strategy: FSDP does not support losses that share passes. Raises
    :class:`DataError` if the frozen networks' weights are missing or damaged.
    """

    def __init__(
        self,
        net: DecoderNet,
        process: Process,
        settings: OptimiserSettings,
        perceptual: PerceptualSettings,
        *,
        sigma_rels: Sequence[float],
        neighbours_share: float = 0.0,
        parallelism: Parallelism = Parallelism(),
        critic_from: Folder | None = None,
    ) -> None:
        self.net = net
        self._process, self._settings, self._perceptual = process, settings, perceptual
        self._neighbours_share = neighbours_share
        parallelism = replace(parallelism, strategy="ddp")
        if parallelism.compile:
            # Two backward passes use one graph: the first must keep its buffers.
            functorch.donated_buffer = False
        self._module = wrap_module(net, parallelism, units_of_network(net))
        self._shards = Shards(list(net.parameters()))
        self.optimiser = adam(self._shards, settings, betas=BETAS)
        self.ema = PowerEma(self._shards.local, sigma_rels)
        device = next(net.parameters()).device
        self._losses = PerceptualLosses(perceptual, device, settings.precision)
        self.critic: FeatureCritic | PatchCritic | None = None
        if perceptual.critic is not None:
            self._build_critic(perceptual.critic, device, parallelism, critic_from)

    def _build_critic(
        self, critic: CriticSettings, device: torch.device, parallelism: Parallelism, start: Folder | None
    ) -> None:
        if critic.kind == "patch":
            self.critic = PatchCritic(critic.channels).to(device)
        else:
            self.critic = FeatureCritic(self._losses.feature_widths, critic.widths).to(device)
        if start is not None:
            critic_into(start, self.critic)
        # Not compiled: each of the two backward passes would then compute the gradients of both.
        self._critic_module = wrap_module(self.critic, replace(parallelism, compile=False, recompute=False), Units())
        self._critic_shards = Shards(list(self.critic.parameters()))
        critic_settings = replace(self._settings, lr=critic.lr)
        self._critic_optimiser = adam(self._critic_shards, critic_settings, betas=CRITIC_BETAS)
        self._norms_before: list[Tensor] = []
        self._sampler_norm = torch.zeros((), device=device)

    def write_critic(self, decoder: Folder) -> None:
        """Write the critic, if there is one, into the folder of its decoder."""
        if self.critic is not None and self._perceptual.critic is not None:
            write_critic(decoder, self.critic, self._perceptual.critic)

    def _is_samplers(self, step: int) -> bool:
        """Return True if the sampler steps too in this step of the training, and not the critic alone."""
        critic = self._perceptual.critic
        return critic is None or (step + 1) % critic.steps == 0

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        del progress
        self._begin()
        x0, x_hat = (
            picture.contiguous(memory_format=torch.channels_last)
            for picture in (batch[:, :2] * 2.0 - 1.0).unbind(dim=1)
        )
        masks = sample_masks(randomness, x0.shape[-1], self._neighbours_share).to(x0.device)
        known = known_pixels(x0, masks).contiguous(memory_format=torch.channels_last)
        noise = [randomness.normal(x0.shape[1:], f"eps {step}", x0.device) for step in range(self._perceptual.steps)]
        with torch.set_grad_enabled(self._is_samplers(randomness.step)):
            sample = self.sample(self._module, x_hat, noise, known)
            sample, x0, x_hat = moved((sample, x0, x_hat), randomness)
            terms, sampled, real = self._losses.terms(sample, x0)
        found = {name: term.mean() for name, term in terms.items()}
        found["loss"] = self._losses.weighted(found)
        critic = self._perceptual.critic
        if critic is not None and self.critic is not None:
            seen = self._losses.seen(x_hat, frozen=True).by(self.critic)
            with autocast(x0.device, self._settings.precision):
                of_sample, of_real = (self._critic_module(one.by(self.critic), seen) for one in (sampled, real))
            if critic.loss == "hinge":
                found["adversarial"], found["critic"] = (
                    hinge_adversarial_loss(of_sample),
                    hinge_loss(of_real, of_sample),
                )
                # Logits have no natural zero: the loss has the gradient of this term and not its value.
                pull = found["adversarial"] - found["adversarial"].detach()
            else:
                pull = found["adversarial"] = adversarial_loss(of_sample)
                found["critic"] = critic_loss(of_real, of_sample, critic.label)
            found["loss"] = found["loss"] + critic.weight * pull
        return found

    def sample(self, network: Network, x_hat: Tensor, noise: Sequence[Tensor], known: Tensor | None = None) -> Tensor:
        """Sample (B, 3, h, w), about [-1, 1], with gradients, from the noise of each step."""

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(x_hat.device, self._settings.precision):
                found = predict(self._process, network, x_t, x_hat, t, known)
            x0: Tensor = self._process.x0_pred(x_t, found, t)
            return x0

        steps = Sampling(steps=self._perceptual.steps)
        sample: Tensor = run_sampler(steps, self._process, denoise, x_hat, lambda step: noise[step])
        return sample

    @torch.no_grad()
    def held_out_loss(self, x0: Tensor, x_hat: Tensor, times: int) -> Tensor:
        """Compute the loss of one crop (1, 3, h, w) in [-1, 1] without the critic, with fixed noise; a scalar.

        ``times``: number of noise draws. On this worker only.
        """
        generator = torch.Generator().manual_seed(0)
        total = x0.new_zeros(())
        for _ in range(times):
            shape = (self._perceptual.steps, *x0.shape)
            noise = list(torch.randn(shape, generator=generator).to(x0.device))
            terms, _, _ = self._losses.terms(self.sample(self.net, x_hat, noise), x0)
            total = total + self._losses.weighted({name: term.mean() for name, term in terms.items()})
        return total / times

    def _begin(self) -> None:
        """Before each part of a step's batch, restore the spectral norms from the start of the step.

        Every pass through the critic updates them, and the result may not depend on the number of parts.
        """
        if self.critic is None:
            return
        buffers = list(self.critic.buffers())
        if not self._norms_before:
            self._norms_before = [buffer.clone() for buffer in buffers]
        for buffer, before in zip(buffers, self._norms_before, strict=True):
            buffer.copy_(before)

    def backward(self, losses: Mapping[str, Tensor], *, weight: float) -> None:
        if self.critic is None:
            (losses["loss"] * weight).backward()  # type: ignore[no-untyped-call]
            return
        # Both losses come from the same forward passes; each backward pass stops at its own parameters.
        sampler, critic = list(self.net.parameters()), list(self.critic.parameters())
        if losses["mse"].requires_grad:
            (losses["loss"] * weight).backward(inputs=sampler, retain_graph=True)  # type: ignore[no-untyped-call]
        (losses["critic"] * weight).backward(inputs=critic)  # type: ignore[no-untyped-call]

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        return syncing(last, self._module, *([] if self.critic is None else [self._critic_module]))

    def update(self, *, step: int, lr_factor: float) -> Tensor:
        """Step the optimisers whose turn it is; return the sampler's last gradient norm."""
        settings, critic = self._settings, self._perceptual.critic
        if self._is_samplers(step):
            lr = settings.lr * lr_factor
            self._sampler_norm = clipped_step(self._shards, self.optimiser, lr, settings.grad_clip).detach()
        if critic is not None:
            clipped_step(self._critic_shards, self._critic_optimiser, critic.lr * lr_factor, settings.grad_clip)
            self._norms_before = []
        self.ema.update(step)
        return self._sampler_norm

    def problem(self, means: Mapping[str, float]) -> str | None:
        """Describe a diverged critic, from the means of the losses over all workers, with advice."""
        critic, mean = self._perceptual.critic, means.get("critic")
        if critic is None or mean is None:
            return None
        advice = "Try a smaller perceptual.critic.lr, perceptual.critic.weight or train.lr"
        return critic.loss_range.problem("critic", mean, advice)

    def averages(self) -> dict[float, dict[str, Tensor]]:
        """Averaged weights of the sampler by relative width and parameter name."""
        return named_averages(self.net, self.ema, self._shards)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.state(),
        }
        if self.critic is not None:
            state["critic"] = self.critic.state_dict()
            state["critic_optimiser"] = self._critic_optimiser.state_dict()
            state["sampler_norm"] = self._sampler_norm
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ema.load(state["ema"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
            self._critic_optimiser.load_state_dict(state["critic_optimiser"])
            self._sampler_norm = state.get("sampler_norm", self._sampler_norm).to(self._sampler_norm.device)
