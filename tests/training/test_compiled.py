"""Compiled trainings of stage 2: the same losses, step by step, as those that run as written, up to rounding.

Stage 1 draws its rounding noise inside the network, where a compiled one draws other numbers.
"""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import tiny_training
import torch
from tiny_training import CPU, KINDS, MemoryLoader

from hfd.training.loop import seed_step, to_images


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decoder", "adversarial"])
def test_a_compiled_training_learns_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler: g++")
    written = losses_of_three_steps(kind)
    as_written = tiny_training.optimiser
    monkeypatch.setattr(tiny_training, "optimiser", lambda lr: dataclasses.replace(as_written(lr), compile=True))
    torch.testing.assert_close(losses_of_three_steps(kind), written, rtol=1e-3, atol=1e-5)


def losses_of_three_steps(kind: str) -> dict[str, torch.Tensor]:
    task, batches = KINDS[kind].make(), MemoryLoader(KINDS[kind].crop_px).batches()
    found: dict[str, torch.Tensor] = {}
    for step in range(3):
        losses = task.losses(to_images(next(batches), CPU), progress=0.0, generator=seed_step(1, step, 0))
        found |= {f"{name} {step}": value.detach().clone() for name, value in losses.items()}
        task.update(losses, step=step, lr_factor=1.0)
    return found
