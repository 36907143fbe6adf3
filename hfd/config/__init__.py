"""The settings of a run: frozen pydantic models, one per step, with every field described and bounded.

Presets and overrides are read by :mod:`hfd.presets`. Nothing heavy is imported here.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hfd.config.autoencoder import AutoencoderConfig
from hfd.config.base import Precision, Section, Share, TrainConfig
from hfd.config.decoder import (
    AdversarialConfig,
    DecoderConfig,
    DiffusionConfig,
    EmaConfig,
    PosteriorMeanFlowConfig,
    ProcessConfig,
    RectifiedFlowConfig,
    SamplerConfig,
    UNetConfig,
)

__all__ = [
    "AdversarialConfig", "AutoencoderConfig", "ClusterConfig", "Config", "DataConfig", "DecoderConfig",
    "DiffusionConfig", "EmaConfig", "EvaluateConfig", "PosteriorMeanFlowConfig", "Precision", "PrepareConfig",
    "ProcessConfig", "RectifiedFlowConfig", "SamplerConfig", "Section", "TrackingConfig", "TrainConfig",
    "UNetConfig",
]  # fmt: skip


class DataConfig(Section):
    """Where the photographs are."""

    uri: str | None = Field(
        None,
        description="Folder, s3://bucket/prefix, or builtin:photographs (those of scikit-image and "
        "scikit-learn). None: has to be given as data.uri=...",
    )


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
    max_reject_share: Share = Field(0.2, description="The step fails when more photographs than this are rejected.")
    photos_per_shard: int = Field(32, ge=1, description="The fixed shard plan: photographs per shard.")
    max_pixels: int = Field(178_956_970, ge=1, description="A header that claims more is rejected undecoded.")


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
    num_examples: int = Field(4, ge=0, le=24, description="Pictures in the report's viewer.")


class ClusterConfig(Section):
    """Where the steps run: how fast, not what comes out.

    One exception: stage 1 draws its rounding noise per training worker, so that the weights it learns depend on
    ``train_workers``.
    """

    kind: Literal["inline", "local", "attach"] = Field(
        "inline",
        description="inline: in this process; local: a Ray started for the run; attach: a running Ray.",
    )
    address: str | None = Field(None, description="Of the Ray to attach to, such as auto or ray://head:10001.")
    num_cpus: int | None = Field(None, ge=1, description="Logical CPUs of a local Ray; None: those of the machine.")
    map_workers: int | None = Field(
        None, ge=1, description="Tasks at once in prepare, reconstruct, evaluate; None: as fits."
    )
    map_threads: int = Field(1, ge=1, description="Torch threads (and logical CPUs) of each such task.")
    map_gpus: float = Field(0.0, ge=0.0, description="GPUs of each reconstruct and evaluate task.")
    train_workers: int = Field(1, ge=1, description="Data-parallel training workers.")
    train_threads: int = Field(2, ge=1, description="Torch threads (and logical CPUs) of each training worker.")
    train_gpus: float = Field(0.0, ge=0.0, description="GPUs of each training worker.")

    @model_validator(mode="after")
    def _inline_is_one_worker(self) -> Self:
        if self.kind == "inline" and self.train_workers > 1:
            raise ValueError(f"train_workers: got {self.train_workers}, expected 1 with kind=inline. Use kind=local.")
        if self.kind == "attach" and self.address is None:
            raise ValueError("address: missing, expected the address of a running Ray with kind=attach")
        return self


class TrackingConfig(Section):
    """MLflow."""

    uri: str | None = Field("auto", description="auto: SQLite in the workspace; None: off; else a tracking URI.")
    experiment: str = "hfd"
    system_metrics: bool = True


class Config(Section):
    """Everything that a run is a function of, beside the data itself."""

    name: str = Field(description="Names the run and its default workspace.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, lt=2**63)
    workspace: str = Field("runs/{name}", description="Folder or s3:// prefix that holds every output.")
    data: DataConfig = DataConfig()
    prepare: PrepareConfig = PrepareConfig()
    autoencoder: AutoencoderConfig
    decoder: DecoderConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _crops_fit_photographs(self) -> Self:
        trainings = [("autoencoder", self.autoencoder.train), ("decoder", self.decoder.train)]
        if self.decoder.adversarial is not None:
            trainings.append(("decoder.adversarial", self.decoder.adversarial.train))
        for stage, train in trainings:
            limit = min(self.prepare.min_side_px, self.prepare.source_crop_px)
            if train.crop_px > limit:
                raise ValueError(
                    f"{stage}.train.crop_px: got {train.crop_px}, expected at most {limit}, "
                    "the smaller of prepare.min_side_px and prepare.source_crop_px"
                )
        return self

    @property
    def workspace_uri(self) -> str:
        return self.workspace.replace("{name}", self.name)
