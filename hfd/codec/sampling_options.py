"""What a user says of sampling: when a file is decoded, or when it is made, for those who will decode it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

from hfd.codec.codec import Codec
from hfd.codec.sections import DefaultSampling
from hfd.diffusion.sampling import SamplerKind, Sampling
from hfd.errors import ConfigError, DataError


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

    def stored(self) -> DefaultSampling:
        """What a file says that asks for this. Raises :class:`ConfigError` on a value that it cannot hold."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        try:
            return DefaultSampling(kind=given.pop("sampler", "auto"), **given)
        except DataError as error:
            raise ConfigError(str(error)) from error

    def check(self, codec: Codec) -> None:
        """Raises :class:`ConfigError` for a sampler that does not fit a model."""
        if self.sampler is not None and codec.decoder is not None:
            Sampling(1, cast(SamplerKind, self.sampler)).kind_for(codec.decoder.process)
