"""Store snapshots of averaged weights during a training, and choose an average after it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from hfd.config import EmaConfig
from hfd.diffusion.ema import Profile, combine
from hfd.io.storage import Folder
from hfd.training.loop import Task

FOLDER = "snapshots"

_NAME = re.compile(r"step-(?P<step>\d+)-width-(?P<width>[\d.e-]+)\.safetensors$")


class Averaged(Task, Protocol):
    """A task that tracks averages of its weights."""

    def averages(self) -> Mapping[float, Mapping[str, Tensor]]:
        """Return the averages by width, on the first worker. Where workers hold shares, all must call it."""


@dataclass(frozen=True)
class Snapshots:
    """Averages stored at regular steps of a training, float16. A resumed run stores the same ones.

    Snapshots due before the number of steps of a wall-time budget is known are skipped; the last step has one always.
    """

    folder: Folder
    count: int

    def on_step(self, task: Averaged, step: int, planned: int | None) -> None:
        """Store the averages if one is due after ``step`` of ``planned`` steps."""
        if planned is None or step == 0 or step * self.count // planned == (step - 1) * self.count // planned:
            return
        for width, tensors in task.averages().items():
            half = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
            self.folder.write(f"{FOLDER}/step-{step:09d}-width-{width!r}.safetensors", save(half))

    def profiles(self) -> dict[str, Profile]:
        """Return step and width of the stored averages, by file name."""
        if not (self.folder / FOLDER).exists():
            return {}
        found = ((entry.key, _NAME.search(entry.key)) for entry in (self.folder / FOLDER).files())
        return {name: Profile(int(match["step"]), float(match["width"])) for name, match in found if match is not None}

    def average(self, wanted: Profile) -> dict[str, Tensor]:
        """Combine the stored averages into one of any width, float32."""
        profiles = self.profiles()
        factors = combine(list(profiles.values()), wanted)
        total: dict[str, Tensor] = {}
        for name, factor in zip(profiles, factors, strict=True):
            for key, tensor in load((self.folder / FOLDER).read(name)).items():
                total[key] = total.get(key, torch.zeros(())) + factor * tensor.float()
        return total


def choose_average(
    snapshots: Snapshots, settings: EmaConfig, step: int, loss: Callable[[Mapping[str, Tensor]], float]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the average with the smallest ``loss`` among the widths ``settings.choices``, and every width's loss."""
    best: dict[str, Tensor] = {}
    losses: dict[str, float] = {}
    for width in settings.choices:
        tensors = snapshots.average(Profile(step, width))
        value = loss(tensors)
        if not losses or value < min(losses.values()):
            best = tensors
        losses[repr(width)] = value
    return best, losses
