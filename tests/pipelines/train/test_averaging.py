"""Snapshots of averaged weights: schedule, averages computed from them, and choice of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from hfd.config import EmaConfig
from hfd.diffusion.ema import PowerEma, Profile, exponent_of
from hfd.io.storage import Folder
from hfd.training.loop import Listener
from pipelines.train.averaging import FOLDER, Snapshots, choose_average
from tests.support.tiny_training import KillAt, KilledError, MemoryLoader, decoder_task, run

WIDTHS = (0.05, 0.1)
STEPS = 512


class Walking:
    """A task whose weights, 300 of one name and 20 of another, settle as they walk at random."""

    def __init__(self, widths: tuple[float, ...] = WIDTHS) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self.weights = {"wide": torch.ones(15, 20), "deep.bias": torch.ones(20)}
        self.past: list[dict[str, Tensor]] = []
        self._ema = PowerEma(list(self.weights.values()), widths)

    def step(self) -> int:
        count = len(self.past) + 1
        for value in self.weights.values():
            value.add_(0.1 * torch.randn(value.shape, generator=self._generator) / count**0.5)
        self.past.append({name: value.clone() for name, value in self.weights.items()})
        self._ema.update(count - 1)
        return count

    def averages(self) -> Mapping[float, Mapping[str, Tensor]]:
        return {width: dict(zip(self.weights, values, strict=True)) for width, values in self._ema.averages.items()}


def stored_steps(snapshots: Snapshots) -> list[int]:
    return sorted({profile.step for profile in snapshots.profiles().values()})


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


@pytest.mark.parametrize(
    ("planned", "count", "steps"),
    [
        (8, 4, [2, 4, 6, 8]),
        (10, 4, [3, 5, 8, 10]),
        (1000, 3, [334, 667, 1000]),
        (7, 1, [7]),
        (3, 8, [1, 2, 3]),
        (64, 64, list(range(1, 65))),
    ],
)
def test_snapshots_are_evenly_spread_and_end_with_the_last_step(
    folder: Folder, planned: int, count: int, steps: list[int]
) -> None:
    snapshots, task = Snapshots(folder, count), Walking()
    for step in range(planned + 1):
        snapshots.on_step(task, step, planned)
    assert stored_steps(snapshots) == steps
    profiles = snapshots.profiles().values()
    assert len(profiles) == 2 * min(count, planned) and {profile.sigma_rel for profile in profiles} == set(WIDTHS)


@pytest.mark.parametrize(
    ("planned", "count", "steps"),
    [(60, 3, [20, 40, 60]), (500, 4, [125, 250, 375, 500]), (60, 6, [20, 30, 40, 50, 60]), (20, 8, [20])],
)
def test_a_late_plan_skips_earlier_snapshots(folder: Folder, planned: int, count: int, steps: list[int]) -> None:
    snapshots, task = Snapshots(folder, count), Walking()
    for step in range(1, planned + 1):
        snapshots.on_step(task, step, None if step < 20 else planned)
    assert stored_steps(snapshots) == steps


def test_nothing_is_stored_without_a_plan(folder: Folder) -> None:
    snapshots, task = Snapshots(folder, 4), Walking()
    for step in range(20):
        snapshots.on_step(task, step, None)
    assert snapshots.profiles() == {} and not folder.exists(FOLDER)


def test_snapshots_are_float16_by_parameter_name(folder: Folder) -> None:
    task = Walking()
    task.step()
    snapshots = Snapshots(folder, 1)
    snapshots.on_step(task, 1, 1)
    (folder / FOLDER).write("notes.txt", b"not a snapshot")
    profiles = snapshots.profiles()
    assert set(profiles.values()) == {Profile(1, width) for width in WIDTHS}
    for name, profile in profiles.items():
        tensors = load((folder / FOLDER).read(name))
        expected = task.averages()[profile.sigma_rel]
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], value.half()) for key, value in expected.items())


def test_every_width_is_found_again(folder: Folder) -> None:
    widths = (0.28, 0.1, 1 / 30, 5e-5)
    Snapshots(folder, 1).on_step(Walking(widths), 1, 1)
    assert {profile.sigma_rel for profile in Snapshots(folder, 1).profiles().values()} == set(widths)


def test_a_resumed_run_stores_the_same(tmp_path: Path) -> None:
    def train(folder: Folder, kill: KillAt) -> None:
        task, snapshots = decoder_task(), Snapshots(folder, 4)

        def on_step(step: int, planned: int | None) -> None:
            snapshots.on_step(task, step, planned)
            kill(step, planned)

        run(
            task,
            MemoryLoader(32),
            folder.path / "checkpoints",
            Listener(on_step=on_step),
            steps=8,
            checkpoint_every_s=0.0,
        )

    whole, cut = (Folder(str(tmp_path / name)) for name in ("whole", "cut"))
    train(whole, KillAt(-1))
    with pytest.raises(KilledError):
        train(cut, KillAt(4))  # stored, but not yet in a checkpoint
    assert stored_steps(Snapshots(cut, 4)) == [2, 4]
    train(cut, KillAt(-1))
    names = [entry.key for entry in (whole / FOLDER).files()]
    assert len(names) == 8 and names == [entry.key for entry in (cut / FOLDER).files()]
    for name in names:
        assert (whole / FOLDER).read(name) == (cut / FOLDER).read(name)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Walking, Snapshots]:
    """A whole walk and its snapshots."""
    task, snapshots = Walking(), Snapshots(Folder(str(tmp_path_factory.mktemp("walk"))), 8)
    for _ in range(STEPS):
        snapshots.on_step(task, task.step(), STEPS)
    return task, snapshots


@pytest.mark.parametrize("width", WIDTHS)
def test_a_tracked_width_comes_back(walked: tuple[Walking, Snapshots], width: float) -> None:
    task, snapshots = walked
    average = snapshots.average(Profile(STEPS, width))
    expected = task.averages()[width]
    assert average.keys() == expected.keys()
    for name, value in average.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=2**-11, atol=1e-6)


def direct(task: Walking, width: float) -> dict[str, Tensor]:
    """The sum over all steps' weights, of shares (tau^(g + 1) - (tau - 1)^(g + 1)) / t^(g + 1)."""
    shares = np.diff((np.arange(STEPS + 1) / STEPS) ** (exponent_of(width) + 1.0))
    pairs = list(zip(shares, task.past, strict=True))
    return {name: sum(share * past[name].double() for share, past in pairs) for name in task.weights}


@pytest.mark.parametrize("width", [0.03, 0.07, 0.15])
def test_another_width_is_nearly_its_own_average(walked: tuple[Walking, Snapshots], width: float) -> None:
    """Nearer by far than any that was tracked."""
    task, snapshots = walked

    def distance(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
        return float(torch.cat([(tensors[name] - value).flatten() for name, value in expected.items()]).norm())

    expected = direct(task, width)
    tracked = min(distance(tensors, expected) for tensors in task.averages().values())
    assert distance(snapshots.average(Profile(STEPS, width)), expected) < 0.25 * tracked


def test_the_smallest_loss_is_chosen_and_all_are_reported(walked: tuple[Walking, Snapshots]) -> None:
    task, snapshots = walked
    wanted = direct(task, 0.08)["wide"]
    seen: list[dict[str, Tensor]] = []

    def loss(tensors: Mapping[str, Tensor]) -> float:
        seen.append(dict(tensors))
        return float((tensors["wide"] - wanted).norm())

    choices = (0.15, 0.02, 0.08, 0.1)
    best, losses = choose_average(snapshots, EmaConfig(choices=choices), STEPS, loss)
    assert [min(losses, key=losses.__getitem__), *losses] == ["0.08", "0.15", "0.02", "0.08", "0.1"]
    assert list(losses.values()) == [float((tensors["wide"] - wanted).norm()) for tensors in seen]
    for name, value in snapshots.average(Profile(STEPS, 0.08)).items():
        assert torch.equal(best[name], value)


def test_equal_losses_choose_the_first(walked: tuple[Walking, Snapshots]) -> None:
    _, snapshots = walked
    best, losses = choose_average(snapshots, EmaConfig(choices=(0.1, 0.05)), STEPS, lambda _: 1.0)
    assert losses == {"0.1": 1.0, "0.05": 1.0}
    assert torch.equal(best["wide"], snapshots.average(Profile(STEPS, 0.1))["wide"])
