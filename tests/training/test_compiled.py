"""Compiled trainings have the losses of uncompiled ones, up to rounding."""

from __future__ import annotations

import shutil

import pytest
import torch

from hfd.training.loop import to_images
from hfd.training.strategy import Parallelism
from tests.support.tiny_training import ALONE, CPU, KINDS, MemoryLoader, one_update, randomness_at


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_compiled_training_learns_the_same(kind: str) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler: g++")
    written = losses_of_three_steps(kind)
    torch.testing.assert_close(losses_of_three_steps(kind, Parallelism(compile=True)), written, rtol=1e-3, atol=1e-5)


def losses_of_three_steps(kind: str, parallelism: Parallelism = ALONE) -> dict[str, torch.Tensor]:
    task, batches = KINDS[kind].make(parallelism=parallelism), MemoryLoader(KINDS[kind].crop_px).batches()
    found: dict[str, torch.Tensor] = {}
    for step in range(3):
        losses = task.losses(to_images(next(batches), CPU), progress=0.0, randomness=randomness_at(step))
        found |= {f"{name} {step}": value.detach().clone() for name, value in losses.items()}
        one_update(task, losses, step)
    return found
