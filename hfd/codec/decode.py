"""Decode a file to a picture: resolve options, read extras, run stage 1 and stage 2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from hfd.codec.codec import Codec, Request
from hfd.codec.container import MAX_CODEC_PIXELS, Container
from hfd.codec.exif import fitted_exif
from hfd.codec.memory import enough_memory
from hfd.codec.patches import OnProgress
from hfd.codec.picture.content import Picture
from hfd.codec.sampling_options import SamplingOptions
from hfd.codec.sections import read_extras
from hfd.codec.workers import process_map
from hfd.diffusion.decoder import DEFAULT_STEPS, ScoreDecoder
from hfd.diffusion.sampling import Sampling
from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box, checked_box
from hfd.kinds import SamplerKind


@dataclass(frozen=True)
class Decoded:
    """``picture``, and a short description of it."""

    picture: Picture
    description: str


def resolve(
    options: SamplingOptions, stored: SamplingOptions, container: Container, decoder: ScoreDecoder | None
) -> Request:
    """Combine the user's options, those ``stored`` in the file and the model's defaults into a request.

    The reconstruction is requested if realism is 0 or the model has no decoder. Raises :class:`ConfigError` on a value
    out of range, or a sampler that does not fit the decoder.
    """
    settings = {"steps": DEFAULT_STEPS if decoder is None else decoder.default_steps} | options.over(stored).stated()
    seed = settings.pop("seed", container.crc32)
    if seed < 0:
        raise ConfigError(f"seed: got {seed}, expected at least 0")
    if "sampler" in settings:
        settings["kind"] = settings.pop("sampler")
    sampling = Sampling(**settings)
    if decoder is not None:
        sampling.kind_for(decoder.process)
    return Request(None if decoder is None or sampling.realism == 0.0 else sampling, seed)


def check_sampler(options: SamplingOptions, decoder: ScoreDecoder | None) -> None:
    """Raise :class:`ConfigError` for a sampler that does not fit the decoder."""
    if options.sampler is not None and decoder is not None:
        Sampling(1, cast(SamplerKind, options.sampler)).kind_for(decoder.process)


def decode(
    container: Container,
    codec: Codec,
    options: SamplingOptions = SamplingOptions(),
    *,
    region: Box | None = None,
    workers: int = 1,
    max_pixels: int = MAX_CODEC_PIXELS,
    on_progress: OnProgress | None = None,
) -> Decoded:
    """Decode a file with the model that made it.

    ``region``: decode only that part; ``workers``: processes that share the patches of a large picture. Neither
    changes the pixels, up to rounding. ``max_pixels``: larger pictures are refused.
    Raises :class:`hfd.errors.BitstreamError`, :class:`DataError`, :class:`ConfigError`.
    """
    extras = read_extras(container, max_pixels=max_pixels)
    request = resolve(options, extras.sampling, container, codec.decoder)
    if region is not None:
        request = replace(request, box=_within(region, container))
        if extras.alpha is not None:
            extras = replace(extras, alpha=extras.alpha[region.slices])
        if extras.exif is not None and region != Box(0, 0, container.height, container.width):
            extras = replace(extras, exif=fitted_exif(extras.exif, region.width, region.height))
    with process_map(workers) as map_fn, enough_memory():
        source = codec.open(container, max_pixels=max_pixels)
        rgb = codec.render(source, request, map_fn=map_fn, on_progress=on_progress)
    sampling = request.sampling
    description = "reconstruction" if sampling is None else f"sample of {sampling.label}, seed {request.seed}"
    return Decoded(Picture(rgb, extras), description)


def _within(region: Box, container: Container) -> Box:
    try:
        return checked_box(region, container.height, container.width)
    except ConfigError as error:  # another picture of the batch may contain it
        raise DataError(f"{error}. Move or shrink it", reason="region") from error
