"""Settings of the evaluation."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from hfd.config.base import Place, Section
from hfd.config.codecs import Codec, DecodedSystem
from hfd.config.decoder import RateId, SamplerConfig
from hfd.kinds import EngineKind

ALONE_BPP = (0.125, 0.25, 0.5, 1.0)
"""Rates of the baselines where there is no model whose rate they could have."""


BackboneWeightsName = Literal["inception", "dinov2", "clip"]


@dataclass(frozen=True)
class BackboneWeights:
    """The folder of a network's weights, and the SHA-256 of the file; None: the known one."""

    name: BackboneWeightsName
    folder: str
    sha256: str | None


class EvaluateConfig(Section):
    """Images and measures of the evaluation."""

    later: ClassVar[frozenset[str]] = frozenset(
        {"external", "decoded", "vgg16", "vgg16_sha256", "model", "baseline_bpp", "curves", "engine", "rate", "refine"}
        | {"square_px"}
        | {name + suffix for name in get_args(BackboneWeightsName) for suffix in ("", "_sha256")}
    )

    model: Literal["trained", "none"] = Field(
        "trained",
        description="trained: the model of the run; none: no model: evaluate is the only step, and measures the codecs "
        "and the pictures decoded elsewhere on evaluate.data.",
    )

    data: Place | None = Field(None, description="Folder or s3:// prefix of images; None: the validation split.")
    max_images: int | None = Field(None, ge=1, description="Use only the first images by key; None: all.")
    square_px: int | None = Field(
        None,
        ge=32,
        le=4096,
        description="Measure on the centre square of each picture, resized to this side, px (256: COCO 30k). None: on "
        "whole pictures.",
    )
    samplers: tuple[SamplerConfig, ...] = Field(
        (SamplerConfig(),), description="Samplers to compare; each is a row of the tables."
    )
    rate: RateId | None = Field(
        None,
        description="Rate id of our files, 64 to 192; 16 more double the quantiser's step. None: 128, a step of one.",
    )
    refine: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Steps of gradient descent on each latent before it is coded, by torch: fewer bits and "
        "less error, for more time of the encoder.",
    )
    patch_px: int = Field(
        256, ge=32, multiple_of=2, description="Side of the patches of the Frechet and kernel distances, px."
    )
    baselines: tuple[Literal["jpeg", "webp", "avif"], ...] = Field(
        ("jpeg", "webp", "avif"), description="Codecs to compare with."
    )
    external: tuple[Codec, ...] = Field(
        (),
        description="Codecs to compare with that are programs: jpegxl, jpeg2000, bpg or vtm, or entries with name, "
        "encode, decode, smallest, largest, extension, pixels and timeout_s.",
    )
    decoded: tuple[DecodedSystem, ...] = Field(
        (), description="Systems whose pictures of evaluate.data were decoded elsewhere, to measure beside ours."
    )
    baseline_rates: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        (1.0,), description="File sizes of the baselines for the curves, as factors of ours."
    )
    baseline_bpp: tuple[Annotated[float, Field(gt=0.0, le=24.0)], ...] = Field(
        (),
        description="File sizes of the baselines in bits per pixel, beside those of baseline_rates; with model=none, "
        "(): 0.125, 0.25, 0.5 and 1.",
    )
    curves: Place | None = Field(
        None,
        description="A .csv file of published results to draw beside the measured ones: columns system, protocol, bpp, "
        "and metrics by their names, such as psnr.",
    )
    bootstrap_draws: int = Field(
        100, ge=0, le=10_000, description="Bootstrap draws for the intervals of distances; 0: no intervals."
    )
    exact_patches: int = Field(
        8192,
        ge=0,
        description="Up to this number of patches, distances use all of them at once and intervals resample images; "
        "above it, both use sums and means over at most 32 blocks of images.",
    )
    tile_pixels: int = Field(
        4_194_304,
        ge=65_536,
        description="Larger pictures are sampled in tiles of this many pixels, context included, on several workers.",
    )
    batch_pixels: int = Field(
        262_144, ge=1, description="Largest number of pixels of a stage-2 batch of pictures of one size."
    )
    vgg16: Place | None = Field(
        None,
        description="Folder with vgg16-metrics.safetensors (python -m hfd.perceptual.convert_vgg16), to measure "
        "LPIPS-VGG and DISTS too; None: they have no column.",
    )
    vgg16_sha256: str | None = Field(
        None,
        description="SHA-256 of that file; None: that of the conversion of the published weights.",
    )
    engine: EngineKind = Field(
        "auto",
        description="Runs the networks. auto: on the CPU ONNX Runtime in float32, where the model has graphs, and else "
        "torch; torch: in bfloat16 where the processor multiplies it, so that samples differ a little between kinds of "
        "processors; onnx: on the CPU alone.",
    )
    inception: Place | None = Field(
        None,
        description="Folder with inception-v3.safetensors (python -m hfd.metrics.convert_backbone), to measure FID/256 "
        "and KID/256; None: they have no column.",
    )
    inception_sha256: str | None = Field(
        None, description="SHA-256 of that file; None: that of the conversion of the published weights."
    )
    dinov2: Place | None = Field(
        None,
        description="Folder with dinov2-vitl14.safetensors (python -m hfd.metrics.convert_backbone), to measure "
        "FD-DINOv2/256; None: no column.",
    )
    dinov2_sha256: str | None = Field(
        None, description="SHA-256 of that file, as the conversion prints it; required with dinov2."
    )
    clip: Place | None = Field(
        None,
        description="Folder with clip-vitl14-336.safetensors (python -m hfd.metrics.convert_backbone), to measure "
        "CMMD/256; None: no column.",
    )
    clip_sha256: str | None = Field(
        None, description="SHA-256 of that file, as the conversion prints it; required with clip."
    )
    num_examples: int = Field(
        4,
        ge=0,
        le=1000,
        description="Pictures to keep for viewers, spread evenly: the report and hfd report show up to 24 of them, and "
        "those of the lists of the worst and best.",
    )

    @model_validator(mode="after")
    def _systems_have_names_of_their_own(self) -> Self:
        names = Counter(codec.name for codec in self.external)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(f"external: got {', '.join(twice)} more than once, expected names that differ")
        curves = [(system.name, system.setting) for system in self.decoded]
        if len(set(curves)) < len(curves) or names.keys() & {name for name, _ in curves}:
            raise ValueError(
                f"decoded: got {', '.join(' '.join(curve) for curve in curves)} beside {list(names)}, expected names "
                "and settings that differ"
            )
        if self.decoded and self.data is None:
            raise ValueError("decoded: got systems without evaluate.data, expected the folder of their originals")
        return self

    @model_validator(mode="after")
    def _without_a_model_there_are_pictures_and_systems(self) -> Self:
        if self.model == "none" and self.data is None:
            raise ValueError("data: missing with model=none, expected a folder of pictures. Set it")
        if self.model == "none" and not (self.baselines or self.external or self.decoded):
            raise ValueError("model: got none without baselines, external and decoded, expected systems to measure")
        return self

    @model_validator(mode="after")
    def _weights_without_a_known_checksum_have_one(self) -> Self:
        for name in ("dinov2", "clip"):
            if getattr(self, name) is not None and getattr(self, f"{name}_sha256") is None:
                raise ValueError(
                    f"{name}_sha256: missing with {name}, expected the SHA-256 that "
                    "python -m hfd.metrics.convert_backbone printed"
                )
        return self

    @property
    def backbones(self) -> tuple[BackboneWeights, ...]:
        """The given weights of networks of published protocols."""
        given: tuple[tuple[BackboneWeightsName, str | None, str | None], ...] = (
            ("inception", self.inception, self.inception_sha256),
            ("dinov2", self.dinov2, self.dinov2_sha256),
            ("clip", self.clip, self.clip_sha256),
        )
        return tuple(BackboneWeights(name, folder, sha256) for name, folder, sha256 in given if folder is not None)

    @property
    def absolute_bpp(self) -> tuple[float, ...]:
        """The rates of the baselines that do not depend on ours, in bits per pixel."""
        return self.baseline_bpp or (ALONE_BPP if self.model == "none" else ())

    @field_validator("vgg16_sha256", "inception_sha256", "dinov2_sha256", "clip_sha256")
    @classmethod
    def _is_sha256(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("expected 64 hexadecimal digits in lower case")
        return value
