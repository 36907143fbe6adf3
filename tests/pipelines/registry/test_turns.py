"""Turns: one process at a time moves a champion, also where others die, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hfd.errors import ConfigError, HfdError
from pipelines.registry import turns
from pipelines.registry.champion import Registry, open_registry
from pipelines.registry.turns import Turn, turn
from pipelines.tracking.client import open_client
from tests.support.mlflow_server import Server
from tests.support.registry import alias, model, register, run_in
from tests.support.tiny_run import tiny_config

pytestmark = pytest.mark.integration

ROUNDS = 5


@pytest.fixture(params=["server", "mlflow_on_postgres"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """A registered model of the test's own, with no version yet, on each kind of database."""
    found: Server = request.getfixturevalue(request.param)
    name = f"promote.model={request.node.name.split('[')[0]}"
    return open_registry(tiny_config(tmp_path, tmp_path, f"tracking.uri={found.uri}", name))


@pytest.fixture
def run_id(registry: Registry) -> str:
    return run_in(registry)


def params_of(client: Any, run_id: str) -> dict[str, str]:
    return dict(client.get_run(run_id).data.params)


def test_turns_are_numbered_and_end(registry: Registry, run_id: str) -> None:
    for number in (1, 2):
        with turn(registry.client, run_id) as mine:
            mine.check()
            assert mine.number == number
            assert f"hfd.turn.{number}.end" not in params_of(registry.client, run_id)
    with pytest.raises(ZeroDivisionError), turn(registry.client, run_id):
        raise ZeroDivisionError
    found = params_of(registry.client, run_id)
    assert sorted(found) == sorted(f"hfd.turn.{number}{end}" for number in (1, 2, 3) for end in ("", ".end"))


def test_threads_never_hold_a_turn_at_once(registry: Registry, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "POLL_S", 0.005)
    inside, overlaps, numbers = threading.Lock(), [], []

    def work() -> None:
        client = open_client(registry.uri)
        for _ in range(4):
            with turn(client, run_id) as mine:
                overlaps.append(not inside.acquire(blocking=False))
                numbers.append(mine.number)
                inside.release()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(overlaps) and numbers == list(range(1, 13))


def test_a_turn_whose_holder_died_is_ended_by_the_next(
    registry: Registry, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "EXPIRES_S", 0.5)
    with ExitStack() as dead:
        dead.enter_context(turn(registry.client, run_id))
        started = time.monotonic()
        with turn(registry.client, run_id) as mine:
            assert mine.number == 2 and time.monotonic() - started > 0.5
        assert params_of(registry.client, run_id)["hfd.turn.1.end"] == "expired"


def test_a_holder_that_is_slow_moves_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot know by then that no other process has ended its turn."""
    first = register(registry, model(tmp_path, "a"))
    registry.make_champion(first, None)
    monkeypatch.setattr(turns, "HOLD_S", -1.0)
    with pytest.raises(
        HfdError, match=r"^promote.model: the registry answered too slowly to move the champion"
    ) as caught:
        registry.make_champion(register(registry, model(tmp_path, "b")), first)
    assert "\n" not in str(caught.value)
    with pytest.raises(HfdError, match="too slowly"):
        registry.rollback(2)
    assert alias(registry, "champion") == first.number


def test_the_turns_outlive_the_oldest_version_and_its_run(registry: Registry, tmp_path: Path) -> None:
    made = [register(registry, model(tmp_path, name)) for name in "abc"]
    registry.make_champion(made[0], None)
    registry.client.delete_run(made[0].run_id)
    registry.make_champion(made[1], made[0])
    assert "hfd.turn.1.end" in params_of(registry.client, made[1].run_id)
    registry.client.delete_model_version(registry.model, "1")
    for version in made[1:]:
        registry.client.delete_run(version.run_id)
    with pytest.raises(ConfigError, match=r"the runs of all versions of \w+ were deleted, expected one .*runs restore"):
        registry.make_champion(made[2], made[1])


def test_a_refused_parameter_for_another_reason_is_no_lost_turn(registry: Registry, run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    registry.client.delete_run(run_id)
    with pytest.raises(MlflowException, match="active"), turn(registry.client, run_id):
        raise AssertionError("nothing can have been taken")


@pytest.fixture
def promoters(registry: Registry, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Three processes, each with a version of its own to promote."""
    made = [register(registry, model(tmp_path, name)) for name in "abc"]
    command = [sys.executable, "-m", "tests.support.promoter", registry.uri, registry.model]
    started = [
        subprocess.Popen([*command, version.digest, str(tmp_path), str(ROUNDS)], stdout=subprocess.PIPE, text=True)
        for version in made
    ]
    yield started
    for process in started:
        process.kill()
        process.wait()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_processes_that_promote_at_once_form_one_line_of_champions(
    registry: Registry, promoters: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Of those that saw the same champion, one replaces it; the others are refused in one line and change nothing."""
    assert [line_of(process) for process in promoters] == ["ready"] * 3
    refused = 0
    champion = 0
    for number in range(ROUNDS):
        (tmp_path / f"go {number}").touch()
        ends = {version: line_of(process) for version, process in enumerate(promoters, 1)}
        successors = [(int(end.split()[1]), version) for version, end in ends.items() if end.startswith("won ")]
        assert len({before for before, _ in successors}) == len(successors), ends  # nobody was replaced twice
        for _ in successors:
            champion = dict(successors)[champion]
        assert alias(registry, "champion") == champion
        lost = [end for end in ends.values() if end.startswith("refused ")]
        assert all("meanwhile. Run the same command again to compare with it" in end for end in lost)
        refused += len(lost)
    assert refused > 0
    assert [process.wait() for process in promoters] == [0, 0, 0]


def test_a_turn_has_a_limit() -> None:
    Turn(1, time.monotonic() + 60.0).check()
    with pytest.raises(HfdError, match="too slowly"):
        Turn(1, time.monotonic() - 1.0).check()
