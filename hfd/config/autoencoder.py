"""Settings of stage 1."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hfd.config.base import Place, Section, Share, TrainConfig

Width = Annotated[int, Field(ge=8)]
Count = Annotated[int, Field(ge=0)]
RateId = Annotated[float, Field(ge=64, le=192)]


class ResidualConfig(Section):
    """Transforms made of residual blocks, cheap on processors (beyond the paper)."""

    channels: tuple[Width, Width, Width] = Field((48, 128, 192), description="At 1/4, 1/8 and 1/16 of the sides.")
    blocks: tuple[Count, Count, Count] = Field((0, 4, 1), description="Residual blocks there.")


class AutoencoderConfig(Section):
    """Stage 1: the rate-constrained autoencoder."""

    later = frozenset({"residual", "rates"})

    arch: Literal["elic"] = Field("elic", description="Network; elic: arXiv 2203.10886 as built by CompressAI.")
    N: int = Field(192, ge=8, description="Channels of the transforms.")
    M: int = Field(320, ge=8, description="Channels of the latent y.")
    groups: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (16, 16, 32, 64, 192), description="Channel groups of the context model; their sum is M."
    )
    gdn_channels: int | None = Field(
        None, ge=8, description="Width of GDN transforms, which train faster; None: ELIC's own transforms."
    )
    residual: ResidualConfig | None = Field(None, description="Transforms of residual blocks instead; None: as above.")
    lmbda: float = Field(description="Rate-distortion weight: loss = lmbda 255^2 MSE + bpp_est.", gt=0.0)
    rates: tuple[RateId, RateId] | None = Field(
        None,
        description="Rate ids between which each sample's quantiser step is drawn, with lmbda / step^2: one model for "
        "all of them. None: a step of 1, id 128.",
    )
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
    def _one_kind_of_transforms(self) -> Self:
        if self.gdn_channels is not None and self.residual is not None:
            raise ValueError("residual: got settings beside gdn_channels, expected one of them. Set the other to null")
        return self

    @model_validator(mode="after")
    def _rates_ascend(self) -> Self:
        if self.rates is not None and self.rates[0] > self.rates[1]:
            raise ValueError(f"rates: got {list(self.rates)}, expected the lower id first")
        return self

    @model_validator(mode="after")
    def _groups_sum_to_m(self) -> Self:
        if sum(self.groups) != self.M:
            raise ValueError(
                f"groups: got {list(self.groups)} (sum {sum(self.groups)}), expected a sum of M = {self.M}"
            )
        return self
