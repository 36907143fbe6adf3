"""The score-based decoder: a network and a process, made into ``x_hat -> sample``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.diffusion.process import Diffusion
from hfd.diffusion.samplers import ancestral, seeded_noise
from hfd.diffusion.schedule import CosineSchedule, time_grid
from hfd.diffusion.unet import UNet
from hfd.errors import DataError
from hfd.precision import autocast
from hfd.storage import Folder
from hfd.weights import load_strictly, read_weights, write_weights


@dataclass(frozen=True)
class ScoreDecoder:
    """A frozen stage 2: ``net`` in eval mode, its ``process``, ``config`` and ``fingerprint`` (hex)."""

    net: UNet
    process: Diffusion
    config: Mapping[str, Any]
    fingerprint: str

    def denoise(self, x_t: Tensor, t: Tensor, x_hat: Tensor, *, precision: str = "auto") -> Tensor:
        """x0_pred (B, 3, H, W) float32 in [-1, 1], for x_t and x_hat in [-1, 1] and t (B,)."""
        with autocast(x_t.device, precision):
            output = self.net(x_t, x_hat, self.process.noise_level(t))
        return self.process.x0_pred(x_t, output.float(), t).clamp(-1.0, 1.0)

    @torch.no_grad()
    def sample(
        self,
        x_hat: Tensor,
        *,
        seeds: Sequence[int],
        steps: int,
        gamma: float = 0.0,
        precision: str = "auto",
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """A realistic image for each reconstruction.

        ``x_hat``: (B, 3, H, W) float32 in [0, 1], any size; ``seeds``: one per image. Returns the same shape
        and range. Every image's noise comes from its own seed.
        """
        height, width = x_hat.shape[-2:]
        right, below = -width % self.net.stride, -height % self.net.stride
        cond = F.pad(x_hat, (0, right, 0, below), mode="replicate") * 2.0 - 1.0
        cond = cond.contiguous(memory_format=torch.channels_last)
        noise = seeded_noise(seeds, (3, height + below, width + right), x_hat.device)
        sample = ancestral(
            lambda x_t, t: self.denoise(x_t, t, cond, precision=precision),
            noise,
            self.process.schedule,
            time_grid(steps),
            gamma=gamma,
            on_step=on_step,
        )
        return ((sample + 1.0) / 2.0)[..., :height, :width].clamp(0.0, 1.0)


def build_process(config: Mapping[str, Any]) -> Diffusion:
    if config.get("kind") != "diffusion":
        raise DataError(f"kind: got {config.get('kind')!r}, expected 'diffusion'")
    return Diffusion(CosineSchedule(s=float(config["s"])))


def build_unet(config: Mapping[str, Any]) -> UNet:
    unet = config["unet"]
    return UNet(patch=int(unet["patch"]), channels=tuple(unet["channels"]), blocks=tuple(unet["blocks"]))


def write_decoder(folder: Folder, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """``config`` holds kind, s, unet, and ``autoencoder``: the fingerprint of the stage 1 it was trained on."""
    write_weights(folder, tensors, config)


def read_decoder(folder: Folder) -> ScoreDecoder:
    """Load stage 2, frozen and in eval mode. Raises :class:`DataError` naming what does not fit."""
    tensors, config, fingerprint = read_weights(folder)
    try:
        net, process = build_unet(config), build_process(config)
    except KeyError as error:
        raise DataError(f"{folder.uri}/config.json: lacks {error}. Make or fetch the model again") from error
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{folder.uri}/config.json: describes no network that can be built ({error!r}). "
            "Make or fetch the model again"
        ) from error
    load_strictly(net, tensors, folder.uri)
    net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return ScoreDecoder(net, process, config, fingerprint)
