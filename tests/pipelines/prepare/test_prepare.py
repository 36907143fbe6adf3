"""Prepare a mixed folder: kept and rejected photographs with reasons, and the work of a rerun."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hfd.config import Config
from hfd.data.shards import SPLITS, iterate_rows
from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import list_corpus
from pipelines.engine.base import MapJob
from pipelines.engine.inline import Inline
from pipelines.prepare import step as prepare
from pipelines.runs.parts import IsolatedItem, PartTask
from pipelines.runs.step import Done
from tests.support.pictures import photograph
from tests.support.tiny_run import jpeg, tiny_config

pytestmark = pytest.mark.integration

GOOD = 12
BAD = {
    "bomb.png": "too-large",
    "cut.jpg": "truncated",
    "small.png": "too-small",
    "text.jpg": "not-an-image",
}


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(999)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def messy_files() -> dict[str, bytes]:
    files = {f"{'late' if i % 3 else 'early'}/{i:02d}.jpg": jpeg(150 + 7 * i, 230 - 7 * i, seed=i) for i in range(GOOD)}
    small = io.BytesIO()
    Image.fromarray(photograph(60, 90)).save(small, "PNG")
    whole = jpeg(160, 160, seed=100)
    return files | {
        "bomb.png": bomb(60_000, 60_000),
        "cut.jpg": whole[: len(whole) // 2],
        "small.png": small.getvalue(),
        "text.jpg": b"not a picture at all",
        "notes.txt": b"left alone",
    }


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messy")
    for name, data in messy_files().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def context_of(config: Config) -> Context:
    return Context(config, Folder(config.workspace_uri), Inline(config.cluster))


def run(photographs: Path | str, workspace: Path | str, *overrides: str) -> Done:
    context = context_of(tiny_config(photographs, workspace, "prepare.max_reject_share=0.5", *overrides))
    return prepare.plan(replace(context, inputs=Inputs(list_corpus(str(photographs), setting="data.uri")))).run()


def crops(done: Done) -> dict[str, tuple[str, str, bytes]]:
    """Of every crop: its split, photograph and pixels, by id."""
    return {
        row.id: (split, row.photo, row.pictures["x"].tobytes())
        for split in SPLITS
        for row in iterate_rows(done.folder, split)
    }


def rejects(folder: Folder) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(folder.read("rejects.parquet"))).to_pylist()
    return rows


def test_good_photographs_become_crops_and_bad_ones_rows_with_a_reason(messy: Path, tmp_path: Path) -> None:
    done = run(messy, tmp_path)
    facts = done.manifest.facts
    assert facts["photos"] == GOOD + len(BAD) and facts["rejected"] == len(BAD) and facts["other_files"] == 1
    assert facts["reasons"] == dict.fromkeys(sorted(BAD.values()), 1)
    found = rejects(done.folder)
    assert {row["photo"]: row["reason"] for row in found} == BAD
    assert all(row["message"].startswith(f"{row['photo']}: got ") for row in found)
    kept = crops(done)
    assert {photo for _, photo, _ in kept.values()} == {name for name in messy_files() if name[-6:-4].isdigit()}
    for split in SPLITS:
        assert facts[f"{split}_crops"] == sum(one[0] == split for one in kept.values()) > 0
    assert facts["pixels"] * 3 == sum(len(pixels) for _, _, pixels in kept.values())


def test_two_runs_agree_to_the_bit(messy: Path, tmp_path: Path) -> None:
    one, other = run(messy, tmp_path / "one"), run(messy, tmp_path / "other")
    assert one.digest == other.digest and crops(one) == crops(other)
    names = [entry.key for entry in one.folder.files() if entry.key.endswith(".parquet")]
    assert names and all(one.folder.read(name) == other.folder.read(name) for name in names)


def test_the_split_is_the_photographs_own(messy: Path, tmp_path: Path) -> None:
    """Neither the name of a photograph nor its neighbours move it to the other side."""
    together = crops(run(messy, tmp_path / "together"))
    alone = tmp_path / "alone"
    alone.mkdir()
    for i, name in enumerate(sorted(messy_files())):
        if name[-6:-4].isdigit() and i % 2:
            (alone / f"renamed {i}.jpg").write_bytes((messy / name).read_bytes())
    for id_, (split, _, pixels) in crops(run(alone, tmp_path / "half")).items():
        assert (split, pixels) == (together[id_][0], together[id_][2])
    other_seed = crops(run(messy, tmp_path / "seed", "seed=2"))
    assert {id_: one[0] for id_, one in other_seed.items()} != {id_: one[0] for id_, one in together.items()}


def test_the_shard_plan_does_not_change_the_crops(messy: Path, tmp_path: Path) -> None:
    small = run(messy, tmp_path, "prepare.photos_per_shard=1")
    large = run(messy, tmp_path, "prepare.photos_per_shard=100")
    assert small.step.key != large.step.key
    assert crops(small) == crops(large)
    assert sorted(row["photo"] for row in rejects(small.folder)) == sorted(BAD)
    assert len([e for e in small.folder.files() if e.key.startswith("parts/")]) == GOOD + len(BAD)
    assert len([e for e in large.folder.files() if e.key.startswith("parts/")]) == 1


def test_too_many_rejects_stop_the_step_with_the_numbers(messy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(messy, tmp_path, "prepare.max_reject_share=0.2")
    assert caught.value.reason == "too-many-rejects"
    message = str(caught.value)
    assert message.startswith(f"data.uri: 4 of 16 photographs in {messy} rejected (1 not-an-image, 1 too-large, 1 too-")
    assert "expected at most 20%" in message and "prepare.max_reject_share" in message and "\n" not in message
    (folder,) = (tmp_path / "prepare").iterdir()
    assert f"{folder}/rejects.parquet" in message
    assert f"The first: {rejects(Folder(str(folder)))[0]['message'].rstrip('.')}. See" in message
    assert len(rejects(Folder(str(folder)))) == len(BAD) and not (folder / "manifest.json").exists()


def test_allowing_more_rejects_goes_on_without_cutting_again(messy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run(messy, tmp_path, "prepare.max_reject_share=0.2")
    (folder,) = (tmp_path / "prepare").iterdir()

    def stamps() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*-of-*.parquet")}

    before = stamps()
    done = run(messy, tmp_path)
    assert done.manifest.facts["rejected"] == len(BAD)
    assert len(before) == 16 and stamps() == before
    assert done.digest == run(messy, tmp_path / "afresh").digest


@pytest.mark.parametrize(
    "gone", [["parts/00001-of-00008.json"], ["parts/00000-of-00008.json", "train-00000-of-00008.parquet"]]
)
def test_parts_that_are_gone_are_made_again_the_same(messy: Path, tmp_path: Path, gone: list[str]) -> None:
    first = run(messy, tmp_path)
    files = {entry.key: first.folder.read(entry.key) for entry in first.folder.files()}
    for name in ["manifest.json", *gone]:
        first.folder.delete(name)
    second = run(messy, tmp_path)
    assert not second.skipped and second.digest == first.digest
    again = {entry.key: second.folder.read(entry.key) for entry in second.folder.files()}
    assert files.pop("manifest.json") != b"" and again.pop("manifest.json") != b""
    assert files == again


def test_a_photograph_that_cannot_be_fetched_stops_the_step(messy: Path, tmp_path: Path) -> None:
    """A failing server says nothing about a photograph: no rejects table is written."""
    photographs = tmp_path / "photographs"
    shutil.copytree(messy, photographs)
    (photographs / "failing").symlink_to("/proc/self/mem")  # reading its first bytes is an I/O error
    config = tiny_config(photographs, tmp_path)
    corpus = list_corpus(str(photographs), setting="data.uri")
    unreadable = replace(corpus.photos[0], name="failing")
    broken = replace(corpus, photos=(unreadable, *corpus.photos[1:]))
    with pytest.raises(DataError) as caught:
        prepare.plan(replace(context_of(config), inputs=Inputs(broken))).run()
    assert caught.value.reason == "io"
    assert not list((tmp_path / "prepare").rglob("rejects.parquet"))


def test_photographs_that_are_all_held_out_are_an_error(messy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.uri: got no training crops from 16 photographs"):
        run(messy, tmp_path, "prepare.validation_share=0.999999")


def test_from_s3_and_to_s3_the_bits_are_the_same(messy: Path, tmp_path: Path, s3: Folder) -> None:
    for name, data in messy_files().items():
        s3.write(f"photographs/{name}", data)
    local = run(messy, tmp_path / "local")
    fetched = run(f"{s3.uri}/photographs", tmp_path / "fetched")
    remote = run(f"{s3.uri}/photographs", f"{s3.uri}/workspace")
    assert local.digest == fetched.digest == remote.digest
    assert remote.folder.uri.startswith("s3://") and crops(remote) == crops(local)
    assert fetched.manifest.facts == remote.manifest.facts == local.manifest.facts
    assert run(f"{s3.uri}/photographs", f"{s3.uri}/workspace").skipped
    x = next(iterate_rows(remote.folder, "train")).pictures["x"]
    assert x.dtype == np.uint8 and x.shape[2] == 3


@pytest.mark.parametrize("reason", ["connection", "io", "disk-full"])
def test_an_outage_stops_the_step_and_blames_no_photograph(
    messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def fail(_folder: Folder, _name: str) -> bytes:
        raise DataError("the world is away", reason=reason)

    with monkeypatch.context() as away:
        away.setattr(Folder, "read", fail)
        with pytest.raises(DataError, match="the world is away"):
            run(messy, tmp_path / "w")
    assert list((tmp_path / "w").rglob("*.parquet")) == []
    assert run(messy, tmp_path / "w").manifest.facts["rejected"] == len(BAD)


class Fragile(Inline):
    """An engine whose workers die on one photograph, wherever it is still to be decoded."""

    def map(self, job: MapJob) -> None:
        assert job.load is None and job.on_death is not None
        for item in job.items:
            if deadly(item):
                job.on_death(item)
            else:
                job.on_done(job.work(item))


DEADLY = "a.jpg"


def deadly(item: PartTask | IsolatedItem) -> bool:
    if isinstance(item, IsolatedItem):
        return item.task.part.payload.photos[item.item].key == DEADLY
    plan = item.part.payload
    return any(photo.key == DEADLY and place not in plan.killers for place, photo in enumerate(plan.photos))


def test_a_photograph_that_kills_its_worker_is_named_and_costs_no_other(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index, name in enumerate([DEADLY, "b.jpg", "c.jpg", "d.jpg", "e.jpg"]):
        (photographs / name).write_bytes(jpeg(200, 220, seed=index))
    whole = crops(run(photographs, tmp_path / "whole"))
    config = tiny_config(photographs, tmp_path / "fragile")
    context = Context(config, Folder(config.workspace_uri), Fragile(config.cluster))
    done = prepare.plan(replace(context, inputs=Inputs(list_corpus(str(photographs), setting="data.uri")))).run()
    assert done.manifest.facts["reasons"] == {"killed-worker": 1}
    (reject,) = rejects(done.folder)
    assert (reject["photo"], reject["reason"]) == (DEADLY, "killed-worker")
    assert crops(done) == {key: crop for key, crop in whole.items() if crop[1] != DEADLY}
    assert len(crops(done)) == 4
