"""Photographs to ``.hfd`` bytes and back, with a model folder (:mod:`hfd.io.model_folders`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from hfd.arrays import Array, on_device, to_numpy
from hfd.autoencoder.coding import LatentCoder
from hfd.codec.container import (
    DEFAULT_RATE,
    GREY,
    LATENTS,
    MAX_CODEC_PIXELS,
    MODEL_BYTES,
    Container,
    check_size,
    pack,
    unpack,
)
from hfd.codec.engines import Stage1, load_model
from hfd.codec.memory import give_back
from hfd.codec.patches import LatentSource, MapPieces, OnProgress, Piece, PixelSource, Source, known_in, sample_by_plan
from hfd.codec.pixels import (
    STRIDE,
    GreyWatch,
    RgbRows,
    padded_rows,
    picture_to_values,
    to_grey,
    to_grey_levels,
)
from hfd.codec.reconstruction import LatentCut, synthesise
from hfd.codec.results import Analysis, Compressed
from hfd.codec.sections import holds_grey
from hfd.diffusion.decoder import DEFAULT_STEPS, ScoreDecoder
from hfd.diffusion.samplers import OnStep
from hfd.diffusion.sampling import Sampling
from hfd.engine.base import Values
from hfd.errors import BitstreamError, DataError
from hfd.geometry.box import Box, Tile, Window, checked_box
from hfd.geometry.four_groups import Patch
from hfd.geometry.plan import PatchLayout, Scheme, plan_picture
from hfd.geometry.tiles import Reach
from hfd.image.load import RgbArray
from hfd.io.model_folders import resolve_model
from hfd.io.storage import Folder
from hfd.kinds import EngineKind


@dataclass(frozen=True)
class Request:
    """A picture to render. ``sampling`` None: the reconstruction; ``box`` None: the whole picture."""

    sampling: Sampling | None
    seed: int = 0
    box: Box | None = None
    precision: str = "auto"
    layout: PatchLayout = field(default_factory=PatchLayout)


class Codec:
    """A loaded model: compresses, reconstructs (stage 1) and samples (stage 2). Not for use by several threads."""

    def __init__(self, autoencoder: Stage1, decoder: ScoreDecoder | None) -> None:
        self.autoencoder = autoencoder
        self.decoder = decoder
        self.networks = autoencoder.networks
        self._coder = LatentCoder(self.networks, autoencoder.entropy)
        self._loaded_from: tuple[Folder, str, EngineKind] | None = None

    @classmethod
    def load(cls, folder: Folder, *, device: str = "cpu", engine: EngineKind = "auto") -> Codec:
        """Load a model folder or workspace.

        Stage 2 goes to ``device``; the entropy-coded stage 1 stays on the CPU. ``engine``: as
        :func:`hfd.codec.engines.load_model`, whose errors are raised.
        """
        folder = resolve_model(folder)
        codec = cls(*load_model(folder, device, engine))
        codec._loaded_from = (folder, device, engine)
        return codec

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the codec's folder; the receiving process loads the model once."""
        if self._loaded_from is None:
            raise TypeError("codec: got one without a folder, expected one of Codec.load. Only that can be pickled")
        return _load_once, self._loaded_from

    @property
    def model(self) -> bytes:
        """Identifier of the autoencoder in a file: the first bytes of its fingerprint."""
        return bytes.fromhex(self.autoencoder.fingerprint)[:MODEL_BYTES]

    @property
    def default_sampling(self) -> Sampling:
        """The decoder's default: the number of steps that it was fine-tuned for."""
        return Sampling(steps=DEFAULT_STEPS if self.decoder is None else self.decoder.default_steps)

    def compress(
        self,
        x: RgbArray,
        *,
        rate: int = DEFAULT_RATE,
        sections: Mapping[int, bytes] = MappingProxyType({}),
        estimate: bool = False,
        max_pixels: int = MAX_CODEC_PIXELS,
    ) -> Compressed:
        """Compress a picture, uint8 (H, W, 3) sRGB.

        ``rate``: the quantiser's id, 64 to 192; ``sections``: optional sections of the file
        (:meth:`hfd.codec.sections.Extras.to_sections`); ``estimate``: compute ``bpp_est`` too.
        """
        height, width = x.shape[:2]
        analysis = self.analyse(lambda first, last: x[first:last], width, height, max_pixels=max_pixels)
        return self.encode(analysis, rate=rate, sections=sections, consume=True, estimate=estimate)

    def analyse(self, rows: RgbRows, width: int, height: int, *, max_pixels: int = MAX_CODEC_PIXELS) -> Analysis:
        """Compute the part of :meth:`compress` that all rates share. The picture may be read piece by piece.

        Raises :class:`DataError` for more than ``max_pixels``, before any pixel is read.
        """
        check_size(width, height, max_pixels, stride=STRIDE)
        padded = (height + -height % STRIDE, width + -width % STRIDE)
        watched = GreyWatch(rows)
        latents = self._coder.analyse(padded_rows(watched, height), *padded)
        return Analysis(width, height, latents, watched.is_grey)

    def encode(
        self,
        analysis: Analysis,
        *,
        rate: int = DEFAULT_RATE,
        sections: Mapping[int, bytes] = MappingProxyType({}),
        consume: bool = False,
        estimate: bool = False,
    ) -> Compressed:
        """Code an analysis at one rate.

        ``consume``: overwrite the analysis, which cannot be used again. ``estimate``: compute ``bpp_est`` too.
        """
        width, height = analysis.width, analysis.height
        coded, _ = self._coder.code(analysis.latents, rate, consume=consume, estimate=estimate)
        held = {**sections, LATENTS: coded.payload} | ({GREY: b""} if analysis.is_grey else {})
        data = pack(Container(width, height, self.model, rate, coded.checksum, held))
        bpp_est = None if coded.bits_est is None else coded.bits_est / (width * height)
        return Compressed(data, 8 * len(data) / (width * height), bpp_est)

    def reconstruct(self, data: bytes, *, max_pixels: int = MAX_CODEC_PIXELS) -> RgbArray:
        """The stage-1 reconstruction x_hat of a file, uint8 (H, W, 3). Raises as :meth:`open`."""
        source = self.open(unpack(data), max_pixels=max_pixels)
        return source.read(Box(0, 0, *source.size))

    def open(self, container: Container, *, max_pixels: int = MAX_CODEC_PIXELS) -> LatentSource:
        """Entropy-decode the latent of a file. Any part of x_hat can be synthesised from it.

        Raises :class:`BitstreamError` for a file that is damaged, foreign, or made by another model, and
        :class:`DataError` for one of more than ``max_pixels``, before memory is taken.
        """
        if container.model != self.model:
            raise BitstreamError(
                f"model: got a file made by {container.model.hex()}, expected {self.model.hex()}. "
                "Give the model that made it with --model"
            )
        width, height, is_grey = container.width, container.height, holds_grey(container)
        check_size(width, height, max_pixels, stride=STRIDE)
        y_hat = self._coder.decode(
            container.sections[LATENTS],
            checksum=container.checksum,
            height=height + -height % STRIDE,
            width=width + -width % STRIDE,
            rate=container.rate,
        )
        return LatentSource(self.networks, y_hat, (height, width), is_grey=is_grey)

    def render(
        self, source: Source, request: Request, *, map_fn: MapPieces = map, on_progress: OnProgress | None = None
    ) -> RgbArray:
        """Render the picture or a box of it, uint8 (H, W, 3), in bounded memory.

        The latent is decoded as a whole; of the rest, only the pixels that the box depends on are computed. A box
        equals that part of the whole picture up to rounding: one grey level in float32; :meth:`ScoreDecoder.sample`
        states the bound in bfloat16. ``map_fn`` does not change the result. ``on_progress`` counts steps if the picture
        fits in one patch, which is sampled in this process, and patches otherwise.

        Raises :class:`ConfigError` for a box that is not in the picture, :class:`DataError` without a decoder.
        """
        box, sampling = checked_box(request.box, *source.size), request.sampling
        if sampling is None:
            return source.read(box)
        sampling = replace(sampling, grey=source.is_grey)
        plan = plan_picture(*source.size, self.reach(sampling), request.layout, box=box)
        if plan.num_patches > 1 or plan.scheme is Scheme.FOUR_GROUPS:
            return sample_by_plan(
                source,
                plan,
                sampling,
                self.sample_piece,
                seed=request.seed,
                precision=request.precision,
                map_fn=map_fn,
                on_progress=on_progress,
            )
        ((patch,),) = plan.groups
        on_step = None if on_progress is None else lambda step: on_progress(step + 1, sampling.num_parts)
        cut = source.cut(patch.tile.window)
        core = self.sample_piece(
            Piece(patch, source.size, cut, (), sampling, request.seed, request.precision), on_step=on_step
        )
        return core[box.within(patch.finished).slices]

    def sample(
        self,
        x_hat: RgbArray,
        settings: Sampling,
        *,
        seed: int,
        precision: str = "auto",
        layout: PatchLayout = PatchLayout(),
        map_fn: MapPieces = map,
        on_progress: OnProgress | None = None,
    ) -> RgbArray:
        """Sample stage 2 for a reconstruction, uint8 (H, W, 3) to uint8 (H, W, 3), as :meth:`render` does."""
        request = Request(settings, seed, None, precision, layout)
        return self.render(PixelSource(x_hat), request, map_fn=map_fn, on_progress=on_progress)

    def sample_piece(self, piece: Piece, *, on_step: OnStep | None = None) -> RgbArray:
        """Sample a piece of a plan: ``patch.finished``, uint8 (H, W, 3)."""
        give_back()  # memory of the previous piece
        tile, condition = piece.patch.tile, piece.condition
        if isinstance(condition, LatentCut):
            condition = synthesise(self.networks, condition)
            give_back()
        if piece.settings.grey:
            condition = to_grey(condition)
        cond, known = self._cond([condition]), known_in(piece)
        known = None if known is None else self._input(known)
        sample = self._decoder().sample(
            cond,
            piece.settings,
            seeds=[piece.seed],
            precision=piece.precision,
            on_step=on_step,
            window=Window(tile.window, *piece.size),
            tiles=piece.patch.steps,
            known=known,
        )
        return to_grey_levels(to_numpy(piece.patch.finished.within(tile.window).cut(sample)[0]))

    def sample_batch(
        self, x_hats: Sequence[RgbArray], settings: Sampling, *, seeds: Sequence[int], precision: str = "auto"
    ) -> list[RgbArray]:
        """Sample reconstructions of one size as a batch; each equals its :meth:`sample` up to rounding."""
        sample = self._decoder().sample(self._cond(x_hats), settings, seeds=seeds, precision=precision)
        return [to_grey_levels(one) for one in to_numpy(sample)]

    def sample_tile(
        self,
        x_hat: RgbArray,
        settings: Sampling,
        *,
        tile: Tile,
        size: tuple[int, int],
        seed: int,
        steps: Sequence[Tile] = (),
        precision: str = "auto",
    ) -> RgbArray:
        """Sample ``tile.core`` of a picture of ``size`` (height, width) from ``tile.window`` of its x_hat.

        The tile is one of a plan with this codec's :meth:`reach` (:func:`hfd.geometry.plan.plan_units`). ``steps``: the
        tiles into which the window is cut at every step (`UnitKind.STEPS`).
        """
        patch = Patch(tile, steps=tuple(steps))
        return self.sample_piece(Piece(patch, size, x_hat, (), settings, seed, precision))

    def reach(self, settings: Sampling) -> Reach:
        """Return the distance in px up to which a sampled pixel depends on x_hat, for plans of tiles."""
        net = self._decoder().net
        return Reach(self._decoder().reach_px(settings), net.receptive_field_px, net.stride)

    def _decoder(self) -> ScoreDecoder:
        if self.decoder is None:
            raise DataError("model: has no decoder, expected one. Train stage 2, or ask for the reconstruction")
        return self.decoder

    def _cond(self, x_hats: Sequence[RgbArray]) -> Array:
        return self._input(np.concatenate([picture_to_values(x_hat) for x_hat in x_hats]))

    def _input(self, values: Values) -> Array:
        return on_device(values, self._decoder().device)


@functools.lru_cache(maxsize=1)
def _load_once(folder: Folder, device: str, engine: EngineKind) -> Codec:
    return Codec.load(folder, device=device, engine=engine)
