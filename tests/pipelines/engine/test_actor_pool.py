"""The pool of actors on a real Ray: one model for each worker, killer items, and the same evaluation on any number of
workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hfd.config import ClusterConfig
from hfd.errors import DataError, HfdError
from pipelines.context import Silent
from pipelines.engine import actor_pool
from pipelines.engine.actor_pool import ActorPool, DyingWorkersError, PoolSize
from pipelines.engine.base import MapJob
from pipelines.engine.open import open_engine
from pipelines.evaluate import step as evaluate
from pipelines.retrain import retrain
from pipelines.runs.step import Done
from tests.support import ray_work
from tests.support.pictures import photograph
from tests.support.tiny_run import tiny_config, write_photographs

TINY = ("evaluate.max_images=null", "evaluate.baselines=[jpeg]", "evaluate.tile_pixels=65536")


pytestmark = pytest.mark.usefixtures("ray_folder")


def evaluated(photographs: Path, workspace: Path, pictures: Path, *settings: str) -> Done:
    config = tiny_config(photographs, workspace, f"evaluate.data={pictures}", *TINY, *settings)
    return retrain(config, Silent())[-1]


@pytest.mark.slow
def test_models_deaths_and_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [tmp_path / str(number) for number in range(12)]
    with open_engine(ClusterConfig(kind="local", num_cpus=2)) as ready:
        told: list[Any] = []
        ready.map(MapJob(ray_work.tell, items, told.append, load=ray_work.process_number))
        assert sorted(name for _, _, name in told) == sorted(item.name for item in items)
        assert all(model == process for model, process, _ in told)
        assert 1 <= len({model for model, _, _ in told}) <= 2

        told, dead = [], []
        poison = [*items[:5], tmp_path / "poison", *items[5:], tmp_path / "again" / "poison"]
        ready.map(MapJob(ray_work.tell, poison, told.append, dead.append, load=ray_work.process_number))
        assert sorted(dead) == sorted([tmp_path / "poison", tmp_path / "again" / "poison"])
        assert sorted(name for _, _, name in told) == sorted(item.name for item in items)

        # A map without a model also continues without the items that kill its workers.
        told, dead = [], []
        ready.map(MapJob(ray_work.die_once, [tmp_path / "died"], told.append, dead.append))
        assert len(told) == 1 and not dead
        ready.map(MapJob(ray_work.die, [1], told.append, dead.append))
        assert len(told) == 1 and dead == [1]

        with pytest.raises(DyingWorkersError, match=r"^cluster\.map_workers: .*keep dying \(ActorDiedError\)") as death:
            ready.map(MapJob(ray_work.tell, [tmp_path / "poison"], told.append, load=ray_work.process_number))
        assert "\n" not in str(death.value)
        with pytest.raises(DataError, match=r"^model: got nothing, expected something$"):
            ready.map(MapJob(ray_work.tell, items, told.append, load=ray_work.refuse_to_load))
        with pytest.raises(DyingWorkersError, match="do not start"):
            ready.map(MapJob(ray_work.tell, items, told.append, dead.append, load=ray_work.die_while_loading))
        with pytest.raises(ZeroDivisionError, match="a bug with item 3"):
            ready.map(MapJob(ray_work.err, [3], told.append, load=ray_work.process_number))

        # More workers than fit: those that start do all the work. None that fits: refused with the numbers, no hang.
        told = []
        ActorPool(PoolSize(3, 1.0, 0.0, 1), MapJob(ray_work.die_once, [tmp_path / "died"] * 8, told.append)).run()
        assert len(told) == 8
        monkeypatch.setattr(actor_pool, "START_S", 2.0)
        with pytest.raises(HfdError, match=r"none of 1 workers \(3 CPU and 0 GPU each\) started within 2 s; .* 2 CPU"):
            ActorPool(PoolSize(1, 3.0, 0.0, 1), MapJob(ray_work.die_once, items, told.append)).run()


@pytest.mark.slow
def test_an_evaluation_is_the_same_bits_on_any_number_of_workers_and_without_killer_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs, workspace, pictures = write_photographs(tmp_path / "photographs"), tmp_path / "w", tmp_path / "p"
    pictures.mkdir()
    for seed, size in enumerate([(90, 800), (72, 64), (72, 64), (64, 72), (110, 130)]):
        Image.fromarray(photograph(*size, seed=seed)).save(pictures / f"{seed}.png")
    inline = evaluated(photographs, workspace, pictures)
    folder = inline.folder.path
    assert inline.manifest.facts["tiled"] == 1
    real = evaluate.images_of

    def with_a_killer(*arguments: Any) -> list[Any]:
        return [*real(*arguments), ray_work.Killer("killer.png")]

    for workers in (1, 2):
        folder.rename(tmp_path / f"{workers}")  # evaluated again, from nothing
        ray = ["cluster.kind=local", "cluster.num_cpus=2", f"cluster.map_workers={workers}"]
        again = evaluated(photographs, workspace, pictures, *ray)
        assert not again.skipped and again.digest == inline.digest
        assert [row["psnr"] for row in again.manifest.facts["summary"]] == [
            row["psnr"] for row in inline.manifest.facts["summary"]
        ]
    folder.rename(tmp_path / "3")
    monkeypatch.setattr(evaluate, "images_of", with_a_killer)
    found = evaluated(photographs, workspace, pictures, *ray)
    assert found.manifest.facts["reasons"] == {"killed-worker": 1}
    assert "killer.png (killed-worker)" in found.folder.read("report.html").decode()
    assert [row["psnr"] for row in found.manifest.facts["summary"]] == [
        row["psnr"] for row in inline.manifest.facts["summary"]
    ]
