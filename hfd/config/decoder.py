"""Settings of stage 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hfd.config.base import Place, Section, Share, TrainConfig
from hfd.kinds import CriticLoss, FlowTimes, Prediction, ProcessKind, SamplerKind, Weighting

RateId = Annotated[int, Field(ge=64, le=192)]
ResidualStd = Annotated[
    float | None,
    Field(
        gt=0.0,
        le=2.0,
        description="Standard deviation of x0 - x_hat in [-1, 1], for preconditioning; None: no preconditioning.",
    ),
]


class DiffusionConfig(Section):
    """Variance-preserving diffusion with a shifted cosine schedule."""

    kind: Literal["diffusion"] = Field("diffusion", description="Selects this process.")
    s: float = Field(0.5, gt=0.0, description="Shift of the cosine schedule; below 1 is less noise.")
    predict: Prediction = Field("v", description="Output of the network.")
    loss: Weighting = Field("v", description="Quantity whose squared error is the loss.")
    min_snr: float = Field(5.0, gt=0.0, description="Largest weight of min-snr.")
    residual_std: ResidualStd = None


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


ProcessConfig = Annotated[DiffusionConfig | RectifiedFlowConfig | PosteriorMeanFlowConfig, Field(discriminator="kind")]


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


class FeatureCriticConfig(Section):
    """A critic of small heads on the features of a frozen VGG16."""

    later = frozenset({"loss", "steps"})

    weight: float = Field(0.004, gt=0.0, description="Weight of the adversarial loss, beside the others.")
    loss: CriticLoss = Field(
        "cross-entropy", description="Loss of the critic; hinge: of margins, without label, usual with several steps."
    )
    steps: int = Field(
        1, ge=1, le=8, description="Steps of the critic for one of the sampler. The budget counts the critic's."
    )
    label: float = Field(0.8, gt=0.5, le=1.0, description="Target of real pictures in the cross-entropy; samples: 0.")
    lr: float = Field(4e-4, gt=0.0, le=1.0, description="Learning rate of the heads.")
    widths: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] = Field(
        (32, 64), description="Widths of the heads on relu1_2 and relu2_2."
    )


class PerceptualConfig(Section):
    """Training of a few-step sampler by perceptual losses, in place of score matching (beyond the paper)."""

    steps: int = Field(1, ge=1, le=8, description="Steps of the sampler that is trained.")
    mse: float = Field(1.0, ge=0.0, description="Weight of the MSE of pictures in [-1, 1].")
    lpips: float = Field(0.02, ge=0.0, description="Weight of LPIPS (AlexNet).")
    wasserstein: float = Field(
        0.02, ge=0.0, description="Weight of the Wasserstein-like distortion of VGG16's relu1_2 and relu2_2."
    )
    critic: FeatureCriticConfig | None = Field(None, description="An adversarial loss beside them; None: none.")


class EmaConfig(Section):
    """Power-function averages of the weights (EDM2, arXiv 2312.02696), whose width is chosen after training."""

    sigma_rels: tuple[Annotated[float, Field(gt=0.0, lt=0.28)], ...] = Field(
        (0.05, 0.10), min_length=1, max_length=4, description="Relative widths of the tracked averages."
    )
    num_snapshots: int = Field(8, ge=1, le=64, description="Snapshots of each average, evenly over the training.")
    choices: tuple[Annotated[float, Field(gt=0.0, lt=0.28)], ...] = Field(
        (0.02, 0.05, 0.10, 0.15), min_length=1, description="Widths to choose from by the loss on the validation split."
    )


class AdversarialConfig(Section):
    """Fine-tuning of a few-step sampler against a discriminator (beyond the paper)."""

    steps: int = Field(1, ge=1, le=8, description="Steps of the sampler that is fine-tuned.")
    weight: float = Field(
        0.01, gt=0.0, description="Weight of the adversarial loss; the MSE of pictures in [-1, 1] has weight 1."
    )
    discriminator: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        (64, 128, 256, 256),
        min_length=2,
        max_length=6,
        description="Channels of the discriminator per level, starting at half the sides.",
    )
    residual_std: float = Field(
        0.1,
        gt=0.0,
        le=2.0,
        description="Standard deviation of x0 - x_hat in [-1, 1], which scales the discriminator's input.",
    )
    discriminator_lr: float = Field(4e-4, gt=0.0, le=1.0, description="Learning rate of the discriminator.")
    penalty: float = Field(
        1.0, ge=0.0, description="Weight of the discriminator's change when its input gets a little noise."
    )
    warm_start: Place | None = Field(
        None, description="Model whose decoder to start from; None: the decoder just trained."
    )
    train: TrainConfig

    @model_validator(mode="after")
    def _crop_fits_discriminator(self) -> Self:
        stride = 2 ** len(self.discriminator)
        if self.train.crop_px % stride:
            raise ValueError(
                f"train.crop_px: got {self.train.crop_px}, expected a multiple of {stride} (2 per discriminator level)"
            )
        return self


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

    later = frozenset({"lean", "perceptual", "rates"})

    process: ProcessConfig = DiffusionConfig()
    unet: UNetConfig = UNetConfig()
    lean: LeanConfig | None = Field(None, description="The lean network in place of the U-Net; None: the U-Net.")
    perceptual: PerceptualConfig | None = Field(
        None, description="Train the sampler of few steps by perceptual losses; None: score matching."
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

    kind: SamplerKind = Field("auto", description="Sampler; auto: ancestral for a diffusion, euler for a flow.")
    steps: int | None = Field(None, ge=1, le=10_000, description="Sampling steps; None: the decoder's default.")
    gamma: Share = Field(0.0, description="Log-interpolation of the ancestral variance; 0: least noise.")
    realism: Share = Field(1.0, description="0: the reconstruction x_hat; 1: the sample.")
    grain: bool = Field(False, description="Add fine noise, by the amount measured after training.")
    finish: bool = Field(True, description="Apply the decoder's finish, if it has one.")
