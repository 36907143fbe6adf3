"""Training tasks: the autoencoder of stage 1 and the score-based decoder of stage 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hfd.autoencoder.loss import rate_distortion
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import step_of
from hfd.diffusion.ema import PowerEma
from hfd.diffusion.lean import LeanBlock
from hfd.diffusion.neighbours import known_pixels, mask_numbers, masks_of
from hfd.diffusion.process import Process, predict
from hfd.diffusion.unet import ResidualBlock
from hfd.diffusion.weights import DecoderNet
from hfd.precision import autocast
from hfd.training.randomness import SampleRandomness
from hfd.training.shards import Shards, load_module, module_state
from hfd.training.strategy import Parallelism, Units, leaf_free, syncing, wrap_module


@dataclass(frozen=True)
class OptimiserSettings:
    """``lr`` at factor 1, ``grad_clip`` the largest global gradient norm, ``precision`` as in ``hfd.precision``,
    ``beta2`` the decay of Adam's second moments."""

    lr: float
    weight_decay: float
    grad_clip: float
    precision: str
    beta2: float = 0.999


class AutoencoderTask:
    """Stage 1: ``lmbda 255^2 MSE + bpp_est``, and the auxiliary loss of the bottleneck's quantiles.

    lmbda is multiplied by ``relaxed_factor`` during the first ``relaxed_share`` of the training. ``rates``: ids between
    which the quantiser step of each sample is drawn, spread evenly over the batch, with lmbda / step^2: the squared
    error of a step grows with its square. None: a step of 1.
    """

    def __init__(
        self,
        model: Elic,
        settings: OptimiserSettings,
        *,
        lmbda: float,
        aux_lr: float,
        relaxed_share: float = 0.0,
        relaxed_factor: float = 1.0,
        rates: tuple[float, float] | None = None,
        parallelism: Parallelism = Parallelism(),
    ) -> None:
        self._rates = rates
        self.model, self._settings, self._world = model, settings, parallelism.world
        self._lmbda, self._relaxed = lmbda, (relaxed_share, relaxed_factor)
        self._module = wrap_module(model, parallelism, _units_of_elic(model))
        quantiles = model.entropy_bottleneck.quantiles
        self._main = Shards([parameter for parameter in model.parameters() if parameter is not quantiles])
        self.optimiser = adam(self._main, settings)
        self._aux_optimiser = torch.optim.Adam([quantiles], lr=aux_lr)

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        x = batch[:, 0].contiguous(memory_format=torch.channels_last)
        share, factor = self._relaxed
        lmbda = self._lmbda * (factor if progress < share else 1.0)
        shape_y, shape_z = self.model.noise_shapes(*x.shape[2:])
        noise = randomness.rounding(shape_y, "y", x.device), randomness.rounding(shape_z, "z", x.device)
        with autocast(x.device, self._settings.precision):
            output = self._module(x, noise, steps := self.quantiser_steps(randomness, x.device))
        rd = rate_distortion(output, x, lmbda if steps is None else lmbda / steps.square())
        # Per picture, so that the mean does not depend on the split over workers.
        psnr = -10.0 * torch.log10((output.x_hat.detach() - x).square().mean(dim=(1, 2, 3))).mean()
        return {"loss": rd.loss, "mse": rd.mse, "bpp_est": rd.bpp_est, "psnr": psnr}

    def quantiser_steps(self, randomness: SampleRandomness, device: torch.device) -> Tensor | None:
        """Return the quantiser's step of each of these samples, (b,)."""
        if self._rates is None:
            return None
        low, high = self._rates
        generator, count = randomness.shared("rates"), randomness.batch_size
        places = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        steps = torch.tensor([step_of(low + (high - low) * place) for place in places.tolist()])
        return randomness.of_samples(steps).to(device)

    def backward(self, losses: Mapping[str, Tensor], *, weight: float) -> None:
        (losses["loss"] * weight).backward()  # type: ignore[no-untyped-call]

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        return syncing(last, self._module)

    def update(self, *, step: int, lr_factor: float) -> Tensor:
        del step
        self._main.average_replicated(self._world)
        norm = clipped_step(self._main, self.optimiser, self._settings.lr * lr_factor, self._settings.grad_clip)
        # Independent of the pictures: every worker takes the same step.
        aux_loss = self.model.entropy_bottleneck.loss()
        aux_loss.backward()
        self._aux_optimiser.step()
        self.model.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        return {
            "model": module_state(self.model),
            "optimiser": self._main.optimiser_state(self.optimiser),
            "aux_optimiser": self._aux_optimiser.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        load_module(self.model, state["model"])
        self._main.load_optimiser(self.optimiser, state["optimiser"])
        self._aux_optimiser.load_state_dict(state["aux_optimiser"])


class DecoderTask:
    """Stage 2: weighted squared error on the process's target, and power-function averages of the weights.

    ``neighbours_share``: share of the samples with some known pixels of the true picture.
    """

    def __init__(
        self,
        net: DecoderNet,
        process: Process,
        settings: OptimiserSettings,
        *,
        sigma_rels: Sequence[float],
        neighbours_share: float = 0.0,
        parallelism: Parallelism = Parallelism(),
    ) -> None:
        self.net = net
        self.process, self._settings = process, settings
        self._neighbours_share = neighbours_share
        self._module = wrap_module(net, parallelism, units_of_network(net))
        self._shards = Shards(list(net.parameters()))
        self.optimiser = adam(self._shards, settings)
        self.ema = PowerEma(self._shards.local, sigma_rels)

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        del progress
        x0, x_hat = (batch[:, :2] * 2.0 - 1.0).unbind(dim=1)
        # Times are spread evenly over the global batch.
        t = randomness.of_samples(self.times(randomness.batch_size, randomness.shared("times"))).to(batch.device)
        eps = randomness.normal(x0.shape[1:], "eps", batch.device)
        masks = sample_masks(randomness, x0.shape[-1], self._neighbours_share).to(batch.device)
        loss = self.errors(x0, x_hat, eps, t, masks).mean()
        return {"loss": loss}

    def times(self, batch: int, generator: torch.Generator) -> Tensor:
        """Training times (batch,), spread evenly."""
        return self.process.times(batch, generator)

    def errors(
        self, x0: Tensor, x_hat: Tensor, eps: Tensor, t: Tensor, masks: Tensor | None = None, *, alone: bool = False
    ) -> Tensor:
        """The weighted squared error of each sample (B,); ``alone``: on this worker only."""
        pair = self.process.training_pair(x0, x_hat, eps, t)
        inputs = [pair.x_t, x_hat] if masks is None else [pair.x_t, x_hat, known_pixels(x0, masks)]
        x_t, cond, *known = (picture.contiguous(memory_format=torch.channels_last) for picture in inputs)
        with autocast(x0.device, self._settings.precision):
            # A data-parallel module synchronises buffers with the other workers even without gradients.
            output = predict(self.process, self.net if alone else self._module, x_t, cond, t, *known)
        errors: Tensor = pair.weight * (output - pair.target).square().mean(dim=(1, 2, 3))
        return errors

    @torch.no_grad()
    def held_out_loss(self, x0: Tensor, x_hat: Tensor, times: int) -> Tensor:
        """The loss of one crop (1, 3, h, w) in [-1, 1] at ``times`` times with fixed noise, on this worker only."""
        generator = torch.Generator().manual_seed(0)
        t = self.times(times, generator).to(x0.device)
        eps = torch.randn((times, *x0.shape[1:]), generator=generator).to(x0.device)
        loss: Tensor = self.errors(x0.expand_as(eps), x_hat.expand_as(eps), eps, t, alone=True).mean()
        return loss

    def backward(self, losses: Mapping[str, Tensor], *, weight: float) -> None:
        (losses["loss"] * weight).backward()  # type: ignore[no-untyped-call]

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        return syncing(last, self._module)

    def update(self, *, step: int, lr_factor: float) -> Tensor:
        norm = clipped_step(self._shards, self.optimiser, self._settings.lr * lr_factor, self._settings.grad_clip)
        self.ema.update(step)
        return norm

    def averages(self) -> dict[float, dict[str, Tensor]]:
        """Averaged weights, whole, by relative width and parameter name."""
        return named_averages(self.net, self.ema, self._shards)

    def state(self) -> dict[str, Any]:
        return {
            "net": module_state(self.net),
            "optimiser": self._shards.optimiser_state(self.optimiser),
            "ema": {width: self._shards.whole(average) for width, average in self.ema.state().items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        load_module(self.net, state["net"])
        self._shards.load_optimiser(self.optimiser, state["optimiser"])
        self.ema.load({width: self._shards.mine(average) for width, average in state["ema"].items()})


def _units_of_elic(model: Elic) -> Units:
    transforms = leaf_free([*model.g_a, *model.g_s, *model.g_ch, *model.param_aggregation])
    # Unsharded: the bottleneck's parameters are used outside of its forward pass, and a masked convolution replaces
    # the data of its weights.
    return Units(transforms, (model.entropy_bottleneck, model.g_sp), ("entropy_bottleneck.quantiles",))


def units_of_network(net: nn.Module) -> Units:
    """The blocks of a stage-2 network."""
    return Units(tuple(module for module in net.modules() if isinstance(module, ResidualBlock | LeanBlock)))


def sample_masks(randomness: SampleRandomness, side_px: int, share: float) -> Tensor:
    """Random masks (b, 1, side, side) of known pixels for these samples."""
    return masks_of(
        randomness.of_samples(mask_numbers(randomness.batch_size, randomness.shared("masks"))), side_px, share
    )


def named_averages(net: nn.Module, ema: PowerEma, shards: Shards) -> dict[float, dict[str, Tensor]]:
    """Averages of a network's parameters, whole, by relative width and parameter name.

    Under FSDP all workers call it; only the first gets the averages, the others an empty dict.
    """
    names = [name for name, _ in net.named_parameters()]
    averages = {width: dict(zip(names, shards.whole(values), strict=True)) for width, values in ema.averages.items()}
    return averages if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0 else {}


def adam(
    shards: Shards, settings: OptimiserSettings, betas: tuple[float, float] | None = None
) -> torch.optim.Optimizer:
    betas = betas or (0.9, settings.beta2)
    return torch.optim.AdamW(shards.local, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay, fused=True)


def clipped_step(shards: Shards, optimiser: torch.optim.Optimizer, lr: float, grad_clip: float) -> Tensor:
    """Clip the gradients, step the optimiser and clear them; return the global norm before clipping."""
    norm = shards.clip(grad_clip)
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.step()
    shards.forget_gradients()
    return norm
