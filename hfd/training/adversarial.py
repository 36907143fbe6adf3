"""Fine-tuning of a few-step sampler with an adversarial loss beside the squared error. Beyond the paper of HFD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch._functorch.config as functorch
from torch import Tensor

from hfd.diffusion.discriminator import Discriminator, change, discriminator_loss, generator_loss
from hfd.diffusion.ema import PowerEma
from hfd.diffusion.neighbours import known_pixels, random_masks
from hfd.diffusion.process import Process, answer
from hfd.diffusion.sampling import Sampling, walk
from hfd.diffusion.unet import UNet
from hfd.precision import autocast
from hfd.training.tasks import OptimiserSettings, adam, clipped_step, named_averages, parallel

BETAS = (0.5, 0.95)
"""Of both Adams: short memories, since each network's loss moves with the other's."""

PENALTY_NOISE = 0.2
"""Standard deviation of the noise under which the discriminator may not change, over ``residual_std``."""


@dataclass(frozen=True)
class AdversarialSettings:
    """``steps`` of the sampler; ``weight`` of the adversarial loss beside the MSE of pictures in [-1, 1];
    ``discriminator_lr`` at factor 1; ``penalty``: weight of the discriminator's change under ``PENALTY_NOISE``."""

    steps: int
    weight: float
    discriminator_lr: float
    penalty: float


class AdversarialTask:
    """Sampler against discriminator, one update each a step.

    The whole walk of ``steps`` steps is differentiated. Both see the same samples; ``neighbours_share`` as in
    :class:`hfd.training.tasks.DecoderTask`.
    """

    def __init__(
        self,
        net: UNet,
        discriminator: Discriminator,
        process: Process,
        settings: OptimiserSettings,
        adversarial: AdversarialSettings,
        *,
        sigma_rels: Sequence[float],
        neighbours_share: float = 0.0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.net = net.train().to(memory_format=torch.channels_last)
        self.discriminator = discriminator.train().to(memory_format=torch.channels_last)
        self._process, self._settings, self._adversarial = process, settings, adversarial
        self._neighbours_share = neighbours_share
        self._rank, self._world = rank, world
        self._parameters = list(net.parameters())
        self._optimiser = adam(self._parameters, settings, betas=BETAS)
        self._critic_parameters = list(discriminator.parameters())
        self._critic_optimiser = adam(self._critic_parameters, settings, betas=BETAS)
        self.ema = PowerEma(self._parameters, sigma_rels)
        if settings.compile:
            # Two backward passes go through one graph: the first may not give its buffers away.
            functorch.donated_buffer = False
        self._module = parallel(net, settings.compile, world)
        # As written: compiled, each of the two passes back would make the gradients of both.
        self._critic = parallel(discriminator, False, world)

    def losses(self, batch: Tensor, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        del progress
        x0, x_hat = (
            picture.contiguous(memory_format=torch.channels_last)
            for picture in (batch[:, :2] * 2.0 - 1.0).unbind(dim=1)
        )
        sample = self.sample(x0, x_hat, generator)
        # Rolled by a random distance: a critic that halves the sides four times pushes each pixel of its cells its
        # own way, and a sampler that always stands in the same place under it answers with a grid.
        down, right = torch.randint(self.discriminator.stride, (2,), generator=generator).tolist()
        seen_sample, seen_x0, seen_x_hat = (picture.roll((down, right), (2, 3)) for picture in (sample, x0, x_hat))
        with autocast(x0.device, self._settings.precision):
            sampled, real = self._critic(seen_sample, seen_x_hat), self._critic(seen_x0, seen_x_hat)
            noise = self._noise(x0, generator) * (PENALTY_NOISE * self.discriminator.residual_std)
            moved = [self._critic(picture.detach() + noise, seen_x_hat) for picture in (seen_sample, seen_x0)]
        mse = (sample - x0).square().mean()
        adversarial = generator_loss(real, sampled)
        # On both sides: relativistic pairs need it for the game to settle (Huang et al., arXiv 2501.05441), and
        # a critic that noise can sway is given noise.
        penalty = change(sampled, moved[0]) + change(real, moved[1])
        return {
            "loss": mse + self._adversarial.weight * adversarial,
            "mse": mse,
            "adversarial": adversarial,
            "discriminator": discriminator_loss(real, sampled) + self._adversarial.penalty * penalty,
            "penalty": penalty,
        }

    def sample(self, x0: Tensor, x_hat: Tensor, generator: torch.Generator) -> Tensor:
        """Samples (B, 3, h, w), with gradients, about [-1, 1]. Noise and masks are drawn for the global batch."""
        size = x0.shape[0] * self._world
        mine = slice(self._rank, None, self._world)
        masks = random_masks(size, x0.shape[-1], self._neighbours_share, generator)[mine].to(x0.device)
        known = known_pixels(x0, masks).contiguous(memory_format=torch.channels_last)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(x0.device, self._settings.precision):
                found = answer(self._process, self._module, x_t, x_hat, t, known)
            return self._process.x0_pred(x_t, found, t)

        return walk(
            Sampling(steps=self._adversarial.steps),
            self._process,
            denoise,
            x_hat,
            lambda _step: self._noise(x0, generator),
        )

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """This worker's part of standard normal noise that is drawn for the global batch."""
        eps = torch.randn((like.shape[0] * self._world, *like.shape[1:]), generator=generator)
        return eps[self._rank :: self._world].to(like.device).contiguous(memory_format=torch.channels_last)

    def update(self, losses: Mapping[str, Tensor], *, step: int, lr_factor: float) -> Tensor:
        # Both losses come from the same passes; each backward pass stops at the parameters that it is for.
        losses["loss"].backward(inputs=self._parameters, retain_graph=True)  # type: ignore[no-untyped-call]
        losses["discriminator"].backward(inputs=self._critic_parameters)  # type: ignore[no-untyped-call]
        norm = clipped_step(self._optimiser, self._settings.lr * lr_factor, self._settings.grad_clip)
        critic_lr = self._adversarial.discriminator_lr * lr_factor
        clipped_step(self._critic_optimiser, critic_lr, self._settings.grad_clip)
        self.ema.update(step)
        return norm

    def averages(self) -> dict[float, dict[str, Tensor]]:
        """The averaged weights of the sampler by relative width and parameter name."""
        return named_averages(self.net, self.ema)

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "discriminator_optimiser": self._critic_optimiser.state_dict(),
            "ema": self.ema.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.discriminator.load_state_dict(state["discriminator"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._critic_optimiser.load_state_dict(state["discriminator_optimiser"])
        self.ema.load(state["ema"])
