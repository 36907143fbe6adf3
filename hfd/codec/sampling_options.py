"""What a user says of sampling: when a file is decoded, or when it is made, for those who will decode it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from hfd.codec.codec import Codec
from hfd.codec.sections import DefaultSampling
from hfd.diffusion.sampling import Sampling
from hfd.errors import ConfigError, DataError
from hfd.kinds import SamplerKind


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
        given = self._given()
        seed = given.pop("seed", seed)
        if seed < 0:
            raise ConfigError(f"seed: got {seed}, expected at least 0")
        settings = replace(settings, **given)
        if codec.decoder is not None:
            settings.kind_for(codec.decoder.process)
        return settings, seed

    def stored(self) -> DefaultSampling:
        """What a file says that asks for this. Raises :class:`ConfigError` on a value that it cannot hold."""
        try:
            return DefaultSampling(**self._given())
        except DataError as error:
            raise ConfigError(str(error)) from error

    def check(self, codec: Codec) -> None:
        """Raises :class:`ConfigError` for a sampler that does not fit a model."""
        if self.sampler is not None and codec.decoder is not None:
            Sampling(1, cast(SamplerKind, self.sampler)).kind_for(codec.decoder.process)

    def _given(self) -> dict[str, Any]:
        """What was said, under the names that :class:`Sampling` and :class:`DefaultSampling` have for it."""
        said = {"kind" if name == "sampler" else name: value for name, value in asdict(self).items()}
        return {name: value for name, value in said.items() if value is not None}
