"""Settings of the trainings of stage 2: averages, perceptual losses, distillation, adversarial fine-tuning, blends."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from hfd.config.base import Place, Section, TrainConfig
from hfd.kinds import CriticKind, CriticLoss


class CriticConfig(Section):
    """A critic: small heads on the features of a frozen VGG16, or a network of patches from scratch."""

    later = frozenset({"loss", "steps", "kind", "channels"})

    kind: CriticKind = Field(
        "features",
        description="features: heads on VGG16's features; patch: a spectrally normalised network on pictures, trained "
        "from scratch, as in HiFiC.",
    )

    weight: float = Field(0.004, gt=0.0, description="Weight of the adversarial loss, beside the others.")
    loss: CriticLoss = Field(
        "cross-entropy", description="Loss of the critic; hinge: of margins, without label, usual with several steps."
    )
    steps: int = Field(
        1, ge=1, le=8, description="Steps of the critic for one of the sampler. The budget counts the critic's."
    )
    label: float = Field(0.8, gt=0.5, le=1.0, description="Target of real pictures in the cross-entropy; samples: 0.")
    lr: float = Field(4e-4, gt=0.0, le=1.0, description="Learning rate of the critic.")
    widths: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] = Field(
        (32, 64), description="Widths of the heads on relu1_2 and relu2_2, with kind=features."
    )
    channels: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        (64, 128, 256, 512),
        min_length=2,
        max_length=6,
        description="Channels of the layers, with kind=patch; each but the last halves the sides.",
    )


class PerceptualConfig(Section):
    """Training of a few-step sampler by perceptual losses, in place of score matching (beyond the paper)."""

    later = frozenset({"charbonnier", "style"})

    steps: int = Field(1, ge=1, le=8, description="Steps of the sampler that is trained.")
    mse: float = Field(1.0, ge=0.0, description="Weight of the MSE of pictures in [-1, 1].")
    lpips: float = Field(0.02, ge=0.0, description="Weight of LPIPS (AlexNet).")
    wasserstein: float = Field(
        0.02, ge=0.0, description="Weight of the Wasserstein-like distortion of VGG16's relu1_2 and relu2_2."
    )
    charbonnier: float = Field(
        0.0, ge=0.0, description="Weight of the Charbonnier distance of pictures in [-1, 1]: a smooth absolute error."
    )
    style: float = Field(
        0.0, ge=0.0, description="Weight of the squared differences of Gram matrices of VGG16's relu1_2 and relu2_2."
    )
    critic: CriticConfig | None = Field(None, description="An adversarial loss beside them; None: none.")


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


class DistillConfig(Section):
    """Progressive distillation of a trained decoder into a sampler of few steps (beyond the paper)."""

    teacher: Place = Field(
        description="Model whose decoder teaches: a folder, shipped name or models:/NAME@ALIAS, of the same process."
    )
    teacher_steps: int = Field(
        32, ge=2, le=1024, description="Steps of its sampler, halved in rounds of equal length down to steps."
    )
    steps: int = Field(1, ge=1, le=512, description="Steps of the sampler that is trained.")

    @model_validator(mode="after")
    def _steps_are_halved(self) -> Self:
        ratio, rest = divmod(self.teacher_steps, self.steps)
        if rest or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(
                f"teacher_steps: got {self.teacher_steps}, expected 2, 4, 8, ... times steps, which is {self.steps}"
            )
        return self

    @property
    def rounds(self) -> int:
        """Number of halvings."""
        return (self.teacher_steps // self.steps).bit_length() - 1


class BlendConfig(Section):
    """With frozen=true: average of the decoder of warm_start and another (network interpolation; beyond the paper)."""

    model: Place = Field(
        description="The other: a folder, shipped name or models:/NAME@ALIAS, of the same network and autoencoder."
    )
    share: float = Field(0.5, gt=0.0, lt=1.0, description="Share of its weights; the rest are those of warm_start.")
