"""Settings of the evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hfd.config.base import Section
from hfd.config.decoder import SamplerConfig


class EvaluateConfig(Section):
    """What is measured, and on what."""

    data: str | None = Field(None, description="Folder or s3:// prefix of images; None: the validation split.")
    max_images: int | None = Field(None, ge=1, description="The first so many images by key; None: all.")
    samplers: tuple[SamplerConfig, ...] = Field((SamplerConfig(),), description="Each one a line of the tables.")
    patch_px: int = Field(256, ge=32, multiple_of=2, description="Patches of the Frechet and kernel distances.")
    baselines: tuple[Literal["jpeg", "webp", "avif"], ...] = ("jpeg", "webp", "avif")
    baseline_rates: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        (1.0,), description="Factors of our bytes at which the baselines are bracketed, for the curves."
    )
    bootstrap_draws: int = Field(
        100, ge=0, le=10_000, description="For the intervals of realism gained over x_hat; 0: none."
    )
    exact_patches: int = Field(
        8192,
        ge=0,
        description="Up to so many patches the distances are of all of them at once and their intervals over images; "
        "beyond, they come from sums and means over at most 32 blocks of images.",
    )
    tile_pixels: int = Field(
        4_194_304,
        ge=65_536,
        description="A larger picture is sampled in tiles of so many pixels, context included, by several workers.",
    )
    batch_pixels: int = Field(
        262_144, ge=1, description="Pictures of one size share a batch of stage 2 up to so many pixels in all."
    )
    num_examples: int = Field(4, ge=0, le=24, description="Pictures in the report's viewer.")
