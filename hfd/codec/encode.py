"""Encode a picture to a target size or quality: choose the model and the rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from hfd.autoencoder.rates import DEFAULT_RATE
from hfd.codec.codec import Codec
from hfd.codec.container import MAX_CODEC_PIXELS, unpack
from hfd.codec.decode import check_sampler
from hfd.codec.library import borrowed, lmbda_of, name_of
from hfd.codec.memory import enough_memory
from hfd.codec.patches import OnProgress
from hfd.codec.quality import RATES, rung_of
from hfd.codec.rate_control import Choice, best_within
from hfd.codec.reconstruction import TILE_CELLS
from hfd.codec.refinement import check_refine, refine
from hfd.codec.results import Analysis
from hfd.codec.sampling_options import SamplingOptions
from hfd.codec.sections import Extras
from hfd.engine.base import CELL_PX
from hfd.errors import ConfigError
from hfd.geometry.box import Box
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from hfd.kinds import EngineKind

KEPT_PIXELS = MAX_CODEC_PIXELS
"""Larger pictures are analysed once per rate of a search, to save memory; smaller ones once for all rates."""

_BAND_PX = TILE_CELLS * CELL_PX


@dataclass(frozen=True)
class Target:
    """The file's target size or quality, at most one of them. All None: the last model at its trained rate.

    ``quality``: 1 to 100 (:mod:`hfd.codec.quality`); ``bpp``: bits of the whole file per pixel, above 0;
    ``num_bytes``: of the whole file, at least 1. Raises :class:`ConfigError`.
    """

    quality: int | None = None
    bpp: float | None = None
    num_bytes: int | None = None

    def __post_init__(self) -> None:
        values = {"quality": self.quality, "bpp": self.bpp, "bytes": self.num_bytes}
        given = [name for name, value in values.items() if value is not None]
        if len(given) > 1:
            raise ConfigError(f"target: got {' and '.join(given)}, expected one of them. Leave the others out")
        if self.quality is not None and not (isinstance(self.quality, int) and 1 <= self.quality <= 100):
            raise ConfigError(f"quality: got {self.quality}, expected a whole number from 1 to 100")
        if self.bpp is not None and not (math.isfinite(self.bpp) and self.bpp > 0.0):
            raise ConfigError(f"bpp: got {self.bpp}, expected a number above 0, such as 0.25")
        if self.num_bytes is not None and not (isinstance(self.num_bytes, int) and self.num_bytes >= 1):
            raise ConfigError(f"bytes: got {self.num_bytes}, expected a whole number of at least 1")

    def limit_bytes(self, width: int, height: int) -> int | None:
        """Return the largest allowed size of a picture's file in bytes; None: no limit."""
        if self.num_bytes is not None or self.bpp is None:
            return self.num_bytes
        return math.floor(self.bpp * width * height / 8)


class Original(Protocol):
    """A picture to compress: a :class:`hfd.codec.picture.content.Picture`, or one that is read by strips."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def extras(self) -> Extras: ...

    def rows(self, first: int, last: int) -> RgbArray:
        """Return rows ``first`` to ``last`` (exclusive), uint8 (last - first, W, 3)."""


def encode(
    picture: Original,
    target: Target,
    models: Sequence[Folder],
    options: SamplingOptions = SamplingOptions(),
    *,
    engine: EngineKind = "auto",
    max_pixels: int = MAX_CODEC_PIXELS,
    refine_steps: int = 0,
    on_progress: OnProgress | None = None,
) -> Choice:
    """Compress a picture with one of the models (:func:`hfd.codec.library.find_models`, sorted by rate).

    ``options``: stored in the file; ``engine``: as in :func:`hfd.codec.engines.load_model`; ``refine_steps``: of
    :mod:`hfd.codec.refinement`, which ``on_progress`` counts. The search for a limit on bytes is without them: the
    refined file is mostly smaller, and otherwise not used. Raises :class:`DataError` if a limit on bytes cannot be met
    or the picture is too large, :class:`ConfigError` for a sampler that does not fit a model, and for steps without
    torch.
    """
    check_refine(refine_steps)
    sections = replace(picture.extras, sampling=options).to_sections()
    if options.sampler is not None:
        for folder in models:
            with borrowed(folder, engine) as codec:
                check_sampler(options, codec.decoder)
    candidates = [_Candidate(picture, sections, folder, engine, max_pixels, on_progress) for folder in models]
    limit_bytes = target.limit_bytes(picture.width, picture.height)
    if limit_bytes is not None:
        choice = best_within(candidates, limit_bytes)
        if not refine_steps:
            return choice
        (chosen,) = (one for one in candidates if one.name == choice.name)
        data = replace(chosen, refine_steps=refine_steps).file(choice.rate)
        return replace(choice, data=data) if len(data) <= limit_bytes else choice
    chosen, rate = candidates[-1], DEFAULT_RATE
    if target.quality is not None:
        lmbdas = [lmbda_of(one) for one in models] if len(models) > 1 else [1.0]
        rung = rung_of(target.quality, [name_of(one) for one in models], lmbdas)
        chosen, rate = candidates[rung.model], rung.rate
    return Choice(chosen.name, rate, replace(chosen, refine_steps=refine_steps).file(rate))


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A model in the search for one picture's file: :class:`hfd.codec.rate_control.RatedEncoder`."""

    picture: Original
    sections: Mapping[int, bytes]
    folder: Folder
    engine: EngineKind
    max_pixels: int
    on_progress: OnProgress | None
    refine_steps: int = 0
    rates: Sequence[int] = RATES

    @property
    def name(self) -> str:
        return name_of(self.folder)

    def start(self) -> Callable[[int], bytes]:
        """Analyse the picture once for all rates, unless it is large; return the function that encodes at a rate."""
        if self.picture.width * self.picture.height > KEPT_PIXELS:
            return self.file
        with borrowed(self.folder, self.engine) as codec, enough_memory():
            return partial(self.file, kept=self._analysed(codec))

    def file(self, rate: int, kept: Analysis | None = None) -> bytes:
        """``kept``: the picture's analysis; None: it is analysed now, and refined if the steps are not 0."""
        with borrowed(self.folder, self.engine) as codec, enough_memory():
            analysis = self._analysed(codec) if kept is None else kept
            if kept is None and self.refine_steps:
                rows, steps = self.picture.rows, self.refine_steps
                analysis = refine(codec, analysis, rows, steps=steps, rate=rate, on_progress=self.on_progress)
            return codec.encode(analysis, rate=rate, sections=self.sections, consume=kept is None).data

    def _analysed(self, codec: Codec) -> Analysis:
        picture = self.picture
        return codec.analyse(picture.rows, picture.width, picture.height, max_pixels=self.max_pixels)

    def mse(self, data: bytes) -> float:
        """Mean squared error of stage 1, computed by bands of rows to bound memory."""
        picture, total = self.picture, 0.0
        with borrowed(self.folder, self.engine) as codec, enough_memory():
            source = codec.open(unpack(data), max_pixels=self.max_pixels)
            for top in range(0, picture.height, _BAND_PX):
                bottom = min(top + _BAND_PX, picture.height)
                x_hat = source.read(Box(top, 0, bottom - top, picture.width))
                rows = zip(picture.rows(top, bottom), x_hat, strict=True)
                total += float(sum(np.square(x.astype(np.float64) - y).sum() for x, y in rows))
        return total / (3 * picture.width * picture.height)
