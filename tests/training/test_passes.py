"""Several passes per step, and recomputed activations, give the same gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hfd.training.loop import gradients, to_images
from hfd.training.strategy import Parallelism
from tests.support.tiny_training import BATCH, CPU, KINDS, Recording, loop_settings, randomness_at, run

pytestmark = pytest.mark.integration


def networks(task: Any) -> list[nn.Module]:
    return [value for name in ("model", "net", "discriminator") if (value := getattr(task, name, None)) is not None]


def gradients_of(task: Any) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": parameter.grad
        for index, network in enumerate(networks(task))
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def lively(task: Any) -> Any:
    """With random weights in every layer: layers that start at zero give earlier ones no gradient."""
    torch.manual_seed(1)
    for network in networks(task):
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.detach().any():
                nn.init.normal_(module.weight, std=0.05)
    return task


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() and len(found) > 20
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=1e-6 * largest, msg=lambda t, n=name: f"{n}: {t}"
        )


@pytest.mark.parametrize("accumulate", [2, 3, 4])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_step_in_parts_has_the_gradients_of_the_whole(kind: str, accumulate: int) -> None:
    """Four samples in parts of two, of one and two, and of one."""
    batch = next(KINDS[kind].loader().batches())
    whole, parts = (lively(KINDS[kind].make()) for _ in range(2))
    expected = gradients(whole, batch, loop_settings(), 7, 0.5, CPU)
    found = gradients(parts, batch, loop_settings(accumulate=accumulate), 7, 0.5, CPU)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert_close(gradients_of(parts), gradients_of(whole))


@pytest.mark.integration
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_in_parts_learns_the_same(tmp_path: Path, kind: str) -> None:
    whole, parts = (Recording(KINDS[kind].make()) for _ in range(2))
    run(whole, KINDS[kind].loader(), tmp_path / "whole", steps=8)
    run(parts, KINDS[kind].loader(), tmp_path / "parts", steps=8, accumulate=2)
    assert len(parts.seen) == 2 * len(whole.seen)
    means = [(a + b) / 2 for a, b in zip(parts.seen[::2], parts.seen[1::2], strict=True)]
    assert means == pytest.approx(whole.seen, rel=1e-4)


def test_no_more_parts_than_samples(tmp_path: Path) -> None:
    task = Recording(KINDS["decoder"].make())
    run(task, KINDS["decoder"].loader(), tmp_path, steps=1, accumulate=100)
    assert len(task.seen) == BATCH


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_recomputed_activations_give_the_same_gradients(
    kind: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from tests.support import tiny_training

    as_is = tiny_training.optimiser
    monkeypatch.setattr(tiny_training, "optimiser", lambda lr: dataclasses.replace(as_is(lr), precision=precision))
    batch = to_images(next(KINDS[kind].loader().batches()), CPU)
    kept, again = (
        lively(KINDS[kind].make(parallelism=Parallelism(recompute=recompute))) for recompute in (False, True)
    )
    calls: list[int] = []
    for task in (kept, again):
        count = [0]
        block = networks(task)[0].down[0][0].conv1 if kind != "autoencoder" else networks(task)[0].g_a[1].conv1
        block.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        task.backward(task.losses(batch, progress=0.0, randomness=randomness_at(1)), weight=1.0)
        calls.append(count[0])
    assert calls[1] == 2 * calls[0] > 0
    assert_close(gradients_of(again), gradients_of(kept))
    assert [name for name, _ in networks(again)[0].named_parameters()] == [
        name for name, _ in networks(kept)[0].named_parameters()
    ]
