"""Trainings on two nodes that lose one of them, on a Ray cluster of simulated nodes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hfd.config import ClusterConfig
from hfd.errors import ConfigError
from pipelines.engine import on_ray
from pipelines.engine.on_ray import OnRay
from pipelines.engine.ray_session import start_limit_s
from tests.support import ray_work

pytestmark = [pytest.mark.slow, pytest.mark.integration]

MEMORY = 100_000_000
"""Bytes of a node's object store."""


@dataclass(frozen=True)
class TwoNodes:
    """A cluster with two nodes of one CPU: ``lose`` kills one of them, ``add`` brings another."""

    address: str
    lose: Callable[[], object]
    add: Callable[[], object]

    def config(self, **settings: Any) -> ClusterConfig:
        return ClusterConfig(kind="attach", address=self.address, train_workers=2, train_threads=1, **settings)


@pytest.fixture
def nodes(ray_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoNodes]:
    import ray
    from ray.cluster_utils import Cluster

    assert ray_folder.is_dir()
    monkeypatch.setattr(on_ray, "GROW_EVERY_S", 2.0)
    head = {"num_cpus": 0, "object_store_memory": MEMORY}
    # Without handlers of signals, which Ray can set in the main thread alone, another thread can add a node.
    cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)
    try:
        add = functools.partial(cluster.add_node, num_cpus=1, object_store_memory=MEMORY)
        _, lost = add(), add()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield TwoNodes(cluster.address, functools.partial(cluster.remove_node, lost, allow_graceful=False), add)
    finally:
        ray.shutdown()
        cluster.shutdown()


@dataclass(frozen=True)
class Watch:
    """Looks at the files in ``started`` that a training of :func:`tests.support.ray_work.stand_by` leaves."""

    started: Path
    stop: threading.Event

    def groups(self) -> list[int]:
        """The sizes of the groups of workers so far, in order; a group counts once all of its workers run."""
        ranks: dict[str, set[int]] = {}
        sizes: dict[str, int] = {}
        for path in sorted(self.started.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            group, world, rank = path.name.split(" ")
            ranks.setdefault(group, set()).add(int(rank))
            sizes[group] = int(world)
        return [sizes[group] for group, found in ranks.items() if len(found) == sizes[group]]

    def until(self, *sizes: int) -> None:
        while self.groups() != list(sizes):
            if self.stop.wait(0.2):
                return


def train(
    folder: Path, config: ClusterConfig, happens: Callable[[Watch], object], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Train while ``happens`` runs, which ends the training when it returns; return the sizes of the groups."""
    watch, enough = Watch(folder / "started", threading.Event()), folder / "enough"
    watch.started.mkdir()

    def run() -> None:
        try:
            happens(watch)
        finally:
            enough.touch()  # also after an error: the training would never end

    thread = threading.Thread(target=run)
    thread.start()
    try:
        work = functools.partial(ray_work.stand_by, started=watch.started, enough=enough)
        monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(start_limit_s(config)))
        OnRay(config, map_gpus=0.0).train(work, "nodes")
    finally:
        watch.stop.set()
        thread.join()
    return watch.groups()


def test_a_training_continues_with_one_worker_and_grows_back_when_a_node_returns(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_and_return(watch: Watch) -> None:
        watch.until(2)
        nodes.lose()
        watch.until(2, 1)
        nodes.add()
        watch.until(2, 1, 2)

    assert train(tmp_path, nodes.config(train_workers_min=1, wait="30 min"), lose_and_return, monkeypatch) == [2, 1, 2]


def test_a_training_ends_with_one_line_when_its_node_does_not_return(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(watch: Watch) -> None:
        watch.until(2)
        nodes.lose()
        watch.until(2, 2)

    with pytest.raises(ConfigError, match=r"within cluster\.wait, which is 5 s") as caught:
        train(tmp_path, nodes.config(wait="5 s"), lose, monkeypatch)
    assert "\n" not in str(caught.value)
