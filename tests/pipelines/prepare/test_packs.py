"""Photographs out of tars: the same crops as loose ones, shards that are added, cut tars, duplicates."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hfd.data.shards import SPLITS, iterate_rows
from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.listing import list_corpus
from pipelines.corpus.packs import members as packs
from pipelines.prepare.plans import PackPlan
from pipelines.prepare.shard import prepare_part
from pipelines.prepare.step import plan_shards
from pipelines.runs.parts import StepPart
from pipelines.runs.step import Done
from tests.support.command_line import Hfd
from tests.support.packs import tar_of
from tests.support.snapshot_runs import DEDUPLICATED, check_same, kept, reasons, run, table, write
from tests.support.tiny_run import jpeg, tiny_config, tiny_overrides

pytestmark = pytest.mark.integration

Pictures = Mapping[str, bytes]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return {f"d/{number:03d}.jpg": jpeg(150 + 3 * number, 190 - 3 * number, seed=number) for number in range(12)}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the packs that this process has opened."""
    seen: list[str] = []
    original = packs.open_version
    monkeypatch.setattr(packs, "open_version", lambda *place: (seen.append(place[1]), original(*place))[1])
    return seen


def shard(pictures: Pictures, start: int, stop: int) -> bytes:
    members: list[tuple[str, bytes]] = []
    for name, data in list(pictures.items())[start:stop]:
        members += [(name, data), (name.replace(".jpg", ".json"), b"{}")]
    return tar_of(members)


def write_shards(folder: Path, pictures: Pictures, *indices: int) -> None:
    for index in indices:
        write(folder, f"x-{index:05d}.tar", shard(pictures, 4 * index, 4 * index + 4))


def crops(done: Done) -> dict[str, bytes]:
    """Return every crop by its id, which comes from the content of its photograph, with the split before it."""
    return {f"{split} {row.id}": row.x.tobytes() for split in SPLITS for row in iterate_rows(done.folder, split)}


def test_pictures_of_tars_have_the_crops_of_loose_ones(tmp_path: Path, pictures: Pictures) -> None:
    for name, data in pictures.items():
        write(tmp_path / "loose", name, data)
    write_shards(tmp_path / "packed", pictures, 0, 1, 2)
    loose, packed = run(tmp_path / "loose", tmp_path / "w"), run(tmp_path / "packed", tmp_path / "w2")
    assert crops(loose) == crops(packed) and len(crops(loose)) >= 12
    assert set(table(packed)) == {f"x-{number // 4:05d}.tar/d/{number:03d}.jpg" for number in range(12)}
    assert packed.manifest.facts["packs"] == packed.manifest.facts["parts"] == 3
    pattern = run(f"{tmp_path}/packed/x-{{00000..00002}}.tar", tmp_path / "w3")
    assert pattern.step.key == packed.step.key and pattern.digest == packed.digest
    assert table(pattern) == table(packed)
    one = run(tmp_path / "packed/x-00001.tar", tmp_path / "w4")
    assert set(table(one)) == {f"x-00001.tar/d/{number:03d}.jpg" for number in range(4, 8)}


@pytest.mark.parametrize("settings", [(), DEDUPLICATED])
def test_an_added_shard_is_the_only_one_opened(
    tmp_path: Path, pictures: Pictures, opened: list[str], settings: tuple[str, ...]
) -> None:
    write_shards(tmp_path / "p", pictures, 0, 2)
    run(tmp_path / "p", tmp_path / "w", *settings)
    opened.clear()
    write_shards(tmp_path / "p", pictures, 1)
    grown = run(tmp_path / "p", tmp_path / "w", *settings)
    assert opened == ["x-00001.tar"] and grown.manifest.facts["copied"] == 8
    check_same(grown, run(tmp_path / "p", tmp_path / "afresh", *settings))
    # A shard that was written again is read again, alone.
    os.utime(tmp_path / "p/x-00002.tar", ns=(2, 2))
    opened.clear()
    run(tmp_path / "p", tmp_path / "w", *settings)
    assert opened == ["x-00002.tar"]


def test_other_members_of_packs_are_told_even_of_packs_that_are_not_opened(
    tmp_path: Path, pictures: Pictures, opened: list[str], hfd: Hfd
) -> None:
    for index, others in enumerate([["a.jxl", "b.cr2", ".c.jpg", "d.json"], ["e.jxl", "f.txt"]]):
        write_shards(tmp_path / "p", pictures, index)
        members = [*list(pictures.items())[4 * index : 4 * index + 4], *((name, b"x") for name in others)]
        write(tmp_path / "p", f"x-{index:05d}.tar", tar_of(members))
        opened.clear()
        ended = hfd("prepare", "-c", "demo", *tiny_overrides(tmp_path / "p", tmp_path / "w"))
        told = ended.out + ended.err
        assert ended.code == 0 and opened == [f"x-{index:05d}.tar"], told
        jxl, raw = (
            ("2 JPEG XL pictures (a.jxl, e.jxl)" if index else "1 JPEG XL picture (a.jxl)"),
            "1 camera raw picture",
        )
        assert f"data.uri: in packs, skipped {3 + index}: " in told and jxl in told and raw in told
        assert "1 hidden file or folder (.c.jpg)" in told and ".json" not in told


def test_planning_opens_nothing(tmp_path: Path, pictures: Pictures, opened: list[str]) -> None:
    write_shards(tmp_path / "p", pictures, 0, 1, 2)
    assert len(list_corpus(str(tmp_path / "p"), setting="data.uri").packs) == 3 and not opened


def test_duplicates_across_tars_are_dropped_and_come_back(
    tmp_path: Path, pictures: Pictures, opened: list[str]
) -> None:
    write_shards(tmp_path / "p", pictures, 0, 1)
    # Not in the order of keys, and with pictures of both of the others.
    again = [*list(pictures.items())[6:8], *list(pictures.items())[:2], ("z.jpg", jpeg(170, 180, seed=99))]
    write(tmp_path / "p", "x-00009.tar", tar_of(again[::-1]))
    first = run(tmp_path / "p", tmp_path / "w", *DEDUPLICATED)
    assert first.manifest.facts["reasons"] == {"duplicate": 4}
    assert {name.rpartition("/")[2] for name in kept(first)} == {*(f"{i:03d}.jpg" for i in range(8)), "z.jpg"}
    (tmp_path / "p/x-00000.tar").unlink()
    opened.clear()
    second = run(tmp_path / "p", tmp_path / "w", *DEDUPLICATED)
    assert opened == ["x-00009.tar"] and second.manifest.facts["reasons"] == {"duplicate": 2}
    assert "x-00009.tar/d/000.jpg" in kept(second)
    check_same(second, run(tmp_path / "p", tmp_path / "afresh", *DEDUPLICATED))


def test_an_earlier_shard_that_is_damaged_is_read_from_its_pack(
    tmp_path: Path, pictures: Pictures, opened: list[str]
) -> None:
    write_shards(tmp_path / "p", pictures, 0, 1)
    first = run(tmp_path / "p", tmp_path / "w")
    (first.folder.path / "train-00001-of-00002.parquet").unlink()
    write_shards(tmp_path / "p", pictures, 2)
    opened.clear()
    grown = run(tmp_path / "p", tmp_path / "w")
    assert opened == ["x-00001.tar", "x-00002.tar"]
    check_same(grown, run(tmp_path / "p", tmp_path / "afresh"))


def test_a_cut_tar_is_named_and_its_whole_members_are_used(tmp_path: Path, pictures: Pictures, hfd: Hfd) -> None:
    write_shards(tmp_path / "p", pictures, 0, 1)
    data = shard(pictures, 8, 12)
    write(tmp_path / "p", "x-00002.tar", data[: len(data) // 2])
    ended = hfd(
        "prepare", "-c", "demo", *tiny_overrides(tmp_path / "p", tmp_path / "w", "prepare.max_reject_share=0.3")
    )
    assert ended.code == 0 and "x-00002.tar: got a tar that is cut or damaged after" in ended.out + ended.err
    done = run(tmp_path / "p", tmp_path / "w2")
    cut = {key: reason for key, reason in reasons(done).items() if reason == "cut"}
    assert "x-00002.tar" in cut and all(key.startswith("x-00002.tar") for key in cut)
    assert len(kept(done)) == len(table(done)) - len(cut) > 8


def test_equal_names_in_several_tars_are_kept_and_counted(tmp_path: Path, pictures: Pictures, hfd: Hfd) -> None:
    values = list(pictures.values())
    for index in range(3):
        write(tmp_path / "p", f"{index}.tar", tar_of((f"{i}.jpg", values[4 * index + i]) for i in range(4)))
    ended = hfd("prepare", "-c", "demo", *tiny_overrides(tmp_path / "p", tmp_path / "w"))
    assert ended.code == 0
    assert "data.uri: got 4 names in more than one pack (0.jpg, 1.jpg, 2.jpg, ...)" in ended.out + ended.err
    assert len(kept(run(tmp_path / "p", tmp_path / "w2"))) == 12


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_sources_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, pictures: Pictures, request: pytest.FixtureRequest, kind: str, hfd: Hfd
) -> None:
    place = Folder(str(tmp_path / "p")) if kind == "local" else request.getfixturevalue("s3") / "p"
    place.write("x-0.tar", shard(pictures, 0, 2))
    place.write("gz/x.tar.gz", b"\x1f\x8b")
    place.write("none/x.tar", tar_of([("a.cr2", b"x"), ("a.txt", b"x")]))
    place.write("hidden/x.tar", b"\x1f\x8b\x08" + bytes(1000))
    for uri, words in (
        ("x-{5..9}.tar", "got a pattern that matches no file, expected some"),
        ("y*.tar", "got a pattern that matches no file, expected some"),
        ("x-{0..9}.tar", "got no file for 9 of 10 names (x-1.tar, x-2.tar, x-3.tar, ...), expected all"),
        ("gz", "got a tar compressed with gzip, expected a plain tar"),
        ("gz/x.tar.gz", "got a tar compressed with gzip, expected a plain tar"),
        ("hidden/x.tar", "got a tar compressed with gzip, expected a plain tar"),
        ("nothing.tar", "nothing.tar"),
        ("none", "(1 empty), expected at most 20%. The first: x.tar: got a tar without pictures (skipped 1: 1 camera"),
    ):
        ended = hfd("prepare", "-c", "demo", *tiny_overrides(f"{place.uri}/{uri}", tmp_path / "w"))
        lines = [line for line in ended.err.splitlines() if line.startswith("hfd:") or "got" in line]
        assert ended.code == 2 and len(lines) == 1 and words in lines[0], (uri, ended.err)


def test_a_folder_with_pictures_is_a_folder_of_pictures(tmp_path: Path, pictures: Pictures) -> None:
    write_shards(tmp_path / "p", pictures, 0)
    alone = list_corpus(str(tmp_path / "p"), setting="data.uri")
    write(tmp_path / "p", "a.jpg", b"x")
    both = list_corpus(str(tmp_path / "p"), setting="data.uri")
    assert len(alone.packs) == 1 and not alone.photos and str(alone) == "1 packs"
    assert [photo.key for photo in both.photos] == ["a.jpg"] and not both.packs and both.num_other_files == 1
    (tmp_path / "p/a.jpg").unlink()
    with pytest.raises(DataError, match=r"got no pictures"):
        list_corpus(str(tmp_path / "p"), setting="evaluate.data", packed=False)


def test_one_rule_for_tars_in_folders_and_prefixes(tmp_path: Path, pictures: Pictures, s3: Folder) -> None:
    write_shards(tmp_path / "p", pictures, 0, 1)
    for path in sorted((tmp_path / "p").iterdir()):
        (s3 / "p").write(path.name, path.read_bytes())
    local, remote = run(tmp_path / "p", tmp_path / "w"), run(f"{s3.uri}/p/x-{{00000..00001}}.tar", tmp_path / "w2")
    assert local.digest == remote.digest and crops(local) == crops(remote)


def test_the_items_of_a_pack_are_its_members(tmp_path: Path, pictures: Pictures) -> None:
    """A member on which every worker dies is rejected by name; here it is marked at once."""
    write_shards(tmp_path / "p", pictures, 0)
    corpus = list_corpus(str(tmp_path / "p"), setting="data.uri")
    (plan,) = plan_shards(tiny_config(tmp_path / "p", tmp_path / "w"), corpus, None)
    assert isinstance(plan, PackPlan) and len(plan) == 4
    folder = Folder(str(tmp_path / "out"))
    assert prepare_part(StepPart(0, 1, folder, plan.only(2)))["photos"] == 1
    assert prepare_part(StepPart(0, 1, folder, plan.rejecting(frozenset({1}))))["photos"] == 4
    rows = pq.read_table(io.BytesIO(folder.read("photos/00000-of-00001.parquet"))).to_pylist()
    assert [row["reason"] for row in rows] == [None, "killed-worker", None, None]
