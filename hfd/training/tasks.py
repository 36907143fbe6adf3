"""The two tasks that the loop drives: the autoencoder of stage 1, the score-based decoder of stage 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hfd.autoencoder.loss import rate_distortion
from hfd.autoencoder.model import Elic
from hfd.diffusion.ema import Ema
from hfd.diffusion.process import Process, stratified_times
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
        self._optimiser = _adam(self._main, settings)
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
        norm = nn.utils.clip_grad_norm_(self._main, self._settings.grad_clip)
        _set_lr(self._optimiser, self._settings.lr * lr_factor)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
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
    """Stage 2: mean squared error on the process's target, and the moving average of the weights."""

    def __init__(
        self,
        net: UNet,
        process: Process,
        settings: OptimiserSettings,
        *,
        ema_decay: float,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.net = net.train().to(memory_format=torch.channels_last)
        self._process, self._settings = process, settings
        self._rank, self._world = rank, world
        self._parameters = list(net.parameters())
        self._optimiser = _adam(self._parameters, settings)
        self.ema = Ema(self._parameters, ema_decay)
        self._module = parallel(net, settings.compile, world)

    def losses(self, batch: Tensor, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        del progress
        x0, x_hat = (batch[:, :2] * 2.0 - 1.0).unbind(dim=1)
        # Drawn for the global batch and then shared out: the number of workers changes no sample's noise.
        size = batch.shape[0] * self._world
        mine = slice(self._rank, None, self._world)
        t = stratified_times(size, generator, batch.device)[mine]
        eps = torch.randn((size, *x0.shape[1:]), generator=generator)[mine].to(batch.device)
        pair = self._process.training_pair(x0, eps, t)
        x_t = pair.x_t.contiguous(memory_format=torch.channels_last)
        with autocast(batch.device, self._settings.precision):
            output = self._module(x_t, x_hat.contiguous(memory_format=torch.channels_last), pair.noise_level)
        return {"loss": (output.float() - pair.target).square().mean()}

    def update(self, losses: Mapping[str, Tensor], *, step: int, lr_factor: float) -> Tensor:
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._parameters, self._settings.grad_clip)
        _set_lr(self._optimiser, self._settings.lr * lr_factor)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.ema.update(step)
        return norm

    def ema_tensors(self) -> dict[str, Tensor]:
        """The averaged weights by parameter name."""
        names = [name for name, _ in self.net.named_parameters()]
        return dict(zip(names, self.ema.averages, strict=True))

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "ema": [average.clone() for average in self.ema.averages],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.ema.load(state["ema"])


def parallel(module: nn.Module, compiled: bool, world: int, ignore: Iterable[str] = ()) -> nn.Module:
    """The module as the loss calls it: compiled if asked for, data-parallel with more than one worker."""
    if compiled:
        module.compile()
    if world == 1:
        return module
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, list(ignore))  # type: ignore[no-untyped-call]
    return DistributedDataParallel(module)


def _adam(parameters: list[nn.Parameter], settings: OptimiserSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def _set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr
