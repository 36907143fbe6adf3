"""Names in lists that lead out of the list's folder, and several names of one file."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.listing import Corpus, list_corpus
from tests.support.packs import tar_of
from tests.support.snapshot_runs import run, write
from tests.support.tiny_run import jpeg

PICTURES = {f"{number}.jpg": jpeg(150 + 3 * number, 190 - 3 * number, seed=number) for number in range(4)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """``data/photos`` with four pictures beside ``data/lists``."""
    for name, content in PICTURES.items():
        write(tmp_path / "data/photos", name, content)
    (tmp_path / "data/lists").mkdir()
    return tmp_path / "data"


def listed(folder: Path, uris: list[str], **fields: str) -> Corpus:
    lines = [json.dumps({"uri": uri} | fields) for uri in uris]
    write(folder, "l.jsonl", "\n".join(lines).encode())
    return list_corpus(f"{folder}/l.jsonl", setting="data.uri")


def contents(corpus: Corpus) -> dict[str, bytes]:
    return {photo.key: photo.read() for photo in corpus.photos}


def test_names_may_lead_out_of_the_folder_of_a_list(data: Path) -> None:
    write(data, "packs/x.tar", tar_of(PICTURES.items()))
    corpus = listed(data / "lists", [*(f"../photos/{name}" for name in PICTURES), "../packs/x.tar"])
    assert contents(corpus) == {f"../photos/{name}": content for name, content in PICTURES.items()}
    assert [pack.key for pack in corpus.packs] == ["../packs/x.tar"]


@pytest.mark.integration
def test_such_photographs_have_the_same_crops_as_those_of_a_folder(data: Path, tmp_path: Path) -> None:
    write(data / "lists", "l.csv", "\n".join(["file_name", *(f"../photos/{name}" for name in PICTURES)]).encode())
    settings = "prepare.validation_share=0"
    plain = run(data / "photos", tmp_path / "w1", settings)
    by_list = run(f"{data}/lists/l.csv", tmp_path / "w2", settings)
    tables = [pq.read_table(io.BytesIO(done.folder.read("photos.parquet"))).to_pylist() for done in (plain, by_list)]
    crops = [{row["photo"].rpartition("/")[2]: (row["digest"], row["reason"]) for row in table} for table in tables]
    assert crops[0] == crops[1] and set(crops[0]) == set(PICTURES)
    assert {row["photo"] for row in tables[1]} == {f"../photos/{name}" for name in PICTURES}


def test_a_file_with_several_names_counts_once_in_any_order_of_lines(data: Path) -> None:
    (data / "photos/link.jpg").symlink_to("0.jpg")
    os.link(data / "photos/0.jpg", data / "photos/hard.jpg")
    absolute = f"{data}/photos/0.jpg"
    names = [
        "../photos/0.jpg", "./../photos/0.jpg", "..//photos/./0.jpg", "../lists/../photos/0.jpg", absolute,
        f"file://{absolute}", "../photos/link.jpg", "../photos/hard.jpg", "../photos/1.jpg",
    ]  # fmt: skip
    digests = set()
    for seed in range(4):
        random.Random(seed).shuffle(names)
        corpus = listed(data / "lists", names)
        assert contents(corpus) == {"../photos/0.jpg": PICTURES["0.jpg"], "../photos/1.jpg": PICTURES["1.jpg"]}
        assert corpus.skipped.to_record() == {
            "further names of listed files and folders": {"count": 7, "examples": ["l.jsonl"]}
        }
        digests.add(corpus.digest)
    assert len(digests) == 1


def test_of_absolute_names_the_first_counts_and_equal_names_keep_the_fields_of_the_first_line(data: Path) -> None:
    (data / "photos/link.jpg").symlink_to("0.jpg")
    names = [f"{data}/photos/link.jpg", f"{data}/lists/../photos/0.jpg"]
    for order in itertools.permutations(names):
        assert list(contents(listed(data / "lists", list(order)))) == [f"{data}/photos/0.jpg"]
    lines = [{"uri": "../photos/0.jpg", "note": "a"}, {"uri": "../photos/./0.jpg", "note": "b"}]
    write(data / "lists", "l.jsonl", "\n".join(map(json.dumps, lines)).encode())
    (photo,) = list_corpus(f"{data}/lists/l.jsonl", setting="data.uri", columns=["note"]).photos
    assert photo.fields == (("note", "a"),)


def test_a_parent_of_a_linked_folder_is_that_of_the_folder_itself(data: Path, tmp_path: Path) -> None:
    """As in the kernel: ``link/../0.jpg`` lies beside the folder that the link leads to."""
    write(tmp_path / "elsewhere/deep", "x.jpg", b"")
    write(tmp_path / "elsewhere", "0.jpg", PICTURES["3.jpg"])
    (data / "photos/link").symlink_to(tmp_path / "elsewhere/deep")
    corpus = listed(data / "lists", ["../photos/link/../0.jpg", "../photos/0.jpg"])
    assert contents(corpus) == {"../photos/0.jpg": PICTURES["0.jpg"], "../photos/link/../0.jpg": PICTURES["3.jpg"]}


def test_names_of_no_picture_are_rejected_by_name(data: Path) -> None:
    names = ["../photos/gone.jpg", "../photos/./gone.jpg", "../photos", "..", "../photos/0.jpg\udc80", "../x\x00.jpg"]
    reasons = {}
    for photo in listed(data / "lists", names).photos:
        with pytest.raises(DataError) as error:
            photo.read()
        assert "\n" not in str(error.value) and not error.value.is_outage
        reasons[photo.key] = error.value.reason
    assert reasons.pop("../photos/gone.jpg") == "missing" and reasons.pop("..") == "bad-key"
    assert len(reasons) == 3 and reasons["../x\\x00.jpg"] == "bad-uri"


def test_names_on_s3_stay_below_the_list(s3: Folder) -> None:
    for name, content in PICTURES.items():
        (s3 / "lists/photos").write(name, content)
    names = [
        "../photos/0.jpg", "photos/../0.jpg", f"{s3.uri}/lists/../photos/0.jpg", f"{s3.uri}/lists/%2E%2E/0.jpg",
        "./photos/0.jpg", "photos/0.jpg", f"{s3.uri}/lists/photos/0.jpg", f"{s3.uri}/lists/photos/1.jpg",
    ]  # fmt: skip
    for order in (names, names[::-1]):
        lines = [json.dumps({"uri": uri, "size": 1, "etag": "x"} if ".." in uri else {"uri": uri}) for uri in order]
        (s3 / "lists").write("l.jsonl", "\n".join(lines).encode())
        corpus = list_corpus(f"{s3.uri}/lists/l.jsonl", setting="data.uri")
        refused = {photo.key: photo.fault for photo in corpus.photos if photo.fault}
        assert set(refused) == set(names[:4]) and all(
            ".." in fault and "expected" in fault for fault in refused.values()
        )
        good = [photo for photo in corpus.photos if not photo.fault]
        assert {photo.key: photo.read() for photo in good} == {
            "photos/0.jpg": PICTURES["0.jpg"], f"{s3.uri}/lists/photos/1.jpg": PICTURES["1.jpg"],
        }  # fmt: skip
        for photo in corpus.photos:
            if photo.fault:
                with pytest.raises(DataError) as error:
                    photo.read()
                assert error.value.reason == "bad-uri"


def test_names_with_backslashes_are_those_of_folders_unless_such_a_file_exists(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.jpg").write_bytes(b"1")
    (tmp_path / "d\\b.jpg").write_bytes(b"2")
    (tmp_path / "l.csv").write_text("uri\nd\\a.jpg\nd\\b.jpg\n")
    photos = list_corpus(str(tmp_path / "l.csv"), setting="data.uri").photos
    assert sorted((photo.key, photo.read()) for photo in photos) == [("d/a.jpg", b"1"), ("d\\b.jpg", b"2")]
