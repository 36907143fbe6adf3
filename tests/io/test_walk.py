"""Trees with links, circles, further names and what is no file."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from hfd.errors import DataError
from hfd.io.walk import Everything, walk


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))


def listed(root: Path, rule: Everything | None = None) -> dict[str, str]:
    """The fault of every listed name, in order."""
    return {entry.key: entry.fault for entry in walk(root, rule or Everything())}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write(tmp_path, "tree/b.jpg", "tree/a/c.jpg", "tree/a.jpg", "real/r.jpg", "real/below/s.jpg")
    return tmp_path / "tree"


def test_files_come_before_folders_and_both_by_name(tree: Path) -> None:
    assert list(listed(tree)) == ["a.jpg", "b.jpg", "a/c.jpg"]
    (entry, *_) = walk(tree, Everything())
    assert (entry.size, entry.stamp) == (len("tree/a.jpg"), str((tree / "a.jpg").stat().st_mtime_ns))


def test_a_link_to_a_folder_is_followed_once(tree: Path) -> None:
    for name in ("2024", "2025"):
        (tree / name).symlink_to("../real")
    (tree / "again").symlink_to("a")
    assert listed(tree) == {
        "a.jpg": "", "b.jpg": "", "a/c.jpg": "", "2024/r.jpg": "", "2024/below/s.jpg": "", "2025/": "again",
        "again/": "again",
    }  # fmt: skip


def test_a_folder_that_two_links_reach_at_different_depths_is_listed_once(tree: Path) -> None:
    (tree / "0 below").symlink_to("../real/below")
    (tree / "1 whole").symlink_to("../real")
    found = listed(tree)
    assert found["0 below/s.jpg"] == found["1 whole/r.jpg"] == "" and found["1 whole/below/"] == "again"
    assert len(found) == 6


@pytest.mark.parametrize("target", [".", "..", "/", "../../tree", "../../../{name}/tree"])
def test_a_link_to_a_folder_that_contains_it_is_not_followed(tree: Path, target: str) -> None:
    (tree / "a/loop").symlink_to(target.format(name=tree.parent.name))
    assert listed(tree) == {"a.jpg": "", "b.jpg": "", "a/c.jpg": "", "a/loop/": "loop"}


def test_links_of_a_linked_folder_that_lead_back_end(tree: Path) -> None:
    (tree / "out").symlink_to("../real")
    (tree.parent / "real/back").symlink_to("../tree")
    (tree.parent / "real/up").symlink_to("..")
    found = listed(tree)
    assert [key for key, fault in found.items() if not fault] == [
        "a.jpg", "b.jpg", "a/c.jpg", "out/r.jpg", "out/below/s.jpg",
    ]  # fmt: skip
    assert found["out/back/"] == found["out/up/"] == "loop"


def test_a_root_that_is_a_link_is_followed(tree: Path) -> None:
    (tree.parent / "link").symlink_to("tree")
    assert listed(tree.parent / "link") == listed(tree)


def test_one_name_of_a_file_counts(tree: Path) -> None:
    (tree / "0.jpg").symlink_to("b.jpg")
    (tree / "out 1.jpg").symlink_to("../real/r.jpg")
    (tree / "out 2.jpg").symlink_to("../real/r.jpg")
    (tree / "a/hard.jpg").hardlink_to(tree / "a.jpg")
    assert listed(tree) == {
        "a.jpg": "", "b.jpg": "", "a/c.jpg": "", "a/hard.jpg": "again", "0.jpg": "again", "out 1.jpg": "",
        "out 2.jpg": "again",
    }  # fmt: skip


def test_files_with_further_names_outside_the_tree_are_ordinary(tree: Path) -> None:
    (tree / "h.jpg").hardlink_to(tree.parent / "real/r.jpg")
    assert listed(tree)["h.jpg"] == ""


@dataclass(frozen=True)
class Pictures(Everything):
    """Hidden folders are whole, ``thumbs`` is counted; names ending in .jpg count."""

    def place(self, folder: str) -> Literal["walk", "count", "whole"]:
        name = folder.rpartition("/")[2]
        return "whole" if name.startswith(".") else "count" if name == "thumbs" else "walk"

    def is_wanted(self, key: str) -> bool:
        return key.endswith(".jpg") and not key.startswith((".", "thumbs"))


def test_a_link_into_a_store_of_files_without_pictures_names_counts(tmp_path: Path) -> None:
    """As git-annex and DVC keep their files, the second in a folder that is not hidden."""
    write(tmp_path, ".git/annex/SHA1", ".git/annex/SHA2", "store/ab12", "thumbs/t.jpg", "x.jpg")
    (tmp_path / "a.jpg").symlink_to(".git/annex/SHA1")
    (tmp_path / "b.jpg").symlink_to("store/ab12")
    (tmp_path / "c.jpg").symlink_to("thumbs/t.jpg")
    (tmp_path / "d.txt").symlink_to(".git/annex/SHA2")
    (tmp_path / "e.jpg").symlink_to(".git/annex/SHA2")
    assert listed(tmp_path, Pictures()) == {
        ".git/": "", "x.jpg": "", "store/ab12": "", "a.jpg": "", "b.jpg": "", "c.jpg": "", "d.txt": "", "e.jpg": "",
        "thumbs/t.jpg": "",
    }  # fmt: skip


def test_folders_to_count_come_last_and_links_in_them_are_not_followed(tree: Path) -> None:
    write(tree, "a/thumbs/deep/t.jpg", "thumbs/u.jpg", ".cache/v.jpg")
    (tree / "thumbs/out").symlink_to("../../real")
    (tree / "real").symlink_to("../real")
    (tree / ".linked").symlink_to("../real")
    assert list(listed(tree, Pictures())) == [
        ".cache/", "a.jpg", "b.jpg", "a/c.jpg", ".linked/", "real/r.jpg", "real/below/s.jpg", "thumbs/out",
        "thumbs/u.jpg", "a/thumbs/deep/t.jpg",
    ]  # fmt: skip


def test_links_to_nothing_and_what_is_no_file(tree: Path) -> None:
    (tree / "gone.jpg").symlink_to("nowhere.jpg")
    (tree / "self").symlink_to("self")
    (tree / "through").symlink_to("a.jpg/x")
    (tree / "null.png").symlink_to(os.devnull)
    os.mkfifo(tree / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(tree)  # the path of a socket is short
        try:
            bound.bind("s.jpg")
        finally:
            os.chdir(here)
        found = listed(tree)
    assert {key: fault for key, fault in found.items() if fault} == {
        "pipe.jpg": "special", "s.jpg": "special", "gone.jpg": "broken-link", "self": "broken-link",
        "through": "broken-link", "null.png": "special",
    }  # fmt: skip


def test_the_order_of_a_file_system_has_no_say(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (tree / f"link {number % 7} {number}").symlink_to("../real" if number % 2 else "../real/r.jpg")
        (tree / f"a/hard {number}").hardlink_to(tree / "a.jpg")
    before = list(walk(tree, Everything()))
    real = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            with real(path) as found:
                self.entries = list(found)[::-1]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert list(walk(tree, Everything())) == before


def test_a_name_that_is_not_utf8_is_listed(tree: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write(tree, name)
    assert name in listed(tree)


def test_a_folder_that_cannot_be_listed_is_named(tree: Path) -> None:
    with pytest.raises(DataError, match=r"/tree/b\.jpg: a folder of its path is a file") as caught:
        listed(tree / "b.jpg")
    assert caught.value.reason == "not-a-folder"
    seen: list[OSError] = []
    assert list(walk(tree / "nowhere", Everything(), seen.append)) == []
    assert [error.filename for error in seen] == [str(tree / "nowhere")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anywhere")
def test_a_folder_to_count_that_cannot_be_read_counts_as_one(tree: Path) -> None:
    write(tree, "thumbs/t.jpg", "a/closed/x.jpg")
    (tree / "thumbs").chmod(0)
    try:
        assert "thumbs/" in listed(tree, Pictures())
        (tree / "a").chmod(0)
        with pytest.raises(DataError, match=r"/tree/a: no permission"):
            listed(tree, Pictures())
    finally:
        (tree / "a").chmod(0o755)
        (tree / "thumbs").chmod(0o755)
