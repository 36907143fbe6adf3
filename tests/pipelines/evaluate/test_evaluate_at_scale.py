"""Evaluations of large pictures, small ones, and more than are held at once: as if each had been measured by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hfd.errors import ConfigError
from hfd.io.storage import Folder
from pipelines.context import Silent
from pipelines.evaluate import images as evaluate_parts
from pipelines.evaluate import step as evaluate
from pipelines.retrain import retrain
from pipelines.runs.step import Done
from tests.support.pictures import photograph
from tests.support.tiny_run import tiny_config, write_photographs

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LARGE = {"b wide.png": (90, 800), "d tall.png": (700, 100)}
SMALL = {"a.png": (72, 64), "c.png": (72, 64), "e.png": (72, 64), "f.png": (64, 72), "g.png": (180, 200)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A workspace with a tiny model in it, and the photographs that it comes from."""
    folder = tmp_path_factory.mktemp("scale")
    photographs = write_photographs(folder / "photographs")
    retrain(tiny_config(photographs, folder / "workspace", "evaluate.baselines=[]"), Silent())
    yield photographs, folder / "workspace"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate({**LARGE, **SMALL}.items()):
        Image.fromarray(photograph(*size, seed=seed)).save(folder / name)
    return folder


def evaluated(trained: tuple[Path, Path], pictures: Path, *settings: str) -> Done:
    photographs, workspace = trained
    overrides = [f"evaluate.data={pictures}", "evaluate.max_images=null", "evaluate.baselines=[jpeg]", *settings]
    return retrain(tiny_config(photographs, workspace, *overrides), Silent())[-1]


def rows(done: Done) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pq.read_table(io.BytesIO(done.folder.read("images.parquet"))).to_pylist()
    return table


def check_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]], exact: set[str]) -> None:
    """The same rows in the same order; what no network sampled, and images in ``exact``, are equal to the bit."""
    names = ("image", "system", "setting", "width", "height", "num_bytes", "bpp", "bpp_est")
    assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in expected]
    for one, other in zip(found, expected, strict=True):
        if one["system"] != "sample" or one["image"] in exact:
            assert (one["psnr"], one["ms_ssim"]) == (other["psnr"], other["ms_ssim"])
        assert one["psnr"] == pytest.approx(other["psnr"], abs=0.05)
        assert one["top_octave_energy"] == pytest.approx(other["top_octave_energy"], rel=0.02, abs=1e-4)


WHOLE = "evaluate.batch_pixels=1"


def test_large_pictures_by_tiles_and_small_ones_in_batches_are_measured_as_each_by_itself(
    trained: tuple[Path, Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samplers = "evaluate.samplers=[{steps: 1}, {steps: 12, kind: ddim}]"
    alone = evaluated(trained, pictures, WHOLE, samplers)
    # All pictures in one part, as those of a large corpus are: only then can they share a batch.
    real = evaluate.plan_parts

    def one_part(context: Any, images: Any, device: str) -> list[evaluate_parts.PartPlan]:
        plans = real(context, images, device)
        tasks = tuple(task for plan in plans for task in plan.tasks)
        return [evaluate_parts.PartPlan(tasks, plans[0].settings, plans[0].max_pixels)]

    batches: list[int] = []
    real_batch = evaluate_parts.sample_batch

    def spy(codec: Any, batch: Any, settings: Any) -> Any:
        batches.append(len(batch))
        return real_batch(codec, batch, settings)

    monkeypatch.setattr(evaluate, "plan_parts", one_part)
    monkeypatch.setattr(evaluate_parts, "sample_batch", spy)
    together = evaluated(trained, pictures, "evaluate.tile_pixels=65536", samplers)
    assert sorted(batches) == [1, 1, 3]
    tiles = [path.name for path in (together.folder.path / "tiles/parts").iterdir()]
    # One step by tiles of their own, several of each picture; twelve steps by one worker for each picture.
    assert len(tiles) >= 2 * 2 + 2
    assert (alone.manifest.facts["tiled"], together.manifest.facts["tiled"]) == (0, 2)
    check_alike(rows(together), rows(alone), exact={"f.png", "g.png"})
    assert list(dict.fromkeys(row["image"] for row in rows(together))) == sorted([*LARGE, *SMALL])
    for name in ("summary", "gains"):
        assert len(together.manifest.facts[name]) == len(alone.manifest.facts[name])
    assert not (together.folder.path / "pixels").exists()
    shown = [path.name for path in (together.folder.path / "pictures").iterdir()]
    assert shown == [path.name for path in (alone.folder.path / "pictures").iterdir()]


def test_more_patches_than_are_held_at_once_come_in_blocks(trained: tuple[Path, Path], pictures: Path) -> None:
    draws = "evaluate.bootstrap_draws=2"
    exact = evaluated(trained, pictures, WHOLE, draws)
    blocks = evaluated(trained, pictures, WHOLE, draws, "evaluate.exact_patches=0")
    assert exact.manifest.facts["blocks"] == 0 and 2 < blocks.manifest.facts["blocks"] <= 7
    for one, other in zip(exact.manifest.facts["summary"], blocks.manifest.facts["summary"], strict=True):
        for name in ("system", "setting", "num_images", "bpp", "psnr", "top_octave_energy"):
            assert one[name] == other[name]
        assert one["fd_effnet"] == pytest.approx(other["fd_effnet"], rel=1e-5)
        assert np.isfinite(other["kd_effnet"])
    assert [gain["metric"] for gain in blocks.manifest.facts["gains"]] == ["FD-EffNet", "KD-EffNet"]
    assert all(gain["low"] <= gain["high"] for gain in blocks.manifest.facts["gains"])
    assert (exact.folder.path / "features").exists()
    left = {path.name for path in blocks.folder.path.rglob("*") if path.suffix == ".npz"}
    assert not left
    page = blocks.folder.read("report.html").decode()
    assert "blocks of images" in page and "blocks of images" not in exact.folder.read("report.html").decode()


def test_everything_may_lie_on_s3(trained: tuple[Path, Path], pictures: Path, s3: Folder) -> None:
    """Pictures and workspace: tiles, sums and the rest are written there and read back, with the same figures."""
    photographs, workspace = trained
    for path in pictures.iterdir():
        (s3 / "pictures").write(path.name, path.read_bytes())
    for entry in Folder(str(workspace)).files():
        (s3 / "workspace").write(entry.key, Folder(str(workspace)).read(entry.key))
    settings = ["evaluate.tile_pixels=65536", "evaluate.exact_patches=0", "evaluate.bootstrap_draws=2"]
    overrides = ["evaluate.max_images=null", "evaluate.baselines=[jpeg]", *settings]
    remote = [f"evaluate.data={(s3 / 'pictures').uri}", f"workspace={(s3 / 'workspace').uri}"]
    found = retrain(tiny_config(photographs, workspace, *overrides, *remote), Silent())
    assert [done.skipped for done in found] == [True, True, True, True, True, False]
    here = evaluated(trained, pictures, *settings)
    assert found[-1].digest == here.digest
    for one, other in zip(found[-1].manifest.facts["summary"], here.manifest.facts["summary"], strict=True):
        assert one["psnr"] == other["psnr"] and one["fd_effnet"] == pytest.approx(other["fd_effnet"], rel=1e-9)
    keys = [{entry.key for entry in done.folder.files()} for done in (found[-1], here)]
    assert keys[0] == keys[1] and not any(key.startswith(("pixels/", "features/")) for key in keys[0])


def test_a_report_lists_a_limited_number_of_images_with_a_note(
    trained: tuple[Path, Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "LISTED_IMAGES", 2)
    done = evaluated(trained, pictures, WHOLE, "evaluate.bootstrap_draws=0")
    page = done.folder.read("report.html").decode()
    assert "The table lists 2 of 7 images; images.parquet holds all of them." in page
    assert len({row["image"] for row in rows(done)}) == 7


def test_tiles_without_room_for_context_are_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    Image.fromarray(photograph(300, 300)).save(tmp_path / "a.png")
    overrides = ["evaluate.tile_pixels=65536", "decoder.unet.blocks=[3, 3]", "decoder.adversarial=null"]
    with pytest.raises(ConfigError, match=r"^evaluate\.tile_pixels: got 65536, expected at least \d+, for a network"):
        evaluated(trained, tmp_path, *overrides)
