"""The trainings at the smallest useful size, and loaders and listeners to run them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfd.autoencoder.model import Elic
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.discriminator import Discriminator
from hfd.diffusion.flow import PosteriorMeanFlow
from hfd.diffusion.process import Process
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.unet import UNet
from hfd.diffusion.vp import Diffusion
from hfd.io.storage import Folder
from hfd.training.adversarial import AdversarialSettings, AdversarialTask
from hfd.training.checkpoint import Checkpoints
from hfd.training.critic import CriticSettings
from hfd.training.distillation import DistillSettings, DistillTask
from hfd.training.loop import Listener, LoopSettings, Task, TrainResult, train
from hfd.training.perceptual import PerceptualTask
from hfd.training.perceptual_losses import PerceptualSettings
from hfd.training.randomness import SampleRandomness, worker_randomness
from hfd.training.strategy import Parallelism
from hfd.training.tasks import AutoencoderTask, DecoderTask, OptimiserSettings
from tests.support.networks import lively_unet

CPU = torch.device("cpu")
BATCH = 4


@dataclass(frozen=True)
class MemoryLoader:
    """Endless batches (b, 2, px, px, 3): smooth pictures and darker copies, a function of the sample number."""

    crop_px: int
    num_samples: int = 1000
    batch_size: int = BATCH
    rank: int = 0
    world: int = 1

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        while True:
            samples = range(start + self.rank, start + self.batch_size, self.world)
            yield np.stack([self._sample(sample % self.num_samples) for sample in samples])
            start += self.batch_size

    def _sample(self, sample: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=[7, sample]))
        rows, columns = np.mgrid[: self.crop_px, : self.crop_px, :1][:2]
        waves = sum(
            rng.uniform(10, 40, 3) * np.cos(rows * rng.uniform(0, 0.6) + columns * rng.uniform(0, 0.6))
            for _ in range(3)
        )
        x = (128 + waves).clip(0, 255).astype(np.uint8)
        return np.stack([x, x // 2 + 30])


def optimiser(lr: float) -> OptimiserSettings:
    return OptimiserSettings(lr=lr, weight_decay=0.0, grad_clip=1.0, precision="float32")


ALONE = Parallelism()


def autoencoder_task(*, parallelism: Parallelism = ALONE, lr: float = 1e-3, **settings: float) -> AutoencoderTask:
    torch.manual_seed(0)
    model = Elic(8, 8, (4, 4))
    return AutoencoderTask(model, optimiser(lr), **{"lmbda": 0.01, "aux_lr": 1e-2, **settings}, parallelism=parallelism)


def decoder_task(*, parallelism: Parallelism = ALONE, lr: float = 2e-3) -> DecoderTask:
    torch.manual_seed(0)
    net = UNet(2, (24, 24), (1, 1))
    process = Diffusion(CosineSchedule(0.5))
    return DecoderTask(
        net, process, optimiser(lr), sigma_rels=(0.05, 0.1), neighbours_share=0.5, parallelism=parallelism
    )


def adversarial_task(
    *,
    parallelism: Parallelism = ALONE,
    lr: float = 2e-3,
    steps: int = 1,
    weight: float = 0.1,
    process: Process = PosteriorMeanFlow(sigma_s=0.2),
    neighbours_share: float = 0.5,
    penalty: float = 1.0,
) -> AdversarialTask:
    torch.manual_seed(0)
    net, discriminator = UNet(2, (24, 24), (1, 1)), Discriminator((8, 8, 8))
    settings = AdversarialSettings(steps, weight, discriminator_lr=4e-3, penalty=penalty)
    return AdversarialTask(
        net, discriminator, process, optimiser(lr), settings,
        sigma_rels=(0.05, 0.1), neighbours_share=neighbours_share, parallelism=parallelism,
    )  # fmt: skip


def perceptual_task(*, parallelism: Parallelism = ALONE, lr: float = 4e-3) -> PerceptualTask:
    """With a critic that steps twice for each step of the sampler, which steps in the second of two steps."""
    torch.manual_seed(0)
    net = UNet(2, (24, 24), (1, 1))
    critic = CriticSettings(weight=0.01, label=0.8, lr=1e-3, widths=(8, 8), loss="hinge", steps=2)
    settings = PerceptualSettings(1, mse=1.0, lpips=0.0, wasserstein=0.02, critic=critic)
    return PerceptualTask(
        net, PosteriorMeanFlow(sigma_s=0.2), optimiser(lr), settings,
        sigma_rels=(0.05, 0.1), neighbours_share=0.5, parallelism=parallelism,
    )  # fmt: skip


def distill_task(*, parallelism: Parallelism = ALONE, lr: float = 2e-3, neighbours_share: float = 0.5) -> DistillTask:
    """Three rounds, from a teacher of another network and output."""
    torch.manual_seed(0)
    net = UNet(2, (24, 24), (1, 1))
    schedule = CosineSchedule(0.5)
    teacher = ScoreDecoder(lively_unet(4, (8, 8), (1, 1)).requires_grad_(False), Diffusion(schedule, "x0"), {}, "")
    return DistillTask(
        net, Diffusion(schedule), optimiser(lr), DistillSettings(8, 1), teacher,
        sigma_rels=(0.05, 0.1), neighbours_share=neighbours_share, parallelism=parallelism,
    )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One of the trainings."""

    make: Callable[..., Any]
    crop_px: int

    def loader(self, **settings: int) -> MemoryLoader:
        return MemoryLoader(self.crop_px, **settings)


KINDS = {
    "autoencoder": Kind(autoencoder_task, 64),
    "decoder": Kind(decoder_task, 32),
    "adversarial": Kind(adversarial_task, 32),
    "perceptual": Kind(perceptual_task, 32),
    "distilled": Kind(distill_task, 32),
}


def loop_settings(**changes: Any) -> LoopSettings:
    defaults: dict[str, Any] = {
        "steps": 12,
        "budget_s": None,
        "batch_size": BATCH,
        "lr_final": 0.1,
        "lr_decay_share": 0.5,
        "warmup_steps": 3,
        "checkpoint_every_s": 1e9,
        "log_every_steps": 5,
        "seed": 3,
    }
    return LoopSettings(**{**defaults, **changes})


def checkpoints_in(path: Path, **identity: str) -> Checkpoints:
    return Checkpoints(Folder(str(path)), {"decoder.s": "0.5", **identity})


def run(task: Task, loader: MemoryLoader, path: Path, listener: Listener | None = None, **changes: Any) -> TrainResult:
    return train(task, loader, loop_settings(**changes), checkpoints_in(path), listener or Listener(), CPU)


def randomness_at(step: int = 0, batch_size: int = BATCH, seed: int = 1) -> SampleRandomness:
    """The random numbers of a whole batch on one worker."""
    return worker_randomness(seed, step, batch_size)


def one_update(task: Task, losses: Mapping[str, Tensor], step: int = 0, lr_factor: float = 1.0) -> Tensor:
    """Gradients and optimiser step of losses; the gradients' norm."""
    task.backward(losses, weight=1.0)
    return task.update(step=step, lr_factor=lr_factor)


class Recording:
    """A task that keeps its losses."""

    def __init__(self, task: Task) -> None:
        self.task, self.seen = task, []

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        losses = self.task.losses(batch, progress=progress, randomness=randomness)
        self.seen.append(float(losses["loss"].detach()))
        return losses

    def backward(self, losses: Mapping[str, Tensor], *, weight: float) -> None:
        self.task.backward(losses, weight=weight)

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        return self.task.syncing(last)

    def update(self, *, step: int, lr_factor: float) -> Tensor:
        return self.task.update(step=step, lr_factor=lr_factor)

    def state(self) -> dict[str, Any]:
        return self.task.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.task.load_state(state)


class KilledError(Exception):
    """Represents the end of a process in the middle of its work."""


@dataclass
class KillAt:
    """A listener's ``on_step`` that raises once a step is reached."""

    step: int
    planned: list[int | None] = field(default_factory=list)

    def __call__(self, step: int, planned: int | None) -> None:
        self.planned.append(planned)
        if step == self.step:
            raise KilledError


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of a nested state by its path."""
    if isinstance(state, Mapping):
        children = list(state.items())
    elif isinstance(state, (list, tuple)):
        children = list(enumerate(state))
    else:
        return {name: state}
    return {key: leaf for child, value in children for key, leaf in flat(value, f"{name}/{child}").items()}


def differing(one: Any, other: Any) -> list[str]:
    """Paths at which two states are not the same to the bit."""
    left, right = flat(one), flat(other)
    assert left.keys() == right.keys()
    return [
        name
        for name, value in left.items()
        if not (torch.equal(value, right[name]) if isinstance(value, Tensor) else value == right[name])
    ]
