"""The wait for nodes: its lines, its end, and its demand."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hfd.config import ClusterConfig
from hfd.errors import ConfigError
from pipelines.engine import waiting
from pipelines.engine.ray_session import check_fits, start_limit_s
from pipelines.engine.waiting import Waiting, wait_for, watched
from pipelines.engine.workers import Nodes, Wanted, map_worker, training_workers

WANTED = Wanted("train_workers", 2, 1.0, 1.0)
SMALL: Nodes = [{"CPU": 4.0}]
LARGE: Nodes = [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 2.0}]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the wait, in seconds, moved by the test."""
    now = [1000.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    return now


def test_the_state_is_reported_when_it_changes_and_every_minute(clock: list[float]) -> None:
    lines: list[str] = []
    waits = Waiting(WANTED, 1800.0, lines.append)
    for seconds, nodes in (
        (0, SMALL),
        (10, SMALL),
        (20, [*SMALL, *SMALL]),
        (70, [*SMALL, *SMALL]),
        (90, [*SMALL, *SMALL]),
    ):
        clock[0] = 1000.0 + seconds
        assert not waits.fits(nodes)
    clock[0] = 1100.0
    assert waits.fits(LARGE)
    one, two = "4 CPU and 0 GPU", "4 CPU and 0 GPU, 4 CPU and 0 GPU"
    wait = "cluster.wait: waiting for 2 x (1 CPU and 1 GPU), 0 of these fit the nodes"
    assert lines == [
        f"{wait} ({one}); 0 s of 1800 s",
        f"{wait} ({two}); 20 s of 1800 s",
        f"{wait} ({two}); 90 s of 1800 s",
        "cluster.wait: 2 x (1 CPU and 1 GPU) fit the nodes after 100 s",
    ]


def test_the_end_is_one_line_with_the_numbers(clock: list[float]) -> None:
    waits = Waiting(WANTED, 60.0, lambda _line: None)
    assert not waits.fits([{"CPU": 1.0, "GPU": 1.0}])
    clock[0] += 61.0
    with pytest.raises(ConfigError) as caught:
        waits.fits([{"CPU": 1.0, "GPU": 1.0}])
    assert str(caught.value) == (
        "cluster.train_workers: got 2 x (1 CPU and 1 GPU), expected what fits the nodes within cluster.wait, which is "
        "60 s (1 CPU and 1 GPU): 1 of these. Ask for less, wait longer, or raise the limits of the autoscaler (ray "
        "status shows them)"
    )
    assert caught.value.exit_code == 2


def test_each_loss_has_the_whole_time(clock: list[float]) -> None:
    waits = Waiting(WANTED, 60.0, lambda _line: None)
    for _ in range(3):
        assert not waits.fits(SMALL)
        clock[0] += 50.0
        assert not waits.fits(SMALL) and waits.fits(LARGE)


@pytest.fixture
def demands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the demand for workers in place of Ray."""
    events: list[str] = []

    @contextmanager
    def demand(wanted: Wanted) -> Iterator[None]:
        events.append(f"ask {wanted.text}")
        yield
        events.append("end")

    monkeypatch.setattr(waiting, "demand_for", demand)
    monkeypatch.setattr(waiting, "POLL_S", 0.01)
    return events


def test_nodes_are_asked_for_only_where_they_are_missing(demands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "nodes", lambda: LARGE)
    wait_for(WANTED, 60.0, lambda line: pytest.fail(line))
    assert demands == []
    seen = iter([SMALL, SMALL, LARGE])
    monkeypatch.setattr(waiting, "nodes", lambda: next(seen))
    wait_for(WANTED, 60.0, lambda _line: None)
    assert demands == ["ask 2 x (1 CPU and 1 GPU)", "end"]


def test_nodes_that_do_not_return_end_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_S", 0.01)
    monkeypatch.setattr(waiting, "nodes", lambda: SMALL)
    with (
        pytest.raises(ConfigError, match=r"^cluster.train_workers: got 2 x"),
        watched(WANTED, 0.05, lambda _line: None),
    ):
        time.sleep(60.0)
    assert not [thread for thread in threading.enumerate() if thread.name == "hfd-nodes"]


def test_ctrl_c_and_a_head_that_does_not_answer_are_no_lost_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def away() -> Nodes:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("the head does not answer")

    monkeypatch.setattr(waiting, "POLL_S", 0.01)
    monkeypatch.setattr(waiting, "nodes", away)
    with pytest.raises(KeyboardInterrupt), watched(WANTED, 60.0, lambda _line: None):
        time.sleep(60.0)


@pytest.mark.parametrize(
    ("settings", "training", "mapping"),
    [
        ({"train_workers": 8, "train_threads": 4, "train_gpus": 1}, "8 x (4 CPU and 1 GPU)", "1 x (1 CPU and 0.5 GPU)"),
        ({"train_workers": 8, "train_workers_min": 2}, "2 x (2 CPU and 0 GPU)", "1 x (1 CPU and 0.5 GPU)"),
        ({"map_threads": 3}, "1 x (2 CPU and 0 GPU)", "1 x (3 CPU and 0.5 GPU)"),
        ({"map_threads": 3, "map_cpus": 0.25}, "1 x (2 CPU and 0 GPU)", "1 x (0.25 CPU and 0.5 GPU)"),
    ],
)
def test_a_step_asks_for_the_fewest_workers_it_runs_with(settings: dict[str, Any], training: str, mapping: str) -> None:
    config = ClusterConfig(kind="attach", address="auto", wait="2 h", **settings)
    assert (training_workers(config).text, map_worker(config, 0.5).text) == (training, mapping)
    assert config.wait_s == 7200.0


def test_a_refusal_without_a_wait_names_it() -> None:
    with pytest.raises(ConfigError, match=r"or set cluster\.wait for an autoscaler$"):
        check_fits(ClusterConfig(kind="attach", address="auto", train_gpus=1), SMALL)


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"train_workers": 4}, 600),
        ({"train_workers": 4, "wait": "30 min"}, 2400),
        ({"train_workers": 4, "train_workers_min": 4, "wait": "30 min"}, 2400),
        ({"train_workers": 4, "train_workers_min": 1, "wait": "30 min"}, 30),
    ],
)
def test_only_a_fixed_number_of_workers_waits_for_the_nodes_it_lost(settings: dict[str, Any], seconds: int) -> None:
    assert start_limit_s(ClusterConfig(kind="attach", address="auto", **settings)) == seconds
