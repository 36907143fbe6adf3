"""From a file to a picture: what the file asks for, what the user asks for, and stage 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from hfd.codec.codec import Codec
from hfd.codec.container import MAX_CODEC_PIXELS, Container, unpack
from hfd.codec.memory import enough_memory
from hfd.codec.picture.content import Picture
from hfd.codec.sampling_options import SamplingOptions
from hfd.codec.sections import Extras, read_extras
from hfd.codec.workers import process_map
from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box, checked_box
from hfd.geometry.plan import PatchLayout, plan_picture

OnProgress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class Decoded:
    """``picture``, and ``what`` it is, in a few words."""

    picture: Picture
    what: str


def decode(
    data: bytes,
    codec: Codec,
    options: SamplingOptions,
    *,
    region: Box | None = None,
    workers: int = 1,
    max_pixels: int = MAX_CODEC_PIXELS,
    on_progress: OnProgress | None = None,
) -> Decoded:
    """Decode a file with the model that made it: the sample, or x_hat where realism is 0 or the model has no stage 2.

    ``region``: only that part, with what it depends on; ``workers``: processes that share the patches of a picture that
    has several; neither changes the picture, up to rounding. ``on_progress``: told how much is done, of how much: steps
    of a picture that is sampled at once, patches of a larger one. ``max_pixels``: more than that are refused.
    Raises :class:`hfd.errors.BitstreamError`, :class:`DataError`, :class:`ConfigError`.
    """
    container = unpack(data)
    settings, seed = options.resolve(codec, data)
    box = None if region is None else _within(region, container)
    extras = read_extras(container, max_pixels=max_pixels)
    with process_map(workers) as map_fn, enough_memory():
        if settings.realism == 0.0 or codec.decoder is None:
            return Decoded(
                Picture(codec.decode_region(data, box, None, seed=seed, max_pixels=max_pixels), _cut(extras, box)),
                "reconstruction",
            )
        plan = plan_picture(container.height, container.width, codec.reach(settings), PatchLayout())
        if box is None and plan.num_patches == 1:
            told = None if on_progress is None else (lambda step: on_progress(step + 1, settings.steps))
            rgb = codec.sample(codec.reconstruct(data, max_pixels=max_pixels), settings, seed=seed, on_step=told)
        else:
            rgb = codec.decode_region(
                data, box, settings, seed=seed, map_fn=map_fn, on_patch=on_progress, max_pixels=max_pixels
            )
    return Decoded(Picture(rgb, _cut(extras, box)), f"sample of {settings.label}, seed {seed}")


def _within(region: Box, container: Container) -> Box:
    try:
        return checked_box(region, container.height, container.width)
    except ConfigError as error:  # of many pictures some may hold it
        raise DataError(f"{error}. Move or shrink it", reason="region") from error


def _cut(extras: Extras, box: Box | None) -> Extras:
    if box is None or extras.alpha is None:
        return extras
    return replace(extras, alpha=extras.alpha[box.top : box.bottom, box.left : box.right])
