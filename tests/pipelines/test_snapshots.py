"""A corpus that grows: only what is new is read, and what comes out is as if all of it were."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import photograph
from PIL import Image
from tiny_run import jpeg, tiny_config

from hfd.data.shards import SPLITS, iterate_rows
from hfd.errors import DataError
from hfd.storage import Folder
from pipelines import prepare, prepare_part
from pipelines.cluster import Inline
from pipelines.context import Context
from pipelines.corpus import Photo, list_corpus
from pipelines.photo_table import TABLE
from pipelines.steps import Done

Reads = list[str]

DEDUPLICATED = ("prepare.drop_duplicates=true", "prepare.near_bits=4")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The keys of the photographs that were read, from the last time it was cleared."""
    seen: Reads = []
    original = Photo.read

    def spy(self: Photo) -> bytes:
        seen.append(self.key)
        return original(self)

    monkeypatch.setattr(Photo, "read", spy)
    return seen


def write(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    os.utime(folder / name, ns=(1, 1))  # the same in every copy of the folder


def write_many(folder: Path, numbers: range) -> None:
    for i in numbers:
        write(folder, f"{i:03d}.jpg", jpeg(150 + 3 * (i % 9), 190 - 3 * (i % 7), seed=i))


def run(photographs: Path | str, workspace: Path | str, *overrides: str, evaluation: Path | str | None = None) -> Done:
    config = tiny_config(photographs, workspace, "prepare.max_reject_share=0.9", *overrides)
    context = Context(config, Folder(config.workspace_uri), Inline(config.cluster))
    pictures = list_corpus(str(evaluation), setting="evaluate.data") if evaluation is not None else None
    return prepare.run(context, list_corpus(str(photographs), setting="data.uri"), pictures)


def outputs(done: Done) -> dict[str, bytes]:
    """The shards and tables that later steps and people read."""
    names = [entry.key for entry in done.folder.files() if "/" not in entry.key and entry.key != "manifest.json"]
    return {name: done.folder.read(name) for name in names}


def table(done: Done) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(io.BytesIO(done.folder.read(TABLE))).to_pylist()
    return {row["photo"]: row for row in rows}


def kept(done: Done) -> set[str]:
    return {row.photo for split in SPLITS for row in iterate_rows(done.folder, split)}


def check_same(grown: Done, afresh: Done) -> None:
    assert grown.digest == afresh.digest and grown.step.key == afresh.step.key
    assert outputs(grown) == outputs(afresh)
    assert {**grown.manifest.facts, "copied": 0} == afresh.manifest.facts


@pytest.mark.parametrize("settings", [(), DEDUPLICATED])
def test_a_grown_corpus_is_prepared_from_what_is_new_alone(
    tmp_path: Path, reads: Reads, settings: tuple[str, ...]
) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(20, 60))
    write(photographs, "030-broken.jpg", b"no picture")
    run(photographs, tmp_path / "grown", *settings)
    assert len(reads) == 41
    # Before, between and behind: every shard of the new plan holds something of two of the old.
    new = ["001.jpg", "030a.jpg", "041a.jpg", "070.jpg"]
    for i, name in enumerate(new):
        write(photographs, name, jpeg(160, 170, seed=1000 + i))
    (photographs / "050.jpg").unlink()
    reads.clear()
    grown = run(photographs, tmp_path / "grown", *settings)
    assert sorted(reads) == new
    assert grown.manifest.facts["copied"] == 40 and grown.manifest.facts["reasons"] == {"not-an-image": 1}
    check_same(grown, run(photographs, tmp_path / "afresh", *settings))
    # And once more, from a snapshot that was itself copied.
    write(photographs, "045a.jpg", jpeg(160, 170, seed=2000))
    reads.clear()
    again = run(photographs, tmp_path / "grown", *settings)
    assert reads == ["045a.jpg"]
    check_same(again, run(photographs, tmp_path / "afresh again", *settings))


def test_crops_of_many_row_groups_are_copied_from_the_right_places(tmp_path: Path, reads: Reads) -> None:
    """Several crops a photograph and large shards: a photograph's crops straddle row groups."""
    settings = ("prepare.max_crops_per_photo=4", "prepare.source_crop_px=128", "prepare.photos_per_shard=25")
    photographs = tmp_path / "photographs"
    for i in range(40):
        write(photographs, f"{i:03d}.jpg", jpeg(260 + i, 390 - i, seed=i))
    run(photographs, tmp_path / "grown", *settings)
    write(photographs, "007a.jpg", jpeg(300, 300, seed=77))
    reads.clear()
    grown = run(photographs, tmp_path / "grown", *settings)
    assert reads == ["007a.jpg"] and grown.manifest.facts["train_crops"] > 80
    check_same(grown, run(photographs, tmp_path / "afresh", *settings))


def test_a_changed_photograph_is_read_again_and_a_changed_setting_reads_all(tmp_path: Path, reads: Reads) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(10))
    run(photographs, tmp_path / "w")
    write(photographs, "004.jpg", jpeg(180, 180, seed=500))
    os.utime(photographs / "005.jpg", ns=(2, 2))
    reads.clear()
    check_same(run(photographs, tmp_path / "w"), run(photographs, tmp_path / "afresh"))
    assert reads[:2] == ["004.jpg", "005.jpg"] and len(reads) == 12
    for change in ("seed=9", "prepare.downscale=0.9", "prepare.min_sharpness=1"):
        reads.clear()
        run(photographs, tmp_path / "w", change)
        assert len(reads) == 10
    # How many photographs a shard holds says nothing about any of them.
    reads.clear()
    other_plan = run(photographs, tmp_path / "w", "prepare.photos_per_shard=3")
    assert reads == []
    check_same(other_plan, run(photographs, tmp_path / "afresh 3", "prepare.photos_per_shard=3"))


def test_a_photograph_that_was_dropped_comes_back_when_its_original_goes(tmp_path: Path, reads: Reads) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(10, 18))
    twice = jpeg(170, 180, seed=99)
    write(photographs, "a.jpg", twice)
    write(photographs, "z.jpg", twice)
    first = run(photographs, tmp_path / "w", *DEDUPLICATED)
    assert table(first)["z.jpg"]["reason"] == "duplicate" and "z.jpg" not in kept(first)
    (photographs / "a.jpg").unlink()
    reads.clear()
    second = run(photographs, tmp_path / "w", *DEDUPLICATED)
    assert reads == ["z.jpg"] and "z.jpg" in kept(second)
    check_same(second, run(photographs, tmp_path / "afresh", *DEDUPLICATED))
    # And goes again, unread, when a copy with a smaller key appears.
    write(photographs, "010a.jpg", twice)
    reads.clear()
    third = run(photographs, tmp_path / "w", *DEDUPLICATED)
    assert reads == ["010a.jpg"] and "z.jpg" not in kept(third)
    check_same(third, run(photographs, tmp_path / "afresh 3", *DEDUPLICATED))


def test_an_earlier_snapshot_that_is_damaged_or_gone_only_costs_time(tmp_path: Path, reads: Reads) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(12))
    first = run(photographs, tmp_path / "w")
    shard = first.folder.path / "train-00002-of-00006.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1  # a bit of a picture
    shard.write_bytes(data)
    (first.folder.path / "train-00004-of-00006.parquet").unlink()
    write(photographs, "012.jpg", jpeg(170, 180, seed=99))
    reads.clear()
    grown = run(photographs, tmp_path / "w")
    assert 1 < len(reads) < 6
    check_same(grown, run(photographs, tmp_path / "afresh"))
    (grown.folder.path / TABLE).write_bytes(b"not a table")
    write(photographs, "013.jpg", jpeg(170, 180, seed=98))
    check_same(run(photographs, tmp_path / "w"), run(photographs, tmp_path / "afresh 2"))
    shutil.rmtree(tmp_path / "w" / "prepare" / run(photographs, tmp_path / "w").step.key)
    assert not run(photographs, tmp_path / "w").skipped


def test_what_failed_for_the_moment_is_tried_again(
    tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(8))
    original = Photo.read

    def deny(self: Photo) -> bytes:
        if self.key == "003.jpg":
            raise DataError("003.jpg: the server refuses", reason="permission")
        return original(self)

    with monkeypatch.context() as denied:
        denied.setattr(Photo, "read", deny)
        assert run(photographs, tmp_path / "w").manifest.facts["reasons"] == {"permission": 1}
    write(photographs, "008.jpg", jpeg(170, 180, seed=98))
    reads.clear()
    grown = run(photographs, tmp_path / "w")
    assert reads == ["003.jpg", "008.jpg"] and not grown.manifest.facts["reasons"]
    check_same(grown, run(photographs, tmp_path / "afresh"))


def test_a_photograph_that_changed_since_the_listing_is_rejected(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(6))
    corpus = list_corpus(str(photographs), setting="data.uri")
    write(photographs, "002.jpg", jpeg(170, 180, seed=98))
    os.utime(photographs / "003.jpg", ns=(5, 5))
    config = tiny_config(photographs, tmp_path / "w", "prepare.max_reject_share=0.9")
    done = prepare.run(Context(config, Folder(config.workspace_uri), Inline(config.cluster)), corpus)
    assert {name: row["reason"] for name, row in table(done).items() if row["reason"]} == {
        "002.jpg": "changed",
        "003.jpg": "changed",
    }
    message = table(done)["002.jpg"]["message"]
    assert message.startswith("002.jpg: got ") and message.endswith("as listed. Run again to list anew")


def variants(folder: Path) -> None:
    """Eight pictures of their own; one of them again in other guises."""
    write_many(folder, range(10, 18))
    picture = Image.fromarray(photograph(200, 240, seed=500))

    def save(name: str, image: Image.Image, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if name.endswith("png") else "JPEG", **options)
        write(folder, name, buffer.getvalue())

    save("20 original.png", picture)
    save("30 smaller.jpg", picture.resize((180, 150), Image.Resampling.LANCZOS), quality=85)
    save("05 recompressed.jpg", picture, quality=60)
    write(folder, "40 same bytes.png", (folder / "20 original.png").read_bytes())


def reasons(done: Done) -> dict[str, str]:
    return {name: row["reason"] for name, row in table(done).items() if row["reason"]}


def test_of_pictures_that_are_there_twice_the_smallest_key_stays(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    variants(photographs)
    assert reasons(run(photographs, tmp_path / "w")) == {}
    exact = run(photographs, tmp_path / "w", "prepare.drop_duplicates=true")
    assert reasons(exact) == {"40 same bytes.png": "duplicate"}
    near = run(photographs, tmp_path / "w", *DEDUPLICATED)
    assert reasons(near) == {
        "20 original.png": "near-duplicate",
        "30 smaller.jpg": "near-duplicate",
        "40 same bytes.png": "duplicate",
    }
    assert kept(near) == {*(f"{i:03d}.jpg" for i in range(10, 18)), "05 recompressed.jpg"}
    assert near.manifest.facts["reasons"] == {"duplicate": 1, "near-duplicate": 2}
    rejected = pq.read_table(io.BytesIO(near.folder.read("rejects.parquet"))).to_pylist()
    assert all(row["message"].startswith(f"{row['photo']}: got ") and row["reason"] for row in rejected)
    crops = sum(1 for split in SPLITS for _ in iterate_rows(near.folder, split))
    assert crops == near.manifest.facts["train_crops"] + near.manifest.facts["validation_crops"] == 9


def test_what_is_twice_does_not_count_as_unusable(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(4))
    for i in range(12):
        write(photographs, f"copy {i}.jpg", jpeg(150, 190, seed=0))
    done = run(photographs, tmp_path / "w", *DEDUPLICATED, "prepare.max_reject_share=0.1")
    assert done.manifest.facts["reasons"] == {"duplicate": 12}


def test_pictures_of_the_evaluation_are_kept_out(tmp_path: Path) -> None:
    photographs, pictures = tmp_path / "photographs", tmp_path / "pictures"
    variants(photographs)
    write(pictures, "kodim.png", (photographs / "20 original.png").read_bytes())
    write(pictures, "no picture.png", b"x")
    apart = "prepare.drop_evaluation=true"
    exact = run(photographs, tmp_path / "w", apart, evaluation=pictures)
    assert reasons(exact) == dict.fromkeys(["20 original.png", "40 same bytes.png"], "in-evaluation")
    near = run(photographs, tmp_path / "w", apart, *DEDUPLICATED, evaluation=pictures)
    assert set(reasons(near).values()) == {"in-evaluation"} and len(reasons(near)) == 4
    assert kept(near) == {f"{i:03d}.jpg" for i in range(10, 18)}
    # Without the setting the evaluation has no say, not even in the key.
    alone, beside = run(photographs, tmp_path / "w"), run(photographs, tmp_path / "w", evaluation=pictures)
    assert beside.skipped and beside.step.key == alone.step.key


def test_another_evaluation_is_another_step_that_reads_no_photograph_twice(tmp_path: Path, reads: Reads) -> None:
    photographs, pictures = tmp_path / "photographs", tmp_path / "pictures"
    variants(photographs)
    settings = ("prepare.drop_evaluation=true", *DEDUPLICATED)
    write(pictures, "a.png", (photographs / "20 original.png").read_bytes())
    first = run(photographs, tmp_path / "w", *settings, evaluation=pictures)
    write(pictures, "a.png", (photographs / "012.jpg").read_bytes())
    reads.clear()
    second = run(photographs, tmp_path / "w", *settings, evaluation=pictures)
    assert second.step.key != first.step.key
    assert sorted(reads) == ["05 recompressed.jpg", "a.png"]  # the one that may stay now
    check_same(second, run(photographs, tmp_path / "afresh", *settings, evaluation=pictures))


@pytest.mark.parametrize(
    ("setting", "reason", "spoil"),
    [
        ("prepare.min_jpeg_quality=40", "jpeg-quality", lambda x: (x, {"quality": 20})),
        ("prepare.min_colourfulness=3", "grey", lambda x: (np.repeat(x[..., :1], 3, axis=2), {})),
        ("prepare.min_sharpness=5", "blurred", lambda x: (np.full_like(x, 99), {})),
        ("prepare.max_clipped_share=0.3", "clipped", lambda x: (np.where(x > 100, 255, x), {})),
        ("prepare.max_aspect_ratio=1.8", "aspect-ratio", lambda x: (np.tile(x, (1, 2, 1)), {})),
    ],
)
def test_each_filter_rejects_with_its_reason(
    tmp_path: Path, setting: str, reason: str, spoil: Callable[[np.ndarray], tuple[np.ndarray, dict[str, int]]]
) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(6))
    x, options = spoil(photograph(180, 200, seed=77))
    buffer = io.BytesIO()
    Image.fromarray(x.astype(np.uint8)).save(buffer, "JPEG", **{"quality": 90, **options})
    write(photographs, "spoilt.jpg", buffer.getvalue())
    assert reasons(run(photographs, tmp_path / "w")) == {}
    done = run(photographs, tmp_path / "w", setting)
    assert reasons(done) == {"spoilt.jpg": reason} and done.manifest.facts["reasons"] == {reason: 1}


class Killed(BaseException):
    """A worker's end, at a moment of the test's choice."""


@pytest.mark.parametrize("survives", range(5))
def test_a_run_killed_while_duplicates_are_dropped_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    """Killed after so many writes of the second pass, between a shard and its record or between two shards."""
    photographs = tmp_path / "photographs"
    write_many(photographs, range(8))
    for i in range(8):
        write(photographs, f"{i:03d} again.jpg", (photographs / f"{i:03d}.jpg").read_bytes())
    expected = run(photographs, tmp_path / "undisturbed", *DEDUPLICATED)
    assert expected.manifest.facts["reasons"] == {"duplicate": 8}

    writes, original = [0], Folder.write

    def write_some(self: Folder, name: str, data: bytes) -> None:
        if "rewrites" in self.uri and name.startswith("parts/"):
            writes[0] += 1
            if writes[0] > survives:
                raise Killed
        original(self, name, data)

    rewrite = prepare_part.rewrite_part
    with monkeypatch.context() as killed:
        killed.setattr(Folder, "write", write_some)
        with pytest.raises(Killed):
            run(photographs, tmp_path / "killed", *DEDUPLICATED)
    again: list[int] = []
    monkeypatch.setattr(
        prepare, "rewrite_part", lambda *arguments: (again.append(arguments[0]), rewrite(*arguments))[1]
    )
    resumed = run(photographs, tmp_path / "killed", *DEDUPLICATED)
    assert again == list(range(survives, 8))
    check_same(resumed, expected)


def test_a_shard_cut_again_after_its_duplicates_were_dropped_loses_them_again(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    variants(photographs)
    first = run(photographs, tmp_path / "w", *DEDUPLICATED)
    before = outputs(first)
    for name in ("manifest.json", "parts/00005-of-00006.json", "parts/00003-of-00006.json"):
        first.folder.delete(name)
    second = run(photographs, tmp_path / "w", *DEDUPLICATED)
    assert not second.skipped and second.digest == first.digest and outputs(second) == before


def test_a_key_with_dots_for_folders_is_rejected_by_name(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(4))
    corpus = list_corpus(str(photographs), setting="data.uri")
    sly = replace(corpus.photos[0], key="../../000.jpg")
    config = tiny_config(photographs, tmp_path / "w", "prepare.max_reject_share=0.9")
    context = Context(config, Folder(config.workspace_uri), Inline(config.cluster))
    done = prepare.run(context, replace(corpus, photos=(sly, *corpus.photos[1:])))
    assert reasons(done) == {"../../000.jpg": "bad-key"}
