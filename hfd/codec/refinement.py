"""Refine an analysed picture before it is coded: :mod:`hfd.autoencoder.refine`, by torch beside any engine."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from hfd.autoencoder.rates import DEFAULT_RATE, UNITS, step_units
from hfd.codec.codec import Codec
from hfd.codec.engines import OnnxAutoencoder
from hfd.codec.library import positive_lmbda
from hfd.codec.patches import OnProgress
from hfd.codec.pixels import RgbRows, picture_to_values
from hfd.codec.results import Analysis, Compressed
from hfd.engine.base import Values
from hfd.engine.machine import is_installed
from hfd.errors import ConfigError
from hfd.geometry.box import Box
from hfd.image.load import RgbArray
from hfd.io.storage import Folder

if TYPE_CHECKING:
    from hfd.autoencoder.weights import Autoencoder

MAX_REFINE_STEPS = 10_000


def check_refine(steps: object) -> None:
    """Raise :class:`ConfigError` for what is no number of steps, and for any but 0 without torch."""
    if not (isinstance(steps, int) and 0 <= steps <= MAX_REFINE_STEPS):
        raise ConfigError(f"refine: got {steps}, expected a whole number from 0 to {MAX_REFINE_STEPS}")
    if steps and not is_installed("torch"):
        raise ConfigError("refine: got steps, but torch, which computes gradients, is not installed. pip install torch")


def refine(
    codec: Codec,
    analysis: Analysis,
    rows: RgbRows,
    *,
    steps: int,
    rate: int = DEFAULT_RATE,
    on_progress: OnProgress | None = None,
) -> Analysis:
    """Return the analysis of a picture with a latent refined for a rate; its file gets a lower loss of stage 1.

    ``rows``: the picture; some are read twice, and none after one that lies more than a tile further down; ``steps``:
    of gradient descent, on each tile of at most 768 px a side; ``on_progress`` counts those of all tiles. Raises
    :class:`DataError` for a model without lmbda.
    """
    from hfd.autoencoder.refine import Objective, refined

    def pixels(box: Box) -> Values:
        return picture_to_values(rows(box.top, box.bottom)[:, box.left : box.right])

    objective = Objective(positive_lmbda(codec.autoencoder.config, "model"), step_units(rate) / UNITS)
    size, model = (analysis.height, analysis.width), _by_torch(codec).model
    latents = refined(model, analysis.latents, pixels, size, objective, steps=steps, on_step=on_progress)
    return replace(analysis, latents=latents)


def compress(codec: Codec, x: RgbArray, *, steps: int, rate: int = DEFAULT_RATE, estimate: bool = False) -> Compressed:
    """Compress a picture, uint8 (H, W, 3) sRGB, as :meth:`Codec.compress`, with a latent refined in ``steps``."""

    def rows(first: int, last: int) -> RgbArray:
        return x[first:last]

    analysis = codec.analyse(rows, x.shape[1], x.shape[0])
    if steps:
        analysis = refine(codec, analysis, rows, steps=steps, rate=rate)
    return codec.encode(analysis, rate=rate, consume=True, estimate=estimate)


def _by_torch(codec: Codec) -> Autoencoder:
    stage1 = codec.autoencoder
    if isinstance(stage1, OnnxAutoencoder):
        return _read(stage1.folder, stage1.fingerprint)
    return cast("Autoencoder", stage1)


@lru_cache(maxsize=2)
def _read(folder: Folder, _fingerprint: str) -> Autoencoder:
    from hfd.autoencoder.weights import read_autoencoder

    return read_autoencoder(folder)
