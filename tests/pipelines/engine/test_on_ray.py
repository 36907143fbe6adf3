"""The engine on Ray: the same bits as in one process, dying workers, errors in one line, no leftover files."""

from __future__ import annotations

import functools
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from hfd.config import ClusterConfig
from hfd.errors import ConfigError, DataError, HfdError
from pipelines.context import Silent
from pipelines.engine.base import MapJob
from pipelines.engine.open import open_engine
from pipelines.engine.ray_session import check_fits
from pipelines.retrain import retrain
from tests.support import ray_work
from tests.support.processes import descendants, once
from tests.support.tiny_run import tiny_config, write_photographs

TRAIN_STEPS = 40


@pytest.mark.slow
def test_ray_makes_the_same_bits_as_one_process_even_when_workers_die(
    tmp_path: Path, ray_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["autoencoder.train.checkpoint_every_s=0.05", "evaluate.baselines=[jpeg]"]
    photographs = write_photographs(tmp_path / "photographs")
    inline = tiny_config(photographs, tmp_path / "inline", *settings, steps=TRAIN_STEPS)
    ray = ["cluster.kind=local", "cluster.num_cpus=2"]
    local = tiny_config(photographs, tmp_path / "ray", *settings, *ray, steps=TRAIN_STEPS)
    local_workspace = tmp_path / "ray"
    ctrl_c = signal.getsignal(signal.SIGINT)
    expected = retrain(inline, Silent())
    capfd.readouterr()

    with open_engine(local.cluster) as ready:
        done: list[Any] = []
        ready.map(MapJob(abs, list(range(-5, 0)), done.append))
        assert sorted(done) == [1, 2, 3, 4, 5]
        with pytest.raises(DataError, match=r"^item 1: got nothing, expected something$") as caught:
            ready.map(MapJob(ray_work.refuse, [1], done.append))
        assert caught.value.reason == "io"
        assert capfd.readouterr() == ("", "")

        killed: list[int] = []

        def kill() -> None:
            for process in descendants("RayTrainWorker"):
                process.kill()
                killed.append(process.pid)

        with once(lambda: any(local_workspace.glob("train-autoencoder/*/checkpoints/*.pt")), kill):
            found = retrain(local, Silent())
        assert len(killed) == 1
        assert [one.digest for one in found] == [one.digest for one in expected]
        assert [one.manifest.facts["steps"] for one in (found[1], found[3])] == [TRAIN_STEPS, TRAIN_STEPS]

        ready.map(MapJob(ray_work.die_once, [tmp_path / "died"], done.append))
        assert done[-1] != os.getpid() and (tmp_path / "died").exists()
        with pytest.raises(HfdError, match=r"^cluster\.map_workers: .*\(WorkerCrashedError\)") as death:
            ready.map(MapJob(ray_work.die, [1], done.append))
        assert "\n" not in str(death.value)

        started = tmp_path / "started"
        with pytest.raises(KeyboardInterrupt), once(started.exists, lambda: os.kill(os.getpid(), signal.SIGINT)):
            ready.train(functools.partial(ray_work.linger, started=started), "endless")
        assert signal.getsignal(signal.SIGINT) is ctrl_c

    # Ray tells of the dead, and of nothing else.
    assert all("(raylet)" in line for line in capfd.readouterr().out.splitlines() if line)
    assert not descendants("ray")
    assert not list(ray_folder.iterdir()) and not list(Path.home().glob(f"ray_results/*-{os.getpid()}"))
    names = [{str(path.relative_to(top)) for path in top.rglob("*")} for top in (tmp_path / "inline", tmp_path / "ray")]
    assert names[0] == names[1]


NODES = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0, "memory": 1e9}]


@pytest.mark.parametrize(
    "settings",
    [
        {"train_workers": 12, "train_threads": 1},
        {"train_workers": 3, "train_threads": 4},
        {"train_workers": 100, "train_workers_min": 12, "train_threads": 1},
        {"train_workers": 1, "train_threads": 8, "train_gpus": 1},
        {"train_workers": 2, "train_threads": 2, "train_gpus": 0.5},
        {"map_threads": 8, "map_gpus": 0.25},
        {"map_threads": 9, "map_cpus": 0.5},
    ],
)
def test_workers_that_fit_the_nodes_are_accepted(settings: dict[str, Any]) -> None:
    check_fits(ClusterConfig(kind="local", **settings), NODES)


@pytest.mark.parametrize(
    ("settings", "name", "fitting"),
    [
        ({"train_workers": 13, "train_threads": 1}, "train_workers", 12),
        ({"train_workers": 100, "train_workers_min": 13, "train_threads": 1}, "train_workers", 12),
        # Twelve CPUs in all, and yet no node has nine.
        ({"train_threads": 9}, "train_workers", 0),
        ({"train_workers": 4, "train_threads": 4}, "train_workers", 3),
        ({"train_workers": 2, "train_threads": 1, "train_gpus": 1}, "train_workers", 1),
        ({"map_threads": 9}, "map_threads", 0),
        ({"map_gpus": 2}, "map_threads", 0),
        ({"map_cpus": 8.5}, "map_cpus", 0),
    ],
)
def test_workers_that_never_fit_are_refused_with_the_numbers(settings: dict[str, Any], name: str, fitting: int) -> None:
    with pytest.raises(ConfigError) as caught:
        check_fits(ClusterConfig(kind="local", **settings), NODES)
    message = str(caught.value)
    assert message.startswith(f"cluster.{name}: got ") and "\n" not in message
    assert f"(8 CPU and 1 GPU, 4 CPU and 0 GPU): {fitting} of these" in message


@pytest.mark.parametrize("setting", ["train_gpus", "map_gpus"])
def test_gpus_that_this_machine_lacks_are_refused_inline(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with (
        pytest.raises(ConfigError, match=rf"^cluster\.{setting}: got 1, expected 0\."),
        open_engine(ClusterConfig(**{setting: 1})),
    ):
        raise AssertionError("nothing can have started")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "ray://no-such-host.invalid:10001"])
def test_a_ray_that_does_not_answer_is_one_line(address: str) -> None:
    with (
        pytest.raises(ConfigError, match=rf"^cluster: Ray does not answer at {re.escape(address)} \(") as caught,
        open_engine(ClusterConfig(kind="attach", address=address)),
    ):
        raise AssertionError("nothing can have started")
    assert "\n" not in str(caught.value)
