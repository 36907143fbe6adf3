"""Photographs dropped from a corpus: duplicates, pictures of the evaluation, and those that fail a filter."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hfd.data.photo_record import PhotoRecord, records_to_table
from hfd.data.shards import SPLITS, iterate_rows
from hfd.io.storage import Folder
from pipelines.prepare import rewrite
from pipelines.prepare import step as prepare
from pipelines.prepare.deduplicate import ReferencePictures, deduplicate
from tests.support.pictures import photograph
from tests.support.snapshot_runs import (
    DEDUPLICATED,
    check_same,
    kept,
    outputs,
    reasons,
    run,
    variants,
    write,
    write_many,
)
from tests.support.tiny_run import jpeg

pytestmark = pytest.mark.integration


def test_of_equal_pictures_the_smallest_key_stays_and_of_near_ones_the_largest(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    variants(photographs)
    assert reasons(run(photographs, tmp_path / "w")) == {}
    exact = run(photographs, tmp_path / "w", "prepare.drop_duplicates=true")
    assert reasons(exact) == {"40 same bytes.png": "duplicate"}
    near = run(photographs, tmp_path / "w", *DEDUPLICATED)
    assert reasons(near) == {
        "05 recompressed.jpg": "near-duplicate",
        "30 smaller.jpg": "near-duplicate",
        "40 same bytes.png": "duplicate",
    }
    assert kept(near) == {*(f"{i:03d}.jpg" for i in range(10, 18)), "20 original.png"}
    assert near.manifest.facts["reasons"] == {"duplicate": 1, "near-duplicate": 2}
    rejected = pq.read_table(io.BytesIO(near.folder.read("rejects.parquet"))).to_pylist()
    assert all(row["message"].startswith(f"{row['photo']}: got ") and row["reason"] for row in rejected)
    crops = sum(1 for split in SPLITS for _ in iterate_rows(near.folder, split))
    assert crops == near.manifest.facts["train_crops"] + near.manifest.facts["validation_crops"] == 9


@pytest.mark.parametrize("photos_per_shard", [1, 3, 100])
@pytest.mark.parametrize("names", [("0", "1", "2", "3", "4"), ("4", "3", "2", "1", "0"), ("2", "0", "4", "1", "3")])
def test_the_largest_of_near_pictures_stays_whatever_its_key_and_shard(
    tmp_path: Path, names: tuple[str, ...], photos_per_shard: int
) -> None:
    """By pixels, then by bytes: a thumbnail whose name comes first is the one that is dropped."""
    photographs = tmp_path / "photographs"
    write_many(photographs, range(10, 18))
    picture = Image.fromarray(photograph(200, 240, seed=500))
    versions = [
        (picture.resize((192, 160), Image.Resampling.LANCZOS), "PNG", {}),
        (picture, "JPEG", {"quality": 60}),
        (picture, "PNG", {}),
        (picture.resize((180, 150), Image.Resampling.LANCZOS), "BMP", {}),  # uncompressed
        (picture, "JPEG", {"quality": 90}),
    ]
    for name, (image, kind, options) in zip(names, versions, strict=True):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        write(photographs, f"{name}.{kind.lower()}", buffer.getvalue())
    done = run(photographs, tmp_path / "w", *DEDUPLICATED, f"prepare.photos_per_shard={photos_per_shard}")
    assert kept(done) == {*(f"{i:03d}.jpg" for i in range(10, 18)), f"{names[2]}.png"}
    assert done.manifest.facts["reasons"] == {"near-duplicate": 4}


def test_the_kept_pictures_are_those_of_a_search_over_all_pairs() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        count = 40
        rows = [
            PhotoRecord(
                f"{i:02d}", int(rng.integers(1, 4)), "", content=str(i), width=int(rng.integers(1, 4)),
                height=int(rng.integers(1, 4)), hash=int(rng.integers(0, 64)), crops=1,
            )
            for i in range(count)
        ]  # fmt: skip
        found = deduplicate(records_to_table(rows), ReferencePictures(), 1, among_themselves=True)
        stay: list[PhotoRecord] = []
        order = sorted(rows, key=lambda row: (-(row.width or 0) * (row.height or 0), -row.size, row.photo))
        for row in order:
            if all(((row.hash or 0) ^ (other.hash or 0)).bit_count() > 1 for other in stay):
                stay.append(row)
        kept_keys = found.filter(pc.is_null(found["reason"]))["photo"].to_pylist()
        assert kept_keys == sorted(row.photo for row in stay)


def test_duplicates_do_not_count_as_unusable(tmp_path: Path) -> None:
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
    # Without the setting the evaluation has no effect, not even on the key.
    alone, beside = run(photographs, tmp_path / "w"), run(photographs, tmp_path / "w", evaluation=pictures)
    assert beside.skipped and beside.step.key == alone.step.key


def test_another_evaluation_is_another_step_that_reads_no_photograph_twice(tmp_path: Path, reads: list[str]) -> None:
    photographs, pictures = tmp_path / "photographs", tmp_path / "pictures"
    variants(photographs)
    settings = ("prepare.drop_evaluation=true", *DEDUPLICATED)
    write(pictures, "a.png", (photographs / "20 original.png").read_bytes())
    first = run(photographs, tmp_path / "w", *settings, evaluation=pictures)
    write(pictures, "a.png", (photographs / "012.jpg").read_bytes())
    reads.clear()
    second = run(photographs, tmp_path / "w", *settings, evaluation=pictures)
    assert second.step.key != first.step.key
    assert sorted(reads) == ["20 original.png", "a.png"]  # the one that may stay now
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

    rewrite_part = rewrite.rewrite_part
    with monkeypatch.context() as killed:
        killed.setattr(Folder, "write", write_some)
        with pytest.raises(Killed):
            run(photographs, tmp_path / "killed", *DEDUPLICATED)
    again: list[int] = []
    monkeypatch.setattr(
        prepare, "rewrite_part", lambda *arguments: (again.append(arguments[0].index), rewrite_part(*arguments))[1]
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
