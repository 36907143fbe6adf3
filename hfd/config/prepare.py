"""The settings of the prepare step: how photographs are cut, and which of them are of use."""

from __future__ import annotations

from pydantic import Field

from hfd.config.base import Section, Share


class PrepareConfig(Section):
    """From photographs to shards of source crops."""

    source_crop_px: int = Field(
        512, ge=64, le=4096, description="Side of a source crop; a smaller photo is kept whole."
    )
    min_side_px: int = Field(128, ge=16, description="Shorter side below which a photograph is rejected.")
    max_crops_per_photo: int = Field(1, ge=1, le=4096)
    downscale: float | None = Field(
        None, gt=0.0, le=1.0, description="Factor applied to lossy sources before cropping; None keeps them."
    )
    validation_share: float = Field(0.05, ge=0.0, lt=1.0, description="Share of photographs held out, by content hash.")
    max_reject_share: Share = Field(
        0.2,
        description="The step fails when more photographs than this are rejected. Those that are there twice, or that "
        "the evaluation has too, do not count.",
    )
    photos_per_shard: int = Field(128, ge=1, description="The fixed shard plan: photographs per shard.")
    max_pixels: int = Field(178_956_970, ge=1, description="A header that claims more is rejected undecoded.")

    min_jpeg_quality: int | None = Field(
        None, ge=1, le=100, description="Least quality of a JPEG, estimated from its tables; None: any."
    )
    max_aspect_ratio: float | None = Field(None, ge=1.0, description="Longer over shorter side; None: any.")
    min_colourfulness: float | None = Field(
        None, ge=0.0, description="Hasler and Suesstrunk's measure; 0 is grey, 10 faintly tinted. None: any."
    )
    min_sharpness: float | None = Field(
        None, ge=0.0, description="Variance of the Laplacian of 8-bit luma, after downscale; None: any."
    )
    max_clipped_share: float | None = Field(
        None, ge=0.0, le=1.0, description="Share of samples at 0 or 255, after downscale; None: any."
    )
    drop_duplicates: bool = Field(
        False, description="Of photographs with the same bytes, or near ones, keep the one whose key comes first."
    )
    drop_evaluation: bool = Field(
        False, description="Reject photographs that are pictures of evaluate.data, or near ones."
    )
    near_bits: int | None = Field(
        None,
        ge=0,
        le=8,
        description="How many of the 64 bits of a perceptual hash near pictures differ in; None: only equal bytes.",
    )
