"""The settings of a run: frozen pydantic models, every field described and bounded. Imports nothing heavy.

:mod:`hfd.config.presets` reads presets and overrides.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from hfd.config.autoencoder import AutoencoderConfig
from hfd.config.base import Precision, Section, TrainConfig, Workspace, expand_sqlite, name_driver
from hfd.config.cluster import ClusterConfig
from hfd.config.data import DataConfig, SourceConfig
from hfd.config.decoder import (
    DecoderConfig,
    DiffusionConfig,
    PosteriorMeanFlowConfig,
    ProcessConfig,
    RectifiedFlowConfig,
    SamplerConfig,
    UNetConfig,
)
from hfd.config.decoder_training import AdversarialConfig, BlendConfig, DistillConfig, EmaConfig, PerceptualConfig
from hfd.config.evaluate import EvaluateConfig
from hfd.config.prepare import PrepareConfig
from hfd.config.promote import MIN_DRAWS, WEIGHTS_OF, LeaseConfig, PromoteConfig

__all__ = [
    "AdversarialConfig", "AutoencoderConfig", "BlendConfig", "ClusterConfig", "Config", "DataConfig", "DecoderConfig",
    "DiffusionConfig", "DistillConfig", "EmaConfig", "EvaluateConfig", "LeaseConfig", "PerceptualConfig",
    "PosteriorMeanFlowConfig", "Precision",
    "PrepareConfig", "ProcessConfig", "PromoteConfig", "RectifiedFlowConfig", "SamplerConfig", "Section",
    "SourceConfig",
    "TrackingConfig", "TrainConfig", "UNetConfig",
]  # fmt: skip


class TrackingConfig(Section):
    """Tracking with MLflow."""

    uri: str | None = Field("auto", description="auto: SQLite in the workspace; none: off; else a tracking URI.")
    experiment: str = Field("hfd", description="Name of the MLflow experiment.")
    system_metrics: bool = Field(True, description="Log the use of CPU, memory, GPU and network.")

    @field_validator("uri")
    @classmethod
    def _none_is_off(cls, uri: str | None) -> str | None:
        return None if uri is None or uri == "none" else name_driver(expand_sqlite(uri))


class Config(Section):
    """All settings of a run."""

    name: str = Field(
        description="Name of the run and of its default workspace.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of crops, batches, noise and weights.")
    workspace: Workspace = Field("runs/{name}", description="Folder or s3:// prefix of all outputs.")
    data: DataConfig = DataConfig()
    prepare: PrepareConfig = PrepareConfig()
    autoencoder: AutoencoderConfig
    decoder: DecoderConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    promote: PromoteConfig = PromoteConfig()
    lease: LeaseConfig = LeaseConfig()

    @model_validator(mode="after")
    def _crops_fit_photographs(self) -> Self:
        for stage, train in self._trainings():
            limit = min(self.prepare.min_side_px, self.prepare.source_crop_px)
            if train.crop_px > limit:
                raise ValueError(
                    f"{stage}.train.crop_px: got {train.crop_px}, expected at most {limit}, "
                    "the smaller of prepare.min_side_px and prepare.source_crop_px"
                )
        return self

    @model_validator(mode="after")
    def _finish_is_measured(self) -> Self:
        finish = self.decoder.finish
        if finish is not None and finish.restore > 0.0 and self.prepare.validation_share == 0.0:
            raise ValueError(
                f"decoder.finish.restore: got {finish.restore:g} with prepare.validation_share=0, expected 0 without "
                "held-out crops to measure it on. Set prepare.validation_share, or decoder.finish=null"
            )
        return self

    @model_validator(mode="after")
    def _engine_fits_the_workers(self) -> Self:
        if self.evaluate.engine == "onnx" and self.cluster.map_gpus:
            raise ValueError(
                f"evaluate.engine: got onnx with cluster.map_gpus={self.cluster.map_gpus:g}, expected auto or torch: "
                "ONNX Runtime is used on the CPU alone. Change one"
            )
        return self

    @model_validator(mode="after")
    def _promoting_is_possible(self) -> Self:
        if self.promote.model is not None and self.tracking.uri is None:
            raise ValueError(
                f"promote.model: got {self.promote.model} with tracking.uri=null, expected the MLflow server with "
                "the registry. Set tracking.uri"
            )
        if self.promote.model is not None and self.evaluate.model == "none":
            raise ValueError(
                f"promote.model: got {self.promote.model} with evaluate.model=none, expected a model to promote. "
                "Remove one"
            )
        if self.promote.model is not None and self.evaluate.bootstrap_draws < MIN_DRAWS:
            raise ValueError(
                f"evaluate.bootstrap_draws: got {self.evaluate.bootstrap_draws}, expected {MIN_DRAWS} or more with "
                "promote.model"
            )
        given = {weights.name for weights in self.evaluate.backbones}
        for distance in self.promote.distances if self.promote.model is not None else ():
            if (needed := WEIGHTS_OF.get(distance)) is not None and needed not in given:
                raise ValueError(
                    f"promote.distances: got {distance} without evaluate.{needed}, expected the folder of its weights. "
                    f"Set evaluate.{needed}, or remove {distance}"
                )
        return self

    @model_validator(mode="after")
    def _batches_fill_workers(self) -> Self:
        for stage, train in self._trainings():
            least = self.cluster.train_workers * train.accumulate
            if train.batch_size < least:
                raise ValueError(
                    f"{stage}.train.batch_size: got {train.batch_size}, expected at least {least}: "
                    "cluster.train_workers x train.accumulate"
                )
        return self

    def _trainings(self) -> list[tuple[str, TrainConfig]]:
        trainings = [("autoencoder", self.autoencoder.train), ("decoder", self.decoder.train)]
        if self.decoder.adversarial is not None:
            trainings.append(("decoder.adversarial", self.decoder.adversarial.train))
        return trainings

    @property
    def workspace_uri(self) -> str:
        return self.workspace.replace("{name}", self.name)
