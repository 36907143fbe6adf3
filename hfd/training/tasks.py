"""The two tasks that the loop drives: the autoencoder of stage 1, the score-based decoder of stage 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hfd.autoencoder.loss import rate_distortion
from hfd.autoencoder.model import Elic
from hfd.diffusion.ema import PowerEma
from hfd.diffusion.neighbours import known_pixels, random_masks
from hfd.diffusion.process import Process, answer
from hfd.diffusion.unet import UNet
from hfd.precision import autocast


@dataclass(frozen=True)
class OptimiserSettings:
    """``lr`` at factor 1, ``grad_clip`` the largest global gradient norm, ``precision`` as in ``hfd.precision``."""

    lr: float
    weight_decay: float
    grad_clip: float
    precision: str
    compile: bool = False


class AutoencoderTask:
    """Stage 1: ``lmbda 255^2 MSE + bpp_est``, and the auxiliary loss that places the bottleneck's quantiles.

    For the first ``relaxed_share`` of the training, lmbda is multiplied by ``relaxed_factor``.
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
        world: int = 1,
    ) -> None:
        self.model = model.train().to(memory_format=torch.channels_last)
        self._settings = settings
        self._lmbda, self._relaxed = lmbda, (relaxed_share, relaxed_factor)
        quantiles = model.entropy_bottleneck.quantiles
        self._main = [parameter for parameter in model.parameters() if parameter is not quantiles]
        self._optimiser = adam(self._main, settings)
        self._aux_optimiser = torch.optim.Adam([quantiles], lr=aux_lr)
        self._module = parallel(model, settings.compile, world, ignore=("entropy_bottleneck.quantiles",))

    def losses(self, batch: Tensor, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        del generator  # the rounding noise is each worker's own
        x = batch[:, 0].contiguous(memory_format=torch.channels_last)
        share, factor = self._relaxed
        lmbda = self._lmbda * (factor if progress < share else 1.0)
        with autocast(x.device, self._settings.precision):
            output = self._module(x)
        rd = rate_distortion(output, x, lmbda)
        psnr = -10.0 * torch.log10(rd.mse.detach())
        return {"loss": rd.loss, "mse": rd.mse, "bpp_est": rd.bpp_est, "psnr": psnr}

    def update(self, losses: Mapping[str, Tensor], *, step: int, lr_factor: float) -> Tensor:
        del step
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        norm = clipped_step(self._optimiser, self._settings.lr * lr_factor, self._settings.grad_clip)
        aux_loss = self.model.entropy_bottleneck.loss()
        aux_loss.backward()
        self._aux_optimiser.step()
        self.model.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "aux_optimiser": self._aux_optimiser.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._aux_optimiser.load_state_dict(state["aux_optimiser"])


class DecoderTask:
    """Stage 2: weighted squared error on the process's target, and power-function averages of the weights.

    ``neighbours_share``: share of the samples that are told some pixels of the true picture.
    """

    def __init__(
        self,
        net: UNet,
        process: Process,
        settings: OptimiserSettings,
        *,
        sigma_rels: Sequence[float],
        neighbours_share: float = 0.0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.net = net.train().to(memory_format=torch.channels_last)
        self._process, self._settings = process, settings
        self._neighbours_share = neighbours_share
        self._rank, self._world = rank, world
        self._parameters = list(net.parameters())
        self._optimiser = adam(self._parameters, settings)
        self.ema = PowerEma(self._parameters, sigma_rels)
        self._module = parallel(net, settings.compile, world)

    def losses(self, batch: Tensor, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        del progress
        x0, x_hat = (batch[:, :2] * 2.0 - 1.0).unbind(dim=1)
        # Drawn for the global batch and then shared out: the number of workers changes no sample's noise.
        size = batch.shape[0] * self._world
        mine = slice(self._rank, None, self._world)
        t = self._process.times(size, generator)[mine].to(batch.device)
        eps = torch.randn((size, *x0.shape[1:]), generator=generator)[mine].to(batch.device)
        masks = random_masks(size, x0.shape[-1], self._neighbours_share, generator)[mine].to(batch.device)
        loss = self.errors(x0, x_hat, eps, t, masks).mean()
        return {"loss": loss}

    def errors(
        self, x0: Tensor, x_hat: Tensor, eps: Tensor, t: Tensor, masks: Tensor | None = None, *, alone: bool = False
    ) -> Tensor:
        """The weighted squared error of each sample (B,), as it enters the loss; ``alone``: on this worker only."""
        pair = self._process.training_pair(x0, x_hat, eps, t)
        inputs = [pair.x_t, x_hat] if masks is None else [pair.x_t, x_hat, known_pixels(x0, masks)]
        x_t, cond, *known = (picture.contiguous(memory_format=torch.channels_last) for picture in inputs)
        with autocast(x0.device, self._settings.precision):
            # A data-parallel module waits for the other workers even without gradients: they share its buffers.
            found = answer(self._process, self.net if alone else self._module, x_t, cond, t, *known)
        errors: Tensor = pair.weight * (found - pair.target).square().mean(dim=(1, 2, 3))
        return errors

    @torch.no_grad()
    def held_out_loss(self, x0: Tensor, x_hat: Tensor, times: int) -> Tensor:
        """The loss of one crop (1, 3, h, w) in [-1, 1] at ``times`` times, with noise that never changes; a scalar.

        For one worker: the others need not take part.
        """
        generator = torch.Generator().manual_seed(0)
        t = self._process.times(times, generator).to(x0.device)
        eps = torch.randn((times, *x0.shape[1:]), generator=generator).to(x0.device)
        loss: Tensor = self.errors(x0.expand_as(eps), x_hat.expand_as(eps), eps, t, alone=True).mean()
        return loss

    def update(self, losses: Mapping[str, Tensor], *, step: int, lr_factor: float) -> Tensor:
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        norm = clipped_step(self._optimiser, self._settings.lr * lr_factor, self._settings.grad_clip)
        self.ema.update(step)
        return norm

    def averages(self) -> dict[float, dict[str, Tensor]]:
        """The averaged weights by relative width and parameter name."""
        return named_averages(self.net, self.ema)

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "ema": self.ema.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.ema.load(state["ema"])


def named_averages(net: nn.Module, ema: PowerEma) -> dict[float, dict[str, Tensor]]:
    """The averages of a network's parameters by relative width and parameter name."""
    names = [name for name, _ in net.named_parameters()]
    return {width: dict(zip(names, values, strict=True)) for width, values in ema.averages.items()}


def parallel(module: nn.Module, compiled: bool, world: int, ignore: Iterable[str] = ()) -> nn.Module:
    """The module as the loss calls it: compiled if asked for, data-parallel with more than one worker."""
    if compiled:
        module.compile()
    if world == 1:
        return module
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, list(ignore))  # type: ignore[no-untyped-call]
    return DistributedDataParallel(module)


def adam(
    parameters: list[nn.Parameter], settings: OptimiserSettings, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay, fused=True)


def clipped_step(optimiser: torch.optim.Optimizer, lr: float, grad_clip: float) -> Tensor:
    """One step of an optimiser with its gradients clipped, which it then forgets; their global norm before that."""
    norm = nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], grad_clip)
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm
