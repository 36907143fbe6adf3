"""From a file to a picture: what the file asks for, what the user asks for, and stage 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from hfd.codec.codec import DEFAULT_MAX_PIXELS, Codec
from hfd.codec.container import Container, unpack
from hfd.codec.memory import enough_memory
from hfd.codec.picture import Picture
from hfd.codec.sections import Extras, read_extras
from hfd.diffusion.sampling import SamplerKind, Sampling
from hfd.errors import ConfigError, DataError
from hfd.images import RgbArray

OnStep = Callable[[int, int | None], None]


@dataclass(frozen=True)
class SamplingOptions:
    """What the user says of sampling; None: what the file says, or else the model's own.

    ``seed``: at least 0; None: of the file's bytes, so that the same file gives the same picture. The others as in
    :class:`hfd.diffusion.sampling.Sampling`.
    """

    steps: int | None = None
    sampler: str | None = None
    gamma: float | None = None
    realism: float | None = None
    grain: bool | None = None
    finish: bool | None = None
    seed: int | None = None

    def resolve(self, codec: Codec, data: bytes) -> tuple[Sampling, int]:
        """Settings and seed. Raises :class:`ConfigError` on a value out of range, or a sampler that does not fit."""
        settings, seed = codec.sampling_of(data)
        settings = Sampling(
            settings.steps if self.steps is None else self.steps,
            settings.kind if self.sampler is None else cast(SamplerKind, self.sampler),  # checked by Sampling itself
            settings.gamma if self.gamma is None else self.gamma,
            settings.realism if self.realism is None else self.realism,
            settings.grain if self.grain is None else self.grain,
            settings.finish if self.finish is None else self.finish,
        )
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"seed: got {self.seed}, expected at least 0")
        if codec.decoder is not None:
            settings.kind_for(codec.decoder.process)
        return settings, seed if self.seed is None else self.seed


@dataclass(frozen=True)
class Region:
    """A part of a picture, in pixels from its upper left corner: ``x``, ``y`` at least 0, sides at least 1."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.x, self.y) < 0 or min(self.width, self.height) < 1:
            raise ConfigError(f"region: got {self}, expected X,Y from 0 and sides from 1, such as 0,0,64,64")

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    @classmethod
    def parse(cls, text: str) -> Region:
        """From "x,y,w,h". Raises :class:`ConfigError`."""
        try:
            x, y, width, height = (int(part) for part in text.split(","))
        except ValueError as error:
            raise ConfigError(
                f"region: got {text!r}, expected X,Y,WIDTH,HEIGHT in whole pixels, such as 0,0,64,64"
            ) from error
        return cls(x, y, width, height)

    def check_within(self, container: Container) -> None:
        """Raises :class:`DataError` where the region leaves the picture."""
        if self.x + self.width > container.width or self.y + self.height > container.height:
            raise DataError(
                f"region: got {self}, expected one within {container.width} x {container.height} px. Move or shrink it",
                reason="region",
            )


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
    region: Region | None = None,
    workers: int = 1,
    on_step: OnStep | None = None,
) -> Decoded:
    """Decode a file with the model that made it: the sample, or x_hat where realism is 0 or the model has no stage 2.

    ``region``: only that part; ``workers``: processes that share the work of stage 2; ``on_step``: told (steps done, of
    how many). Raises :class:`hfd.errors.BitstreamError`, :class:`DataError`, :class:`ConfigError`.
    """
    container = unpack(data)
    settings, seed = options.resolve(codec, data)
    if region is not None:
        region.check_within(container)
    extras = read_extras(container, max_pixels=DEFAULT_MAX_PIXELS)
    with enough_memory():
        samples = settings.realism > 0.0 and codec.decoder is not None
        if region is not None or workers != 1:
            rgb = _decode_part(region, workers)
        else:
            rgb = codec.reconstruct(data)
            if samples:
                told = None if on_step is None else (lambda step: on_step(step + 1, settings.steps))
                rgb = codec.sample(rgb, settings, seed=seed, on_step=told)
    what = f"sample of {settings.label}, seed {seed}" if samples else "reconstruction"
    return Decoded(Picture(rgb, _cut(extras, region)), what)


def _decode_part(region: Region | None, workers: int) -> RgbArray:
    """A region, or the whole by several processes."""
    if workers < 1:
        raise ConfigError(f"workers: got {workers}, expected at least 1")
    name = "region" if region is not None else "workers"
    raise ConfigError(f"{name}: not available in this version. Leave --{name} out")


def _cut(extras: Extras, region: Region | None) -> Extras:
    if region is None or extras.alpha is None:
        return extras
    rows, columns = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
    return replace(extras, alpha=extras.alpha[rows, columns])
