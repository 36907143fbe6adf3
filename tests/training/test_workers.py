"""Training on two real processes: they learn what one learns, however the work is shared out, and stop together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ddp_worker
import pytest
import torch
from ddp_worker import CROP, ELASTIC, SCENARIOS, Scenario
from tiny_training import KINDS, Recording, decoder_task, differing, flat, run

Left = dict[str, Any]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[Left]:
    """What each of two workers ended with, by scenario."""
    return ddp_worker.launch(tmp_path_factory.mktemp("workers"))


def alone(one: Scenario, path: Path) -> Recording:
    """The same training on one worker, in one pass a step."""
    kind = KINDS[one.kind]
    task = Recording(kind.make())
    run(task, kind.loader(batch_size=one.batch_size), path, steps=one.steps, batch_size=one.batch_size)
    return task


def assert_same_weights(found: Left, expected: Left, **tolerance: float) -> None:
    """Every tensor of two states, optimisers and averages included."""
    left, right = flat(found), flat(expected)
    assert left.keys() == right.keys()
    for name, value in right.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            torch.testing.assert_close(left[name], value, msg=lambda text, name=name: f"{name}: {text}", **tolerance)
        elif not isinstance(value, torch.Tensor):
            assert left[name] == value, name
