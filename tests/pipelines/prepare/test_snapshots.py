"""A corpus that grows: only new photographs are read, and the output is that of a full run."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import list_corpus
from pipelines.corpus.photo import Photo
from pipelines.engine.inline import Inline
from pipelines.prepare import step as prepare
from pipelines.prepare.photo_table import TABLE
from tests.support.snapshot_runs import DEDUPLICATED, check_same, kept, reasons, run, table, write, write_many
from tests.support.tiny_run import jpeg, tiny_config

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("settings", [(), DEDUPLICATED])
def test_a_grown_corpus_is_prepared_from_new_photographs_only(
    tmp_path: Path, reads: list[str], settings: tuple[str, ...]
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


def test_crops_of_many_row_groups_are_copied_from_the_right_places(tmp_path: Path, reads: list[str]) -> None:
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


def test_a_changed_photograph_is_read_again_and_a_changed_setting_reads_all(tmp_path: Path, reads: list[str]) -> None:
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


def test_a_photograph_that_was_dropped_comes_back_when_its_original_goes(tmp_path: Path, reads: list[str]) -> None:
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


def test_an_earlier_snapshot_that_is_damaged_or_gone_only_costs_time(tmp_path: Path, reads: list[str]) -> None:
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


def test_temporary_failures_are_tried_again(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
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
    done = prepare.plan(
        Context(config, Folder(config.workspace_uri), Inline(config.cluster), inputs=Inputs(corpus))
    ).run()
    assert {name: row["reason"] for name, row in table(done).items() if row["reason"]} == {
        "002.jpg": "changed",
        "003.jpg": "changed",
    }
    message = table(done)["002.jpg"]["message"]
    assert message.startswith("002.jpg: got ") and message.endswith("as listed. Run again to list anew")


def test_a_key_with_dots_for_folders_is_rejected_by_name(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    write_many(photographs, range(4))
    corpus = list_corpus(str(photographs), setting="data.uri")
    sly = replace(corpus.photos[0], key="../../000.jpg", name="../../000.jpg")
    config = tiny_config(photographs, tmp_path / "w", "prepare.max_reject_share=0.9")
    context = Context(config, Folder(config.workspace_uri), Inline(config.cluster))
    done = prepare.plan(replace(context, inputs=Inputs(replace(corpus, photos=(sly, *corpus.photos[1:]))))).run()
    assert reasons(done) == {"../../000.jpg": "bad-key"}
