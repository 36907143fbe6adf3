"""Settings of promotion and of the workspace lease."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hfd.config.base import Section, Share

MIN_DRAWS = 20
"""Fewest bootstrap draws for a usable interval."""


DistanceName = Literal["FD-EffNet", "KD-EffNet", "FID/256", "KID/256", "FD-DINOv2/256", "CMMD/256"]

WEIGHTS_OF: dict[DistanceName, str] = {
    "FID/256": "inception",
    "KID/256": "inception",
    "FD-DINOv2/256": "dinov2",
    "CMMD/256": "clip",
}
"""The setting of ``evaluate`` that a distance of a published protocol needs."""


class PromoteConfig(Section):
    """Conditions for a trained model to become the champion of a registered MLflow model."""

    model: str | None = Field(
        None,
        description="Name of the registered model at tracking.uri; None: register nothing.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    distances: tuple[DistanceName, ...] = Field(
        ("FD-EffNet", "KD-EffNet"),
        min_length=1,
        description="Distances, of the first sampler, that must be lower by more than their 95 % interval. Those of "
        "published protocols need evaluate.inception, evaluate.dinov2 or evaluate.clip.",
    )
    max_psnr_loss_db: float = Field(0.1, ge=0.0, description="Largest loss of mean PSNR against the champion, dB.")
    max_bpp_rise: Share = Field(0.02, description="Largest rise of mean bpp against the champion, as a share of it.")

    @model_validator(mode="after")
    def _each_distance_once(self) -> Self:
        if len(set(self.distances)) < len(self.distances):
            raise ValueError(f"distances: got {list(self.distances)}, expected each once")
        return self


class LeaseConfig(Section):
    """Lease that allows one run at a time on a workspace."""

    use: bool = Field(True, description="False: take no lease, for storage without locks or conditional writes.")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@ -]{0,99}$",
        description="Holder shown to other runs; None: the user name.",
    )
    heartbeat_s: float = Field(10.0, gt=0.0, le=3600.0, description="Seconds between renewals of the lease.")
    expires_s: float = Field(
        60.0, gt=0.0, le=86_400.0, description="Seconds without renewal after which another run may take the lease."
    )

    @model_validator(mode="after")
    def _outlives_a_missed_beat(self) -> Self:
        if self.expires_s < 3.0 * self.heartbeat_s:
            raise ValueError(
                f"expires_s: got {self.expires_s:g}, expected at least three times heartbeat_s ({self.heartbeat_s:g})"
            )
        return self
