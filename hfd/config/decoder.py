"""Settings of stage 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hfd.config.base import Place, Section, Share, TrainConfig
from hfd.config.decoder_training import AdversarialConfig, BlendConfig, DistillConfig, EmaConfig, PerceptualConfig
from hfd.kinds import FlowTimes, Prediction, ProcessKind, SamplerKind, Weighting

RateId = Annotated[int, Field(ge=64, le=192)]
ResidualStd = Annotated[
    float | None,
    Field(
        gt=0.0,
        le=2.0,
        description="Standard deviation of x0 - x_hat in [-1, 1], for preconditioning; None: no preconditioning.",
    ),
]


class VpConfig(Section):
    """The settings that both diffusions share."""

    kind: ProcessKind
    s: float = Field(0.5, gt=0.0, description="Shift of the cosine schedule; below 1 is less noise.")
    predict: Prediction = Field("v", description="Output of the network.")
    loss: Weighting = Field("v", description="Quantity whose squared error is the loss.")
    min_snr: float = Field(5.0, gt=0.0, description="Largest weight of min-snr.")
    residual_std: ResidualStd = None


class DiffusionConfig(VpConfig):
    """Variance-preserving diffusion with a shifted cosine schedule."""

    kind: Literal["diffusion"] = Field("diffusion", description="Selects this process.")


class ResidualDiffusionConfig(VpConfig):
    """Diffusion of the residual x0 - x_hat, scaled to unit variance (DIRAC, beyond the paper)."""

    kind: Literal["residual-diffusion"] = Field("residual-diffusion", description="Selects this process.")
    s: float = Field(1.0, gt=0.0, description="Shift of the cosine schedule, of the scaled residual's noise.")
    residual_std: float = Field(
        0.1, gt=0.0, le=2.0, description="Standard deviation of x0 - x_hat in [-1, 1], which scales the residual."
    )


class FlowConfig(Section):
    """The settings that both flows share."""

    kind: ProcessKind
    times: FlowTimes = Field("uniform", description="Distribution of training times.")
    times_mean: float = Field(0.0, description="Location of logit(t) with logit-normal times.")
    times_std: float = Field(1.0, gt=0.0, description="Scale of logit(t) with logit-normal times.")
    residual_std: ResidualStd = None


class RectifiedFlowConfig(FlowConfig):
    """Rectified flow from noise to the picture."""

    kind: Literal["rectified-flow"] = Field("rectified-flow", description="Selects this process.")


class PosteriorMeanFlowConfig(FlowConfig):
    """Rectified flow from x_hat + sigma_s eps to the picture (beyond the paper)."""

    kind: Literal["posterior-mean-flow"] = Field("posterior-mean-flow", description="Selects this process.")
    sigma_s: float = Field(0.1, ge=0.0, le=1.0, description="Noise on the start, for pictures in [-1, 1].")

    @model_validator(mode="after")
    def _preconditioning_needs_noise(self) -> Self:
        if self.residual_std is not None and self.sigma_s == 0.0:
            raise ValueError("sigma_s: got 0, expected above 0 with residual_std")
        return self


ProcessConfig = Annotated[
    DiffusionConfig | ResidualDiffusionConfig | RectifiedFlowConfig | PosteriorMeanFlowConfig,
    Field(discriminator="kind"),
]


def _check_resolutions(channels: Sequence[int], blocks: Sequence[int]) -> None:
    if len(channels) != len(blocks):
        raise ValueError(f"blocks: got {len(blocks)} entries, expected as many as channels ({len(channels)})")


class UNetConfig(Section):
    """The convolutional U-Net of stage 2."""

    patch: Literal[1, 2, 4, 8] = Field(4, description="Space-to-depth factor at the input.")
    channels: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        (128, 256), min_length=1, description="Channels per resolution."
    )
    blocks: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 4), min_length=1, description="Residual blocks per resolution."
    )

    @model_validator(mode="after")
    def _one_entry_per_resolution(self) -> Self:
        _check_resolutions(self.channels, self.blocks)
        return self

    @property
    def stride(self) -> int:
        """Sides of the network's input are multiples of this."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


class LeanConfig(Section):
    """The lean network of stage 2, for few steps on processors, with a tail at full resolution (beyond the paper)."""

    channels: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        (32, 80, 160), min_length=1, description="At 1/2, 1/4, 1/8, ... of the sides."
    )
    blocks: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="Residual blocks per resolution."
    )
    tail: int = Field(12, ge=4, description="Width at full resolution.")

    @model_validator(mode="after")
    def _one_entry_per_resolution(self) -> Self:
        _check_resolutions(self.channels, self.blocks)
        return self

    @property
    def stride(self) -> int:
        """Sides of the network's input are multiples of this."""
        return int(2 ** len(self.channels))


class FinishConfig(Section):
    """Finish of samples (beyond the paper): amplify the finest detail and add faint colour noise."""

    restore: Share = Field(
        0.5, description="Share of the missing top-octave energy to restore, as measured after training."
    )
    chroma_noise: float = Field(
        1.2, ge=0.0, le=32.0, description="Standard deviation of the colour noise, in grey levels of 255."
    )


class DecoderConfig(Section):
    """Stage 2: the score-based decoder."""

    later = frozenset({"lean", "perceptual", "distill", "rates", "blend"})

    process: ProcessConfig = DiffusionConfig()
    unet: UNetConfig = UNetConfig()
    lean: LeanConfig | None = Field(None, description="The lean network in place of the U-Net; None: the U-Net.")
    perceptual: PerceptualConfig | None = Field(
        None, description="Train the sampler of few steps by perceptual losses; None: score matching."
    )
    distill: DistillConfig | None = Field(
        None, description="Train a sampler of few steps by the steps of a teacher; None: score matching."
    )
    ema: EmaConfig = EmaConfig()
    rates: tuple[RateId, RateId] | None = Field(
        None, description="Rate ids between which each crop's x_hat is made for training; None: id 128, a step of 1."
    )
    neighbours_share: Share = Field(0.5, description="Share of training samples with some pixels known.")
    warm_start: Place | None = Field(
        None, description="Model whose decoder to start from: a folder, shipped name or models:/NAME@ALIAS."
    )
    frozen: bool = Field(False, description="Use the decoder of warm_start without training it.")
    blend: BlendConfig | None = Field(
        None, description="With frozen=true: average its weights with those of another decoder; None: as they are."
    )
    train: TrainConfig
    adversarial: AdversarialConfig | None = Field(
        None, description="Adversarial fine-tuning after the training; None: none."
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Default number of sampling steps; None: 50, or that of warm_start with frozen=true.",
    )
    finish: FinishConfig | None = Field(
        None, description="Finish of the samples; None: none, or that of warm_start with frozen=true."
    )

    @model_validator(mode="after")
    def _frozen_is_something(self) -> Self:
        if self.frozen and self.warm_start is None:
            raise ValueError("warm_start: missing, expected the model whose decoder is taken with frozen=true")
        if self.frozen and self.adversarial is not None:
            raise ValueError("adversarial: got settings, expected null with frozen=true")
        if self.blend is not None and not self.frozen:
            raise ValueError("frozen: got false, expected true with blend, which trains nothing")
        return self

    @model_validator(mode="after")
    def _distillation_is_possible(self) -> Self:
        if self.distill is None:
            return self
        for name in ("perceptual", "frozen"):
            if getattr(self, name):
                raise ValueError(f"distill: got settings beside {name}, expected one of them. Leave out the other")
        if self.steps not in (None, self.distill.steps):
            raise ValueError(
                f"steps: got {self.steps}, expected null or {self.distill.steps}, the steps of decoder.distill"
            )
        if isinstance(self.process, VpConfig) and self.process.predict == "eps":
            raise ValueError(
                "process.predict: got eps, expected v or x0 with decoder.distill: eps at the start does not give x0"
            )
        steps = self.train.budget_steps
        if steps is not None and steps < self.distill.rounds:
            raise ValueError(
                f"train.budget: got {steps} steps, expected {self.distill.rounds} or more, the rounds of distillation"
            )
        return self

    @model_validator(mode="after")
    def _rates_ascend(self) -> Self:
        if self.rates is not None and self.rates[0] > self.rates[1]:
            raise ValueError(f"rates: got {list(self.rates)}, expected the lower id first")
        return self

    @model_validator(mode="after")
    def _crop_fits_network(self) -> Self:
        trainings = {"train": self.train}
        if self.adversarial is not None:
            trainings["adversarial.train"] = self.adversarial.train
        stride = self.unet.stride if self.lean is None else self.lean.stride
        why = "unet.patch x 2 per level" if self.lean is None else "lean: 2 x 2 per level"
        for name, train in trainings.items():
            if train.crop_px % stride:
                raise ValueError(f"{name}.crop_px: got {train.crop_px}, expected a multiple of {stride} ({why})")
        return self

    @model_validator(mode="after")
    def _lean_knows_no_neighbours(self) -> Self:
        if self.lean is not None and self.neighbours_share > 0.0:
            raise ValueError(
                f"neighbours_share: got {self.neighbours_share:g}, expected 0 with lean, which ignores known pixels"
            )
        return self


class SamplerConfig(Section):
    """One sampler of stage 2."""

    later = frozenset({"stop"})

    kind: SamplerKind = Field("auto", description="Sampler; auto: ancestral for a diffusion, euler for a flow.")
    steps: int | None = Field(None, ge=1, le=10_000, description="Sampling steps; None: the decoder's default.")
    gamma: Share = Field(0.0, description="Log-interpolation of the ancestral variance; 0: least noise.")
    realism: Share = Field(1.0, description="0: the reconstruction x_hat; 1: the sample.")
    grain: bool = Field(False, description="Add fine noise, by the amount measured after training.")
    finish: bool = Field(True, description="Apply the decoder's finish, if it has one.")
    stop: Share = Field(
        0.0, description="Time at which sampling stops with the predicted picture, from 1, the start, to 0, the end."
    )
