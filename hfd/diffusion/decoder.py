"""The score-based decoder, a network and a process: maps x_hat to a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from hfd.diffusion.finish import REACH_PX as FINISH_PX
from hfd.diffusion.finish import Finish, finished
from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.grain import FILTER_PX, add_grain
from hfd.diffusion.grain import REACH_PX as GRAIN_PX
from hfd.diffusion.lean import LeanNet
from hfd.diffusion.noise import noise_in
from hfd.diffusion.process import Process, predict
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.unet import UNet
from hfd.diffusion.vp import Diffusion
from hfd.errors import DataError
from hfd.geometry.box import Box, Tile, Window
from hfd.io.storage import Folder
from hfd.io.weights import load_strictly, read_weights, write_weights
from hfd.kinds import FlowTimes, Prediction, ProcessKind, Weighting
from hfd.precision import autocast

DEFAULT_STEPS = 50

DecoderNet: TypeAlias = UNet | LeanNet
"""The networks of stage 2."""


@dataclass(frozen=True)
class ScoreDecoder:
    """A frozen stage 2: ``net`` in eval mode, its ``process``, ``config`` and ``fingerprint`` (hex)."""

    net: DecoderNet
    process: Process
    config: Mapping[str, Any]
    fingerprint: str

    @property
    def default_steps(self) -> int:
        """Number of steps of its fine-tuning; otherwise ``DEFAULT_STEPS``."""
        return int(self.config.get("steps", DEFAULT_STEPS))

    @property
    def finish(self) -> Finish:
        """Finish of its samples, if the sampling settings ask for it."""
        return Finish.of(self.config)

    def add_grain(
        self, sample: Tensor, *, seeds: Sequence[int], amount: float | None = None, window: Window | None = None
    ) -> Tensor:
        """Add grain to a sample (B, 3, H, W) in [0, 1]; ``amount`` None: the amount in the configuration."""
        amount = float(self.config.get("grain", 0.0)) if amount is None else amount
        return add_grain(sample, amount, seeds=seeds, window=window)

    def denoise(
        self, x_t: Tensor, t: Tensor, x_hat: Tensor, *, known: Tensor | None = None, precision: str = "auto"
    ) -> Tensor:
        """x0_pred (B, 3, H, W) float32 in [-1, 1], for x_t and x_hat in [-1, 1] and t (B,).

        ``known`` (B, 4, H, W): pixels of the finished picture, as :func:`hfd.diffusion.neighbours.known_pixels`.
        """
        with autocast(x_t.device, precision):
            output = predict(self.process, self.net, x_t, x_hat, t, known)
        return self.process.x0_pred(x_t, output, t).clamp(-1.0, 1.0)

    @torch.no_grad()
    def sample(
        self,
        x_hat: Tensor,
        settings: Sampling,
        *,
        seeds: Sequence[int],
        precision: str = "auto",
        on_step: Callable[[int], None] | None = None,
        window: Window | None = None,
        tiles: Sequence[Tile] = (),
        known: Tensor | None = None,
    ) -> Tensor:
        """Sample a realistic image for each reconstruction.

        ``x_hat``: (B, 3, H, W) float32 in [0, 1], any size; ``seeds``: one per image. Returns the same shape and
        range. Each image's noise comes from its own seed; the other images of the batch change it by rounding only:
        on a CPU by at most 3e-6 in float32 and, with one step in bfloat16, 0.016 (four grey levels), 0.003 on average.

        ``window``: the part of larger pictures that the reconstructions are. Its edges are multiples of the network's
        stride or the picture's own. The result is that part of the whole picture's sample, up to the same rounding,
        except within :meth:`reach_px` of edges that are not the picture's own.
        ``tiles``: evaluate the network on one tile at a time, at every step, with the context of one evaluation
        (:attr:`UNet.receptive_field_px`). The tiles cut the picture padded to the stride. Memory depends on the tiles
        and a few whole pictures in float32, for any number of steps.
        ``known``: (B, 4, H, W), finished pixels in [-1, 1] that the sample continues, and their mask, as
        :func:`hfd.diffusion.neighbours.known_pixels`.
        """
        height, width = x_hat.shape[-2:]
        right, below = -width % self.net.stride, -height % self.net.stride
        if known is not None:
            known = F.pad(known, (0, right, 0, below)).contiguous(memory_format=torch.channels_last)
        cond = F.pad(x_hat, (0, right, 0, below), mode="replicate") * 2.0 - 1.0
        cond = cond.contiguous(memory_format=torch.channels_last)
        sample = run_sampler(
            settings,
            self.process,
            lambda x_t, t: self._denoise_by_tiles(x_t, t, cond, known, tiles, precision),
            cond,
            noise_in(seeds, 3, (height + below, width + right), x_hat.device, window and self._padded(window)),
            on_step,
        )
        sample = ((sample + 1.0) / 2.0)[..., :height, :width].clamp(0.0, 1.0)
        if settings.finish:
            finish = replace(self.finish, chroma_noise=0.0) if settings.grey else self.finish
            sample = finished(sample, finish, seeds=seeds, window=window)
        if settings.grain:
            sample = self.add_grain(sample, seeds=seeds, window=window)
        sample = torch.lerp(x_hat, sample, settings.realism)
        return sample.mean(dim=1, keepdim=True).expand_as(sample) if settings.grey else sample

    def reach_px(self, settings: Sampling) -> int:
        """Largest distance along an axis between a sample's pixel and a pixel of x_hat that it depends on.

        Each evaluation of the network adds :attr:`UNet.receptive_field_px`; finish and grain add their own.
        """
        steps = self.net.receptive_field_px * settings.evaluations(self.process)
        return steps + FINISH_PX * settings.finish + (GRAIN_PX + FILTER_PX) * settings.grain

    def _denoise_by_tiles(
        self, x_t: Tensor, t: Tensor, cond: Tensor, known: Tensor | None, tiles: Sequence[Tile], precision: str
    ) -> Tensor:
        if not tiles:
            return self.denoise(x_t, t, cond, known=known, precision=precision)
        whole = torch.empty_like(x_t)
        for tile in tiles:
            known_in_tile = None if known is None else _seen(known, tile)
            denoised = self.denoise(_seen(x_t, tile), t, _seen(cond, tile), known=known_in_tile, precision=precision)
            tile.core.cut(whole).copy_(tile.core.within(tile.window).cut(denoised))
        return whole

    def _padded(self, window: Window) -> Window:
        """Pad a window and its picture to the network's stride."""
        stride, box = self.net.stride, window.box
        size = box.height + -box.height % stride, box.width + -box.width % stride
        height, width = window.height + -window.height % stride, window.width + -window.width % stride
        return Window(Box(box.top, box.left, *size), height, width)


def _seen(x: Tensor, tile: Tile) -> Tensor:
    return tile.window.cut(x).contiguous(memory_format=torch.channels_last)


def build_process(config: Mapping[str, Any]) -> Process:
    """Build the process of a section ``{kind: ..., ...}``. Raises :class:`DataError` for unknown values."""
    residual = None if config.get("residual_std") is None else float(config["residual_std"])
    match _one_of(ProcessKind, "kind", config):
        case "diffusion":
            schedule, predict = CosineSchedule(s=float(config["s"])), _one_of(Prediction, "predict", config)
            return Diffusion(schedule, predict, _one_of(Weighting, "loss", config), float(config["min_snr"]), residual)
        case "rectified-flow":
            return RectifiedFlow(*_flow_times(config), residual)
        case _:
            return PosteriorMeanFlow(*_flow_times(config), residual, sigma_s=float(config["sigma_s"]))


def _flow_times(config: Mapping[str, Any]) -> tuple[FlowTimes, float, float]:
    return _one_of(FlowTimes, "times", config), float(config["times_mean"]), float(config["times_std"])


def _one_of(kinds: Any, key: str, config: Mapping[str, Any]) -> Any:
    if config[key] not in get_args(kinds):
        *others, last = map(repr, get_args(kinds))
        expected = f"{', '.join(others)} or {last}"
        raise DataError(f"{key}: got {config[key]!r}, expected {expected}. Use a newer hfd")
    return config[key]


def build_network(config: Mapping[str, Any]) -> DecoderNet:
    """An untrained network from the section ``lean``, where there is one, else ``unet``."""
    lean = config.get("lean")
    if lean is not None:
        return LeanNet(tuple(lean["channels"]), tuple(lean["blocks"]), int(lean["tail"]))
    unet = config["unet"]
    return UNet(patch=int(unet["patch"]), channels=tuple(unet["channels"]), blocks=tuple(unet["blocks"]))


def write_decoder(folder: Folder, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write weights and ``config``: process, unet or lean, and ``autoencoder``, the fingerprint of its stage 1.

    Optional: ``steps``, the number of its fine-tuning; ``finish``, as :class:`hfd.diffusion.finish.Finish`; ``grain``,
    the amount that its finished samples lack.
    """
    write_weights(folder, tensors, config)


def read_decoder(folder: Folder) -> ScoreDecoder:
    """Load stage 2, frozen and in eval mode. Raises :class:`DataError` that names the fault."""
    tensors, config, fingerprint = read_weights(folder)
    try:
        net, process = build_network(config), build_process(config["process"])
    except KeyError as error:
        raise DataError(f"{folder.uri}/config.json: lacks {error}. Make or fetch the model again") from error
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{folder.uri}/config.json: describes no network that can be built ({error!r}). "
            "Make or fetch the model again"
        ) from error
    load_strictly(net, tensors, folder.uri)
    net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return ScoreDecoder(net, process, config, fingerprint)
