"""Settings of stage 1."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hfd.config.base import Place, Section, Share, TrainConfig


class AutoencoderConfig(Section):
    """Stage 1: the rate-constrained autoencoder."""

    arch: Literal["elic"] = Field("elic", description="Network; elic: arXiv 2203.10886 as built by CompressAI.")
    N: int = Field(192, ge=8, description="Channels of the transforms.")
    M: int = Field(320, ge=8, description="Channels of the latent y.")
    groups: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (16, 16, 32, 64, 192), description="Channel groups of the context model; their sum is M."
    )
    gdn_channels: int | None = Field(
        None, ge=8, description="Width of GDN transforms, which train faster; None: ELIC's own transforms."
    )
    lmbda: float = Field(description="Rate-distortion weight: loss = lmbda 255^2 MSE + bpp_est.", gt=0.0)
    relaxed_share: Share = Field(0.0, description="First share of the steps, trained with lmbda x relaxed_factor.")
    relaxed_factor: float = Field(1.0, gt=0.0, description="Factor of lmbda during relaxed_share of the steps.")
    aux_lr: float = Field(1e-3, gt=0.0, description="Learning rate of the entropy bottleneck's quantiles.")
    warm_start: Place | None = Field(
        None, description="Model whose autoencoder to start from: a folder, shipped name or models:/NAME@ALIAS."
    )
    frozen: bool = Field(False, description="Use the autoencoder of warm_start without training it.")
    train: TrainConfig

    @model_validator(mode="after")
    def _frozen_is_something(self) -> Self:
        if self.frozen and self.warm_start is None:
            raise ValueError("warm_start: missing, expected the model whose autoencoder is taken with frozen=true")
        return self

    @model_validator(mode="after")
    def _groups_sum_to_m(self) -> Self:
        if sum(self.groups) != self.M:
            raise ValueError(
                f"groups: got {list(self.groups)} (sum {sum(self.groups)}), expected a sum of M = {self.M}"
            )
        return self
