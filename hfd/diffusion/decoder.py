"""The score-based decoder, a network and a process: maps x_hat to a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, get_args

from hfd.arrays import Array, device_of, is_numpy, namespace, packed, pad, without_gradients
from hfd.diffusion.finish import REACH_PX as FINISH_PX
from hfd.diffusion.finish import Finish, finished
from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.grain import FILTER_PX, add_grain
from hfd.diffusion.grain import REACH_PX as GRAIN_PX
from hfd.diffusion.noise import noise_in
from hfd.diffusion.process import Process, predict
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion, ResidualDiffusion
from hfd.errors import DataError
from hfd.geometry.box import Box, Tile, Window
from hfd.kinds import FlowTimes, Prediction, ProcessKind, Weighting

DEFAULT_STEPS = 50


class Network(Protocol):
    """The network of a stage 2 by any engine, :class:`hfd.engine.base.Stage2Network`, or a module of torch."""

    @property
    def stride(self) -> int: ...

    @property
    def receptive_field_px(self) -> int: ...

    def __call__(self, x_in: Array, x_hat: Array, noise_level: Array, known: Array | None = None, /) -> Array: ...


@dataclass(frozen=True)
class ScoreDecoder:
    """A frozen stage 2: ``net`` in eval mode, its ``process``, ``config`` and ``fingerprint`` (hex)."""

    net: Network
    process: Process
    config: Mapping[str, Any]
    fingerprint: str

    @property
    def device(self) -> Any:
        """Where a network of torch is; None: an engine's, on arrays of NumPy."""
        parameters = getattr(self.net, "parameters", None)
        return None if parameters is None else next(parameters()).device

    @property
    def default_steps(self) -> int:
        """Number of steps of its fine-tuning; otherwise ``DEFAULT_STEPS``."""
        return int(self.config.get("steps", DEFAULT_STEPS))

    def resolved(self, settings: Sampling) -> Sampling:
        """Settings with the decoder's own sampler, if it has one, in place of "auto". Another gamma than 0 is for the
        process's."""
        own = self.config.get("sampler")
        if own is None or settings.kind != "auto" or settings.gamma != 0.0:
            return settings
        return replace(settings, kind=own)

    @property
    def finish(self) -> Finish:
        """Finish of its samples, if the sampling settings ask for it."""
        return Finish.of(self.config)

    def add_grain(
        self, sample: Array, *, seeds: Sequence[int], amount: float | None = None, window: Window | None = None
    ) -> Array:
        """Add grain to a sample (B, 3, H, W) in [0, 1]; ``amount`` None: the amount in the configuration."""
        amount = float(self.config.get("grain", 0.0)) if amount is None else amount
        return add_grain(sample, amount, seeds=seeds, window=window)

    def denoise(
        self, x_t: Array, t: Array, x_hat: Array, *, known: Array | None = None, precision: str = "auto"
    ) -> Array:
        """x0_pred (B, 3, H, W) float32 in [-1, 1], for x_t and x_hat in [-1, 1] and t (B,).

        ``known`` (B, 4, H, W): pixels of the finished picture, as :func:`hfd.diffusion.neighbours.known_pixels`.
        """
        with nullcontext() if is_numpy(x_t) else _autocast(x_t, precision):
            output = predict(self.process, self.net, x_t, x_hat, t, known)
        return self.process.x0_pred(x_t, output, t).clip(-1.0, 1.0)

    def sample(
        self,
        x_hat: Array,
        settings: Sampling,
        *,
        seeds: Sequence[int],
        precision: str = "auto",
        on_step: Callable[[int], None] | None = None,
        window: Window | None = None,
        tiles: Sequence[Tile] = (),
        known: Array | None = None,
    ) -> Array:
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
            known = packed(pad(known, below, right, edge=False))
        cond = packed(pad(x_hat, below, right, edge=True) * 2.0 - 1.0)
        sample = run_sampler(
            self.resolved(settings),
            self.process,
            lambda x_t, t: self._denoise_by_tiles(x_t, t, cond, known, tiles, precision),
            cond,
            noise_in(seeds, 3, (height + below, width + right), device_of(x_hat), window and self._padded(window)),
            on_step,
        )
        sample = ((sample + 1.0) / 2.0)[..., :height, :width].clip(0.0, 1.0)
        if settings.finish:
            finish = replace(self.finish, chroma_noise=0.0) if settings.grey else self.finish
            sample = finished(sample, finish, seeds=seeds, window=window)
        if settings.grain:
            sample = self.add_grain(sample, seeds=seeds, window=window)
        if settings.realism != 1.0:
            sample = x_hat + settings.realism * (sample - x_hat)
        if not settings.grey:
            return sample
        xp = namespace(sample)
        return xp.broadcast_to(xp.mean(sample, axis=1, keepdims=True), sample.shape)

    def reach_px(self, settings: Sampling) -> int:
        """Largest distance along an axis between a sample's pixel and a pixel of x_hat that it depends on.

        Each evaluation of the network adds :attr:`UNet.receptive_field_px`; finish and grain add their own.
        """
        steps = self.net.receptive_field_px * settings.evaluations(self.process)
        return steps + FINISH_PX * settings.finish + (GRAIN_PX + FILTER_PX) * settings.grain

    def _denoise_by_tiles(
        self, x_t: Array, t: Array, cond: Array, known: Array | None, tiles: Sequence[Tile], precision: str
    ) -> Array:
        with without_gradients(x_t):
            if not tiles:
                return self.denoise(x_t, t, cond, known=known, precision=precision)
            return self._by_tiles(x_t, t, cond, known, tiles, precision)

    def _by_tiles(
        self, x_t: Array, t: Array, cond: Array, known: Array | None, tiles: Sequence[Tile], precision: str
    ) -> Array:
        whole = namespace(x_t).empty_like(x_t)
        for tile in tiles:
            known_in_tile = None if known is None else _seen(known, tile)
            denoised = self.denoise(_seen(x_t, tile), t, _seen(cond, tile), known=known_in_tile, precision=precision)
            tile.core.cut(whole)[...] = tile.core.within(tile.window).cut(denoised)
        return whole

    def _padded(self, window: Window) -> Window:
        """Pad a window and its picture to the network's stride."""
        stride, box = self.net.stride, window.box
        size = box.height + -box.height % stride, box.width + -box.width % stride
        height, width = window.height + -window.height % stride, window.width + -window.width % stride
        return Window(Box(box.top, box.left, *size), height, width)


def _seen(x: Array, tile: Tile) -> Array:
    return packed(tile.window.cut(x))


def _autocast(x: Array, precision: str) -> AbstractContextManager[object]:
    from hfd.precision import autocast

    return autocast(x.device, precision)


def process_of(config: Mapping[str, Any], where: str) -> Process:
    """The process of a decoder's configuration; ``where``: its folder. Raises :class:`DataError`, naming the fault."""
    try:
        return build_process(config["process"])
    except KeyError as error:
        raise DataError(f"{where}/config.json: lacks {error}. Make or fetch the model again") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}/config.json: describes no network that can be built ({error!r}). Make or fetch the model again"
        ) from error


def build_process(config: Mapping[str, Any]) -> Process:
    """Build the process of a section ``{kind: ..., ...}``. Raises :class:`DataError` for unknown values."""
    residual = None if config.get("residual_std") is None else float(config["residual_std"])
    match _one_of(ProcessKind, "kind", config):
        case "diffusion":
            return Diffusion(*_vp(config), residual)
        case "residual-diffusion":
            return ResidualDiffusion(*_vp(config), float(config["residual_std"]))
        case "rectified-flow":
            return RectifiedFlow(*_flow_times(config), residual)
        case _:
            return PosteriorMeanFlow(*_flow_times(config), residual, sigma_s=float(config["sigma_s"]))


def _vp(config: Mapping[str, Any]) -> tuple[CosineSchedule, Prediction, Weighting, float]:
    schedule, predict = CosineSchedule(s=float(config["s"])), _one_of(Prediction, "predict", config)
    return schedule, predict, _one_of(Weighting, "loss", config), float(config["min_snr"])


def _flow_times(config: Mapping[str, Any]) -> tuple[FlowTimes, float, float]:
    return _one_of(FlowTimes, "times", config), float(config["times_mean"]), float(config["times_std"])


def _one_of(kinds: Any, key: str, config: Mapping[str, Any]) -> Any:
    if config[key] not in get_args(kinds):
        *others, last = map(repr, get_args(kinds))
        expected = f"{', '.join(others)} or {last}"
        raise DataError(f"{key}: got {config[key]!r}, expected {expected}. Use a newer hfd")
    return config[key]
