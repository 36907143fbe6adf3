"""Settings of what follows an evaluation: which model is champion, and who works on a workspace."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hfd.config.base import Section, Share

MIN_DRAWS = 20
"""Fewer draws of the images say nothing of an interval."""


class PromoteConfig(Section):
    """When a trained model becomes the champion of a registered model in MLflow."""

    model: str | None = Field(
        None,
        description="Name of the registered model, at tracking.uri; None: nothing is registered.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    distances: tuple[Literal["FD-EffNet", "KD-EffNet"], ...] = Field(
        ("FD-EffNet", "KD-EffNet"),
        min_length=1,
        description="Distances of the first sampler's pictures; each has to be lower beyond its 95 % interval.",
    )
    max_psnr_loss_db: float = Field(0.1, ge=0.0, description="How far the mean PSNR may be below the champion's.")
    max_bpp_rise: Share = Field(0.02, description="How far the mean bpp may be above the champion's, as a share of it.")

    @model_validator(mode="after")
    def _each_distance_once(self) -> Self:
        if len(set(self.distances)) < len(self.distances):
            raise ValueError(f"distances: got {list(self.distances)}, expected each once")
        return self


class LeaseConfig(Section):
    """One run at a time on a workspace."""

    use: bool = Field(True, description="False: for storage without locks or conditional writes; nothing is checked.")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@ -]{0,99}$",
        description="Who is said to hold the workspace; None: the user.",
    )
    heartbeat_s: float = Field(10.0, gt=0.0, le=3600.0, description="Seconds between two signs of life.")
    expires_s: float = Field(60.0, gt=0.0, le=86_400.0, description="Silence after which another run may take over.")

    @model_validator(mode="after")
    def _outlives_a_missed_beat(self) -> Self:
        if self.expires_s < 3.0 * self.heartbeat_s:
            raise ValueError(
                f"expires_s: got {self.expires_s:g}, expected at least three times heartbeat_s ({self.heartbeat_s:g})"
            )
        return self
