"""The settings of a run: frozen pydantic models, one per step, with every field described and bounded.

Presets and overrides are read by :mod:`hfd.presets`. Nothing heavy is imported here.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Literal["auto", "float32", "bfloat16"]

_BUDGET = re.compile(r"^\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>steps?|s|sec|min|h)\s*$")
_UNIT_S = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}


class Section(BaseModel):
    """Frozen; an unknown key, an infinity and a NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


class TrainConfig(Section):
    """One training: budget, batches, optimiser, checkpoints. Shared by both stages."""

    budget: str = Field(description="'5000 steps', or wall time: '90 s', '10 min', '8 h'.")
    batch_size: int = Field(8, ge=1, description="Global batch, over all workers.")
    crop_px: int = Field(256, ge=32, description="Side of a training sub-crop.")
    lr: float = Field(1e-4, gt=0.0, le=1.0)
    lr_final: float = Field(0.1, gt=0.0, le=1.0, description="Learning rate at the end, as a factor of lr.")
    lr_decay_share: Share = Field(0.15, description="The last share of the steps, over which lr decays (cosine).")
    warmup_steps: int = Field(100, ge=0, description="Linear warm-up from 0, at most a tenth of the steps.")
    weight_decay: float = Field(0.0, ge=0.0)
    grad_clip: float = Field(1.0, gt=0.0, description="Largest global gradient norm.")
    precision: Precision = Field(
        "auto", description="auto: bfloat16 autocast where the processor computes it natively."
    )
    compile: bool = Field(False, description="torch.compile of the network.")
    checkpoint_every_s: float = Field(120.0, gt=0.0)
    log_every_steps: int = Field(20, ge=1)

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_is_readable(cls, value: object) -> object:
        match = _BUDGET.match(value) if isinstance(value, str) else None
        if match is None or float(match["value"]) <= 0:
            raise ValueError("expected a number of steps or a wall time, such as '5000 steps', '90 s', '10 min', '8 h'")
        if match["unit"].startswith("step") and not float(match["value"]).is_integer():
            raise ValueError("expected a whole number of steps")
        return value

    @property
    def budget_steps(self) -> int | None:
        """Number of optimiser steps, or None where the budget is a wall time."""
        match = _BUDGET.match(self.budget)
        assert match is not None
        return int(float(match["value"])) if match["unit"].startswith("step") else None

    @property
    def budget_s(self) -> float | None:
        """Wall time in seconds, or None where the budget is a number of steps."""
        match = _BUDGET.match(self.budget)
        assert match is not None
        return float(match["value"]) * _UNIT_S[match["unit"]] if match["unit"] in _UNIT_S else None


class AutoencoderConfig(Section):
    """Stage 1: the rate-constrained autoencoder."""

    arch: Literal["elic"] = Field("elic", description="ELIC (arXiv 2203.10886) as CompressAI builds it.")
    N: int = Field(192, ge=8, description="Channels of the transforms.")
    M: int = Field(320, ge=8, description="Channels of the latent y.")
    groups: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (16, 16, 32, 64, 192), description="Channel groups of the context model; their sum is M."
    )
    lmbda: float = Field(description="Rate-distortion weight: loss = lmbda 255^2 MSE + bpp_est.", gt=0.0)
    relaxed_share: Share = Field(0.0, description="First share of the steps, trained with lmbda * relaxed_factor.")
    relaxed_factor: float = Field(1.0, gt=0.0)
    aux_lr: float = Field(1e-3, gt=0.0, description="Learning rate of the entropy bottleneck's quantiles.")
    train: TrainConfig

    @model_validator(mode="after")
    def _groups_sum_to_m(self) -> Self:
        if sum(self.groups) != self.M:
            raise ValueError(
                f"groups: got {list(self.groups)} (sum {sum(self.groups)}), expected a sum of M = {self.M}"
            )
        return self


class UNetConfig(Section):
    """The convolutional U-Net of stage 2."""

    patch: Literal[1, 2, 4, 8] = Field(4, description="Space-to-depth factor at the input.")
    channels: tuple[Annotated[int, Field(ge=8)], ...] = Field((128, 256), min_length=1, description="Per resolution.")
    blocks: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 4), min_length=1, description="Residual blocks per resolution."
    )

    @model_validator(mode="after")
    def _one_entry_per_resolution(self) -> Self:
        if len(self.channels) != len(self.blocks):
            raise ValueError(
                f"blocks: got {len(self.blocks)} entries, expected as many as channels ({len(self.channels)})"
            )
        return self

    @property
    def stride(self) -> int:
        """Sides of what the network is given must be multiples of this."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


class DecoderConfig(Section):
    """Stage 2: the score-based decoder. ``kind`` names the process that it samples."""

    kind: Literal["diffusion"] = "diffusion"
    s: float = Field(0.5, gt=0.0, description="Shift of the cosine schedule; below 1 is less noise.")
    unet: UNetConfig = UNetConfig()
    ema_decay: float = Field(0.9999, ge=0.0, lt=1.0, description="Largest decay of the weights' moving average.")
    train: TrainConfig

    @model_validator(mode="after")
    def _crop_fits_network(self) -> Self:
        if self.train.crop_px % self.unet.stride:
            raise ValueError(
                f"train.crop_px: got {self.train.crop_px}, expected a multiple of "
                f"{self.unet.stride} (unet.patch x 2 per level)"
            )
        return self


class SamplerConfig(Section):
    """How stage 2 samples."""

    steps: int = Field(50, ge=1, le=10_000)
    gamma: Share = Field(0.0, description="Log-interpolation of the ancestral variance; 0 is the least noise.")


class EvaluateConfig(Section):
    """What is measured, and on what."""

    data: str | None = Field(None, description="Folder or s3:// prefix of images; None: the validation split.")
    max_images: int | None = Field(None, ge=1, description="The first so many images by key; None: all.")
    sampler: SamplerConfig = SamplerConfig()
    patch_px: int = Field(256, ge=32, multiple_of=2, description="Patches of the Frechet and kernel distances.")
    baselines: tuple[Literal["jpeg", "webp", "avif"], ...] = ("jpeg", "webp", "avif")
    baseline_rates: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        (1.0,), description="Factors of our bytes at which the baselines are bracketed, for the curves."
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
        for stage, train in (("autoencoder", self.autoencoder.train), ("decoder", self.decoder.train)):
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
