"""Training on two real processes: the same result as on one, and errors that stop both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import ddp_worker
from tests.support.ddp_worker import CROP, ELASTIC, SCENARIOS, Scenario
from tests.support.tiny_training import KINDS, Recording, decoder_task, differing, flat, run

pytestmark = pytest.mark.integration

Left = dict[str, Any]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[Left]:
    """The results of each of two workers, by scenario."""
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


def comparable(one: Scenario, state: Left) -> Left:
    """Return the weights that rounding does not change much.

    The discriminator's loss looks at differences of logits: what moves all of them, such as the heads' biases, has no
    gradient but rounding, which Adam brings to full size.
    """
    return {name: state[name] for name in ("net", "ema")} if one.kind in ("adversarial", "perceptual") else state


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_two_workers_get_the_weights_of_one(workers: list[Left], tmp_path: Path, name: str) -> None:
    one, first = SCENARIOS[name], workers[0][name]
    expected = alone(one, tmp_path)
    found, wanted = comparable(one, first["state"]), comparable(one, expected.state())
    assert_same_weights(found, wanted, rtol=2e-3, atol=5e-5)
    untrained = KINDS[one.kind].make().state()
    part = "model" if one.kind == "autoencoder" else "net"
    moved = [
        float((value - untrained[part][key]).abs().max())
        for key, value in first["state"][part].items()
        if value.is_floating_point()
    ]
    assert max(moved) > 5e-3  # a hundred times the tolerance
    assert differing(first["state"], workers[1][name]["state"]) == []


@pytest.mark.parametrize("name", [name for name, one in SCENARIOS.items() if one.accumulate == 1])
def test_the_mean_loss_of_two_workers_is_that_of_one(workers: list[Left], tmp_path: Path, name: str) -> None:
    first, second = (worker[name]["losses"] for worker in workers)
    assert first != second
    together = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert together == pytest.approx(alone(SCENARIOS[name], tmp_path).seen, rel=1e-5)


@pytest.mark.parametrize("name", list(ELASTIC))
def test_workers_that_come_and_go_change_nothing(workers: list[Left], tmp_path: Path, name: str) -> None:
    """Two, killed in step 5; one, killed in step 9; two to the end: as one worker throughout."""
    one = ELASTIC[name]
    expected = comparable(one, alone(one, tmp_path).state())
    assert_same_weights(comparable(one, workers[0][name]["state"]), expected, rtol=2e-3, atol=5e-5)


def test_a_loss_that_is_not_finite_on_one_worker_stops_both(workers: list[Left]) -> None:
    (kind, message, steps), second = (worker["nan"] for worker in workers)
    assert second == (kind, message, steps)
    assert (kind, steps) == ("TrainingError", 8)
    assert message.startswith("loss: got a value or gradient that is not finite in the 4 steps up to step 8")


def test_an_error_of_one_worker_is_raised_on_both(workers: list[Left]) -> None:
    assert [worker["missing"] for worker in workers] == [("DataError", "shard: no connection", 3)] * 2


def test_one_worker_takes_the_held_out_loss_alone(workers: list[Left]) -> None:
    task = decoder_task()
    untrained = float(task.held_out_loss(CROP, -CROP, 3))
    task.load_state(workers[0]["decoder-ddp"]["state"])
    assert workers[0]["decoder-ddp"]["held_out"] == pytest.approx(float(task.held_out_loss(CROP, -CROP, 3)), rel=1e-5)
    assert workers[0]["decoder-ddp"]["held_out"] != pytest.approx(untrained, rel=1e-3)
