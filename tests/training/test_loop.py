"""The training loop: bit-exact resumption, budget, learning rate, and losses that are not finite."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hfd.errors import TrainingError
from hfd.training import loop
from hfd.training.loop import CALIBRATION_STEPS, Listener, lr_factor, plan_steps, to_images
from hfd.training.randomness import SampleRandomness
from tests.support.tiny_training import (
    BATCH,
    CPU,
    KINDS,
    KillAt,
    KilledError,
    MemoryLoader,
    Recording,
    checkpoints_in,
    decoder_task,
    differing,
    loop_settings,
    run,
)


@pytest.mark.integration
@pytest.mark.parametrize("kind", list(KINDS))
def test_killed_and_resumed_is_never_killed(tmp_path: Path, kind: str) -> None:
    make, loader = KINDS[kind].make, KINDS[kind].loader()
    whole = Recording(make())
    run(whole, loader, tmp_path / "whole", steps=8)
    with pytest.raises(KilledError):
        run(make(), loader, tmp_path / "cut", Listener(on_step=KillAt(5)), steps=8, checkpoint_every_s=0.0)
    resumed = Recording(make())
    result = run(resumed, loader, tmp_path / "cut", steps=8)
    # The kill came in step 5, whose checkpoint was not yet written.
    assert (result.steps, result.steps_here) == (8, 4)
    assert resumed.seen == whole.seen[4:]
    assert differing(whole.state(), resumed.state()) == []
    untrained = make().state()
    part = "model" if kind == "autoencoder" else "ema"
    assert differing(whole.state()[part], untrained[part]) != []


@pytest.mark.integration
@pytest.mark.parametrize("kind", list(KINDS))
def test_resume_needs_nothing_but_the_checkpoint(tmp_path: Path, kind: str) -> None:
    """A run that is cut after every single step, with the global generator disturbed in between."""
    make, loader = KINDS[kind].make, KINDS[kind].loader()
    whole = make()
    run(whole, loader, tmp_path / "whole", steps=4)
    for step in range(1, 4):
        torch.manual_seed(step)
        with pytest.raises(KilledError):
            run(make(), loader, tmp_path / "cut", Listener(on_step=KillAt(step + 1)), steps=4, checkpoint_every_s=0.0)
    last = make()
    assert run(last, loader, tmp_path / "cut", steps=4).steps_here == 1
    assert differing(whole.state(), last.state()) == []


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    loader = MemoryLoader(32)
    done = decoder_task()
    run(done, loader, tmp_path, steps=3)
    again = decoder_task()
    result = run(again, loader, tmp_path, steps=3)
    assert (result.steps, result.steps_here) == (3, 0)
    assert differing(done.state(), again.state()) == []


class Clock:
    """A clock that a task advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Counting:
    """A task that only counts, each step taking so many seconds of a clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.count, self.factors, self.progress = 0, [], []

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        del randomness
        self.progress.append(progress)
        return {"loss": batch.mean()}

    def backward(self, losses: Mapping[str, Tensor], *, weight: float) -> None:
        del losses, weight

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext(last)

    def update(self, *, step: int, lr_factor: float) -> Tensor:
        assert step == self.count
        self.count += 1
        self.factors.append(lr_factor)
        self.clock.now += self.seconds
        return torch.zeros(())

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock.monotonic, process_time=lambda: 2 * clock.now))
    return clock


SMALL = MemoryLoader(4)
BUDGET: dict[str, Any] = {"steps": None, "budget_s": 30.0}


def test_budget_becomes_steps_once(tmp_path: Path, clock: Clock) -> None:
    task, seen = Counting(clock, 0.5), KillAt(-1)
    result = run(task, SMALL, tmp_path, Listener(on_step=seen), **BUDGET)
    assert CALIBRATION_STEPS == 20
    # 20 steps take 10 s, which leaves 20 s for 40 more.
    assert result.steps == task.count == 60
    assert seen.planned == [None] * 19 + [60] * 41
    assert task.progress[:20] == [0.0] * 20 and task.progress[20:] == [step / 60 for step in range(20, 60)]
    assert checkpoints_in(tmp_path).latest() == (60, {"task": {"count": 60}, "planned": 60})


def test_plan_is_kept_across_a_resume(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(KilledError):
        run(Counting(clock, 0.5), SMALL, tmp_path, Listener(on_step=KillAt(33)), **BUDGET)
    # The plan was written down the moment it was made; the machine is ten times slower now.
    assert checkpoints_in(tmp_path).latest() == (20, {"task": {"count": 20}, "planned": 60})
    resumed = Counting(clock, 5.0)
    assert run(resumed, SMALL, tmp_path, **BUDGET).steps == 60
    whole = Counting(clock, 0.5)
    run(whole, SMALL, tmp_path / "whole", **BUDGET)
    assert resumed.factors == whole.factors[20:]


def test_kill_before_the_plan_starts_the_budget_anew(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(KilledError):
        run(Counting(clock, 0.5), SMALL, tmp_path, Listener(on_step=KillAt(11)), **BUDGET, checkpoint_every_s=0.0)
    assert checkpoints_in(tmp_path).latest() == (10, {"task": {"count": 10}, "planned": None})
    assert run(Counting(clock, 0.5), SMALL, tmp_path, **BUDGET).steps == 10 + 60


def test_budget_smaller_than_the_calibration(tmp_path: Path, clock: Clock) -> None:
    task, seen = Counting(clock, 10.0), KillAt(-1)
    assert run(task, SMALL, tmp_path, Listener(on_step=seen), **BUDGET).steps == task.count == 20
    # Listeners get the plan at the latest with the last step.
    assert seen.planned == [None] * 19 + [20]


def test_plan_steps_by_hand() -> None:
    settings = loop_settings(steps=None, budget_s=100.0)
    assert plan_steps(settings, [1.0] * 20) == 100
    # A slow first step is spent time and no forecast: 100 - 30 - 19 leaves 51 steps of a second.
    assert plan_steps(settings, [30.0] + [1.0] * 19) == 71
    assert plan_steps(settings, [0.3] * 20) == 20 + 313
    assert plan_steps(settings, [7.0] * 20) == 20


def test_checkpoints_come_by_the_clock(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    save = loop.Checkpoints.save
    monkeypatch.setattr(
        loop.Checkpoints, "save", lambda self, step, state: (saved.append(step), save(self, step, state))
    )
    # The clock does not wait for the writes.
    monkeypatch.setattr(loop.BackgroundWriter, "busy", False)
    run(Counting(clock, 1.0), SMALL, tmp_path, steps=10, checkpoint_every_s=4.0)
    assert saved == [4, 8, 10]


def test_only_the_first_rank_writes_and_listens(tmp_path: Path, clock: Clock) -> None:
    heard = []
    listener = Listener(on_metrics=lambda step, _values: heard.append(step))
    run(Counting(clock, 1.0), SMALL, tmp_path, listener, steps=10, rank=1, checkpoint_every_s=0.0)
    assert heard == [] and not any(tmp_path.iterdir())
    run(Counting(clock, 1.0), SMALL, tmp_path, listener, steps=12)
    assert heard == [5, 10, 12]


def test_metrics_are_means_over_their_window(tmp_path: Path, clock: Clock) -> None:
    heard = {}
    task = Recording(Counting(clock, 0.25))
    result = run(task, SMALL, tmp_path, Listener(on_metrics=heard.__setitem__), steps=12)
    assert heard[5]["loss"] == pytest.approx(np.mean(task.seen[:5]))
    assert heard[10]["loss"] == pytest.approx(np.mean(task.seen[5:10]))
    assert heard[12]["loss"] == pytest.approx(np.mean(task.seen[10:]))
    assert heard[5]["samples_per_s"] == pytest.approx(BATCH / 0.25)
    assert heard[12]["lr_factor"] == pytest.approx(lr_factor(loop_settings(), 11, 12))
    assert result.metrics == heard[12]
    assert result.seconds_here == pytest.approx(3.0)
    assert result.cpu_s_here == pytest.approx(6.0)  # two busy threads


def test_lr_factor_by_hand() -> None:
    settings = loop_settings(warmup_steps=4, lr_final=0.2, lr_decay_share=0.5)
    rising = [lr_factor(settings, step, 100) for step in (0, 1, 2, 3, 4, 49, 50)]
    assert rising == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0])
    # A cosine from 1 to 0.2 over steps 50 to 100: half-way it is 0.6, at a quarter 0.6 + 0.4 / sqrt 2.
    falling = [lr_factor(settings, step, 100) for step in (62.5, 75, 87.5, 100, 120)]
    assert falling == pytest.approx([0.6 + 0.4 * 0.5**0.5, 0.6, 0.6 - 0.4 * 0.5**0.5, 0.2, 0.2])
    assert lr_factor(settings, 1, None) == 0.5 and lr_factor(settings, 1000, None) == 1.0
    flat = loop_settings(warmup_steps=0, lr_decay_share=0.0, lr_final=0.1)
    assert [lr_factor(flat, step, 10) for step in (0, 5, 9)] == [1.0, 1.0, 1.0]
    full = loop_settings(warmup_steps=0, lr_decay_share=1.0, lr_final=0.0)
    assert [lr_factor(full, step, 10) for step in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])


def test_lr_drops_by_hand() -> None:
    """Three drops to an eighth: halves, at 70, 80 and 90 of 100 steps, whatever 1 - 0.3 is rounded to."""
    settings = loop_settings(warmup_steps=4, lr_final=0.125, lr_decay_share=0.3, lr_drops=3)
    found = [lr_factor(settings, step, 100) for step in (1, 69, 70, 79, 80, 89, 90, 99, 100)]
    assert found == pytest.approx([0.5, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.125])
    assert lr_factor(settings, 99, None) == 1.0
    uneven = loop_settings(warmup_steps=0, lr_final=0.01, lr_decay_share=1.0, lr_drops=2)
    assert [lr_factor(uneven, step, 5) for step in range(5)] == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])
    assert [lr_factor(loop_settings(lr_decay_share=0.0, lr_drops=2), step, 10) for step in (5, 9)] == [1.0, 1.0]


def test_lr_drops_are_kept_across_a_resume(tmp_path: Path, clock: Clock) -> None:
    drops = {"lr_drops": 4, "lr_decay_share": 0.8, "steps": 20}
    whole, first, second = (Counting(clock, 0.5) for _ in range(3))
    run(whole, SMALL, tmp_path / "whole", **drops)
    with pytest.raises(KilledError):
        run(first, SMALL, tmp_path / "cut", Listener(on_step=KillAt(13)), checkpoint_every_s=0.0, **drops)
    run(second, SMALL, tmp_path / "cut", **drops)
    assert len(set(whole.factors)) > 4 and second.factors == whole.factors[12:]


class Failing(Recording):
    """A decoder training whose loss, or whose gradient alone, is NaN in one step, or whose loss explodes there."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(decoder_task())
        self.at, self.what = at, what

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        losses = super().losses(batch, progress=progress, randomness=randomness)
        if len(self.seen) == self.at:
            weight = self.task.net.stem.weight
            # The root of zero is zero; its slope is not finite.
            if self.what == "explosion":
                return {"loss": 1e4 * losses["loss"]}
            poison = torch.nan * losses["loss"] if self.what == "loss" else (0.0 * weight).square().sum().sqrt()
            losses = {"loss": losses["loss"] + poison}
            assert bool(torch.isfinite(losses["loss"])) is (self.what == "gradient")
        return losses


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nan_stops_the_training_and_reaches_no_checkpoint(tmp_path: Path, what: str) -> None:
    task = Failing(6, what)
    with pytest.raises(TrainingError, match=r"not finite .* step 6 \(last good: the checkpoint at step 5\)"):
        run(task, MemoryLoader(32), tmp_path, checkpoint_every_s=0.0)
    assert not all(bool(value.isfinite().all()) for value in task.task.net.parameters())
    step, state = checkpoints_in(tmp_path).latest()
    assert step == 5
    assert all(bool(value.isfinite().all()) for value in state["task"]["net"].values())


def test_nan_between_two_log_lines_is_found_at_the_next(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"in the 5 steps up to step 10 \(last good: no checkpoint yet\)"):
        run(Failing(7, "loss"), MemoryLoader(32), tmp_path)
    assert checkpoints_in(tmp_path).latest() is None


def test_nan_in_the_very_last_step_is_found(tmp_path: Path) -> None:
    for what in ("loss", "gradient"):
        with pytest.raises(TrainingError):
            run(Failing(12, what), MemoryLoader(32), tmp_path / what)
        assert checkpoints_in(tmp_path / what).latest() is None


def test_an_exploding_loss_stops_the_training(tmp_path: Path) -> None:
    """10,000 times the loss in step 8 is over 100 times the mean of the steps up to 5; no checkpoint holds it."""
    expected = (
        r"loss: got a mean of \S+, over 100 times the least before \(\S+\), .* \(last good: the checkpoint at step 7\)"
    )
    with pytest.raises(TrainingError, match=expected):
        run(Failing(8, "explosion"), MemoryLoader(32), tmp_path, checkpoint_every_s=0.0)
    assert checkpoints_in(tmp_path).latest()[0] == 7


def test_to_images() -> None:
    batch = np.arange(2 * 2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 2, 4, 5, 3)
    images = to_images(batch, CPU)
    assert images.shape == (2, 2, 3, 4, 5) and images.dtype == torch.float32
    assert float(images[1, 0, 2, 3, 4]) == pytest.approx(batch[1, 0, 3, 4, 2] / 255)
    assert float(to_images(np.full((1, 1, 1, 1, 3), 255, np.uint8), CPU).max()) == 1.0
