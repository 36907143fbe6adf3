"""Settings of the prepare step: cutting and filtering of photographs."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from hfd.config.base import Section, Share


class PrepareConfig(Section):
    """From photographs to shards of source crops."""

    later = frozenset({"max_bytes", "near_cosine", "downscale_in_decoder"})

    source_crop_px: int = Field(
        512, ge=64, le=4096, description="Side of a source crop, px; a smaller photograph is kept whole."
    )
    min_side_px: int = Field(128, ge=16, description="Reject photographs whose shorter side is below this, px.")
    max_crops_per_photo: int = Field(1, ge=1, le=4096, description="Most crops of one photograph.")
    downscale: float | None = Field(
        None, gt=0.0, le=1.0, description="Scale lossy sources by this factor before cropping; None: do not scale."
    )
    downscale_in_decoder: bool = Field(
        False,
        description="With downscale of at most 0.5: decode JPEGs at 1/2, 1/4 or 1/8. Faster, with other pixels.",
    )
    validation_share: float = Field(
        0.05, ge=0.0, lt=1.0, description="Share of photographs in the validation split, chosen by content hash."
    )
    max_reject_share: Share = Field(
        0.2,
        description="Fail if a larger share of photographs is rejected. Duplicates and pictures of evaluate.data "
        "do not count.",
    )
    photos_per_shard: int = Field(128, ge=1, description="Photographs per shard.")
    max_pixels: int = Field(178_956_970, ge=1, description="Reject, before decoding, pictures with more pixels.")
    max_bytes: int = Field(1 << 30, ge=1, description="Reject, before reading, pictures of more bytes.")

    min_jpeg_quality: int | None = Field(
        None, ge=1, le=100, description="Lowest quality of a JPEG, estimated from its tables; None: any."
    )
    max_aspect_ratio: float | None = Field(
        None, ge=1.0, description="Largest ratio of the longer to the shorter side; None: any."
    )
    min_colourfulness: float | None = Field(
        None,
        ge=0.0,
        description="Lowest colourfulness (Hasler and Suesstrunk); 0 is grey, 10 slightly tinted. None: any.",
    )
    min_sharpness: float | None = Field(
        None, ge=0.0, description="Lowest variance of the Laplacian of 8-bit luma, after downscale; None: any."
    )
    max_clipped_share: float | None = Field(
        None, ge=0.0, le=1.0, description="Largest share of samples at 0 or 255, after downscale; None: any."
    )
    drop_duplicates: bool = Field(
        False,
        description="Of equal photographs keep the first by key; of near duplicates the one with most pixels, then "
        "bytes.",
    )
    drop_evaluation: bool = Field(
        False, description="Reject photographs equal to, or near duplicates of, pictures of evaluate.data."
    )
    near_bits: int | None = Field(
        None,
        ge=0,
        le=8,
        description="Most differing bits, of 64, of the perceptual hashes of near duplicates; None: equal bytes only. "
        "Needs drop_duplicates or drop_evaluation.",
    )

    near_cosine: float | None = Field(
        None,
        ge=0.5,
        le=0.999,
        description="Least cosine of the EfficientNet-Lite0 features of near duplicates, which finds crops and mirror "
        "images too: 0.85. None: not compared. Needs drop_duplicates or drop_evaluation.",
    )

    @model_validator(mode="after")
    def _decoder_has_a_scale(self) -> Self:
        if self.downscale_in_decoder and (self.downscale is None or self.downscale > 0.5):
            raise ValueError(
                f"downscale_in_decoder: got true with downscale {self.downscale}, expected at most 0.5, since "
                "decoders halve. Set prepare.downscale=0.5"
            )
        return self

    @model_validator(mode="after")
    def _near_duplicates_have_a_use(self) -> Self:
        for name in ("near_bits", "near_cosine"):
            value = getattr(self, name)
            if value is not None and not (self.drop_duplicates or self.drop_evaluation):
                raise ValueError(
                    f"{name}: got {value}, expected drop_duplicates or drop_evaluation with it. "
                    "Set prepare.drop_duplicates=true"
                )
        return self
