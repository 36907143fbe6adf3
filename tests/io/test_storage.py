"""Folders of both kinds, local and S3: whole or nothing, listing, one line for a failure."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder
from tests.support.errors import one_line

NAMES = ["plain.bin", "with space.bin", "größe 写真 🙂.bin", "per%20cent#and?query&=+.bin", "a/b/c.bin"]


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder of either kind; what it promises is the same."""
    if request.param == "local":
        (tmp_path / "folder").mkdir()
        return Folder(str(tmp_path / "folder"))
    s3: Folder = request.getfixturevalue("s3")
    return s3


@pytest.mark.parametrize("name", NAMES)
def test_written_files_are_read_and_listed(folder: Folder, name: str) -> None:
    data = bytes(range(256)) * 5
    folder.write(name, data)
    assert folder.read(name) == data
    assert folder.exists(name)
    assert [(entry.key, entry.size) for entry in folder.files()] == [(name, len(data))]


def test_an_empty_file_is_a_file(folder: Folder) -> None:
    folder.write("empty", b"")
    assert folder.read("empty") == b""
    assert [(entry.key, entry.size) for entry in folder.files()] == [("empty", 0)]


def test_files_are_sorted_by_key_and_hide_dotfiles(folder: Folder) -> None:
    for name in ["b.txt", "a/z.txt", "a.txt", "B.txt", ".hidden", "c/.hidden/x.txt", "c/.tmp-x", "ä.txt"]:
        folder.write(name, b"x")
    keys = [entry.key for entry in folder.files()]
    assert keys == sorted(["b.txt", "a/z.txt", "a.txt", "B.txt", "ä.txt"])


def test_a_listing_of_a_subfolder_has_keys_relative_to_it(folder: Folder) -> None:
    folder.write("a/b/c.txt", b"x")
    folder.write("ab/d.txt", b"x")
    assert [entry.key for entry in (folder / "a").files()] == ["b/c.txt"]


def test_a_second_write_replaces_the_first(folder: Folder) -> None:
    folder.write("x", b"first, and longer")
    folder.write("x", b"second")
    assert folder.read("x") == b"second"
    assert [entry.size for entry in folder.files()] == [6]


@pytest.mark.parametrize("size", [10, 12 * 2**20])  # below and above what an upload sends as one part
def test_a_block_that_fails_publishes_nothing(folder: Folder, size: int) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), folder.writing("x") as stream:
        stream.write(bytes(size))
        raise RuntimeError("in the middle")
    assert not folder.exists("x")
    assert folder.files() == []


def test_a_block_that_fails_leaves_the_former_file(folder: Folder) -> None:
    folder.write("x", b"former")
    with pytest.raises(KeyboardInterrupt), folder.writing("x") as stream:
        stream.write(b"latter")
        raise KeyboardInterrupt
    assert folder.read("x") == b"former"


def test_nothing_is_seen_before_the_block_ends(folder: Folder) -> None:
    with folder.writing("x") as stream:
        stream.write(bytes(1000))
        stream.flush()
        assert not folder.exists("x")
        assert folder.files() == []
    assert len(folder.read("x")) == 1000


def test_a_missing_file_is_named(folder: Folder) -> None:
    folder.write("other", b"x")
    for attempt in (folder.read, folder.open_input):
        with pytest.raises(DataError) as error:
            attempt("nothing here")
        assert one_line(error).startswith(f"{folder.uri}/nothing here: got no such file")
        assert error.value.reason == "missing"


def test_delete_accepts_files_folders_and_missing_names(folder: Folder) -> None:
    for name in ["a/one", "a/two", "b"]:
        folder.write(name, b"x")
    folder.delete("b")
    folder.delete("never was")
    assert [entry.key for entry in folder.files()] == ["a/one", "a/two"]
    folder.delete("a")
    assert folder.files() == []


def test_open_input_seeks(folder: Folder) -> None:
    folder.write("x", bytes(range(100)))
    with folder.open_input("x") as file:
        file.seek(40)
        assert file.read(3) == bytes([40, 41, 42])
        assert file.size() == 100


def test_a_folder_survives_pickling(folder: Folder) -> None:
    folder.write("x", b"y")
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder
    assert again.read("x") == b"y"
    assert b"SECRET" not in pickle.dumps(folder).upper()
