"""The rule for what is a photograph of a tree, by names."""

from __future__ import annotations

import random

import pytest

from hfd.image.load import IMAGE_SUFFIXES
from hfd.image.tree import AGAIN, BROKEN_LINK, HIDDEN, LOOP, OTHER, SPECIAL, Selection, Skipped, suffix_of

TREE = [
    "a.jpg", "B.JPG", "c.JpEg", "2024/d.png", "2024/@home/e.webp", "thumbnails/f.png", "lost and found/g.tif",
    "IMG.HEIC.jpg", "x._y.png", "résumé/ü.bmp", "a b\nc.jpg", "-rf.png",
]  # fmt: skip
"""Names that count: the folders only look like those of systems."""

LEFT_OUT = {
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg": ("thumbnails", "@eaDir"),
    "2024/@eaDir/d.png/SYNOPHOTO_THUMB_M.jpg": ("thumbnails", "@eaDir"),
    "2024/.@__thumb/s800d.png": ("thumbnails", ".@__thumb"),
    ".thumbnails/normal/0a.png": ("thumbnails", ".thumbnails"),
    "2024/Thumbs.db": ("thumbnails", "2024/Thumbs.db"),
    "DCIM/MVI_1.THM": ("thumbnails", "DCIM/MVI_1.THM"),
    "My.photoslibrary/resources/derivatives/0.jpeg": ("thumbnails", "resources"),
    "L Previews.lrdata/0.jpg": ("thumbnails", "L Previews.lrdata"),
    "#recycle/old.jpg": ("deleted files", "#recycle"),
    "$RECYCLE.BIN/S-1-5/$R1.jpg": ("deleted files", "$RECYCLE.BIN"),
    ".Trash-1000/files/x.png": ("deleted files", ".Trash-1000"),
    "#snapshot/GMT-2024/a.jpg": ("snapshot folders", "#snapshot"),
    "__MACOSX/._a.jpg": ("system files", "__MACOSX"),
    "2024/._d.png": ("system files", "2024/._d.png"),
    "lost+found/#123.jpg": ("system files", "lost+found"),
    ".hidden.jpg": ("hidden files and folders", ".hidden.jpg"),
    "2024/.cache/x.jpg": ("hidden files and folders", "2024/.cache"),
    "b.CR2": ("camera raw pictures", "b.CR2"),
    "e.svg": ("SVG drawings", "e.svg"),
    "f.MOV": ("videos", "f.MOV"),
    "g.psb": ("large Photoshop pictures", "g.psb"),
    "h.jxl": ("JPEG XL pictures", "h.jxl"),
    "notes.txt": ("other files", ".txt"),
    "jpg": ("other files", "without a suffix"),
    "a.jpg.part": ("other files", ".part"),
    "ends.": ("other files", "without a suffix"),
}  # fmt: skip
"""Kind and shown name of what does not count."""


def sifted(keys: list[str]) -> tuple[list[str], Skipped]:
    selection = Selection(IMAGE_SUFFIXES)
    return [key for key in keys if selection.takes(key)], selection.skipped


def test_pictures_count_in_upper_and_lower_case_and_below_any_folder_of_a_user() -> None:
    assert sifted(TREE) == (TREE, Skipped())
    assert str(Skipped()) == "skipped 0: " and not Skipped()


@pytest.mark.parametrize("key", LEFT_OUT)
def test_left_out_files_are_named_by_their_kind(key: str) -> None:
    kind, name = LEFT_OUT[key]
    taken, skipped = sifted([*TREE, key])
    assert taken == TREE
    (group,) = skipped.groups
    assert (group.kind.many, group.count, group.examples, group.more) == (kind, 1, (name,), False)


def test_the_line_counts_and_names_in_any_order_of_files() -> None:
    keys = [f"@eaDir/{i}.jpg" for i in range(10)] + ["b.nef", "a.cr2", *(f"{i}.mov" for i in range(5)), "z.txt"]
    for seed in range(5):
        random.Random(seed).shuffle(keys)
        assert str(sifted(keys)[1]) == (
            "skipped 18: 10 thumbnails (@eaDir), 5 videos (0.mov, 1.mov, 2.mov, ...), "
            "2 camera raw pictures (a.cr2, b.nef), 1 other file (.txt)"
        )


def test_a_hidden_folder_counts_as_one_and_a_folder_of_thumbnails_by_its_files() -> None:
    taken, skipped = sifted([".git/objects/1", ".git/objects/2", ".git/", "@eaDir/1", "@eaDir/2"])
    assert taken == [] and str(skipped) == "skipped 3: 2 thumbnails (@eaDir), 1 hidden file or folder (.git)"
    assert skipped.count(HIDDEN) == 1
    assert skipped.to_record() == {
        "thumbnails": {"count": 2, "examples": ["@eaDir"]},
        "hidden files and folders": {"count": 1, "examples": [".git"]},
    }


def test_names_that_are_not_ordinary_files() -> None:
    selection = Selection(IMAGE_SUFFIXES)
    assert selection.takes("gone.jpg", "broken-link"), "it fails when it is read, with its name"
    faults = [
        ("gone.txt", "broken-link"), ("loop/", "loop"), ("2024.05/", "again"), ("b.jpg", "again"),
        ("pipe.png", "special"), ("readme.txt", "again"),
    ]  # fmt: skip
    assert not any(selection.takes(key, fault) for key, fault in faults)
    found = {group.kind: group.examples for group in selection.skipped.groups}
    assert found == {
        BROKEN_LINK: ("gone.txt",), LOOP: ("loop",), AGAIN: ("2024.05", "b.jpg"), SPECIAL: ("pipe.png",),
        OTHER: (".txt",),
    }  # fmt: skip


def test_only_files_that_are_wanted_are_counted_where_others_are_ordinary() -> None:
    selection = Selection(frozenset({".hfd"}), counts_all=False)
    assert selection.takes("a.hfd") and not any(map(selection.takes, ["a.png", ".git/", ".cache/b.hfd", "notes.txt"]))
    assert str(selection.skipped) == "skipped 1: 1 hidden file or folder (.cache)"
    compressing = Selection(IMAGE_SUFFIXES, uncounted=".hfd")
    assert not compressing.takes("a.hfd") and not compressing.skipped


def test_names_are_shown_without_control_characters() -> None:
    assert str(sifted(["a\n\x1b[31m.cr2", "\udce9.nef"])[1]) == (
        "skipped 2: 2 camera raw pictures (\\xe9.nef, a\\n\\x1b[31m.cr2)"
    )


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.JPG", ".jpg"), ("x.y/a", ""), ("a.", ""), (".jpg", ""), ("a.tar.gz", ".gz"), ("x/b.Png", ".png"), ("", "")],
)
def test_the_suffix_of_a_name(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
