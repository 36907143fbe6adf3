"""The end of a job's log is shown, whatever ended its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.jobs import client
from pipelines.jobs.client import MAX_LINE_CHARS, Server, follow

pytestmark = pytest.mark.integration


@dataclass
class Cluster:
    """A job server whose stream ends as ``ending`` says after ``streamed`` characters of the log.

    A real server cannot be brought to end a stream at a chosen character.
    """

    log: str
    streamed: int
    ending: str
    asked: int = 0
    alive_for: int = 3
    shown: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def get_job_info(self, name: str) -> Any:
        self.asked += 1
        status = "RUNNING" if self.asked < self.alive_for else "FAILED"
        return SimpleNamespace(
            submission_id=name, status=SimpleNamespace(value=status), metadata={}, entrypoint="x", start_time=1,
            end_time=None, driver_exit_code=3, message="",
        )  # fmt: skip

    async def tail_job_logs(self, _name: str) -> AsyncIterator[str]:
        yield self.log[: self.streamed]
        if self.ending == "silence":
            import asyncio

            await asyncio.sleep(3600)
        if self.ending == "lost":
            raise OSError("the connection was reset")
        if self.ending == "1009":
            raise RuntimeError("WebSocket error for job x: code 1009, message too big")

    def get_job_logs(self, _name: str) -> str:
        if self.ending == "node":
            raise RuntimeError("Request failed with status code 500: no agent")
        return self.log


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SILENCE_S", "RETRY_S"):
        monkeypatch.setattr(client, name, 0.01)


def end(cluster: Cluster) -> int:
    return follow(Server("http://x", cluster), "job", cluster.shown.append, cluster.said.append, 5.0)


@pytest.mark.parametrize("ending", ["silence", "close", "lost", "1009"])
@pytest.mark.parametrize("streamed", [0, 6, 9])
@pytest.mark.parametrize("alive_for", [0, 3])
def test_every_character_is_shown_once(ending: str, streamed: int, alive_for: int) -> None:
    cluster = Cluster("begin\nwhy it failed\nlast", streamed, ending, alive_for=alive_for)
    assert end(cluster) == 3
    assert "".join(cluster.shown) == cluster.log and cluster.said == []


def test_a_giant_line_is_cut_with_a_note_and_the_next_lines_are_shown() -> None:
    cluster = Cluster("begin\n" + "x" * 5_000_000 + "\nwhy\n", 6, "1009")
    assert end(cluster) == 3
    assert "".join(cluster.shown) == f"begin\n{'x' * MAX_LINE_CHARS}... (cut: 5000001 characters)\nwhy\n"


def test_an_ended_job_whose_node_is_gone_keeps_its_exit_code() -> None:
    cluster = Cluster("begin\nwhy\n", 6, "node")
    assert end(cluster) == 3
    assert cluster.shown == ["begin\n"]
    (line,) = cluster.said
    assert line.startswith("the end of the log of job cannot be read (")
