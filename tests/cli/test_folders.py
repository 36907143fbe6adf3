"""Folders as the codec's commands take them: links, circles, thumbnails, formats that are not read; pipes and links."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hfd as library
from hfd.image.formats import HEIC_SUFFIXES, unread_format
from hfd.image.load import IMAGE_SUFFIXES
from hfd.image.tree import Selection
from hfd.io.storage import Folder
from tests.support.command_line import Hfd
from tests.support.pictures import photograph

X = photograph(40, 70)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of its own and one behind a link, beside what is not compressed."""
    root = tmp_path / "tree"
    for name in ("a.png", "sub/b.PNG", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", ".hidden.png", "../real/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X).save(root / name)
    for name in ("x.cr2", "y.nef", "z.svg", "notes.txt", "old.hfd"):
        (root / name).write_bytes(b"x")
    (root / "2024").symlink_to("../real")
    (root / "loop").symlink_to("..")
    (root / "again.png").symlink_to("a.png")
    os.mkfifo(root / "pipe.png")
    return root


def made(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.hfd"))


LINE = (
    "skipped 9: 2 camera raw pictures (x.cr2, y.nef), 1 SVG drawing (z.svg), "
    "1 further name of a listed file or folder (again.png), 1 hidden file or folder (.hidden.png), "
    "1 link to a folder that contains it (loop), 1 other file (.txt), 1 pipe, socket or device (pipe.png), "
    "1 thumbnail (@eaDir)"
)


def test_links_are_followed_once_and_what_is_left_out_is_one_line(
    hfd: Hfd, folder: Path, model_folder: Folder, tmp_path: Path
) -> None:
    ended = hfd("compress", folder, "-m", model_folder.path, "-o", tmp_path / "out")
    assert ended.code == 0
    assert made(tmp_path / "out") == ["2024/c.hfd", "a.hfd", "sub/b.hfd"]
    assert ended.err == f"hfd: {folder}: {LINE}\n"
    assert "skipped" not in ended.out and ended.out.splitlines()[-1].startswith("3 of 3 files written")


def test_each_folder_of_several_has_its_line(hfd: Hfd, folder: Path, model_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Image.fromarray(X).save(tmp_path / "other/d.png")
    (tmp_path / "other/clip.MP4").write_bytes(b"x")
    sources = [folder, tmp_path / "other", tmp_path / "real"]
    ended = hfd("compress", *sources, "-m", model_folder.path, "-o", tmp_path / "out")
    assert ended.code == 0
    assert made(tmp_path / "out") == ["other/d.hfd", "real/c.hfd", "tree/2024/c.hfd", "tree/a.hfd", "tree/sub/b.hfd"]
    assert ended.err.splitlines() == [
        f"hfd: {folder}: {LINE}",
        f"hfd: {tmp_path}/other: skipped 1: 1 video (clip.MP4)",
    ]


def test_a_link_to_nothing_and_an_empty_file_fail_by_name(
    hfd: Hfd, folder: Path, model_folder: Folder, tmp_path: Path
) -> None:
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "empty.jpg").write_bytes(b"")
    ended = hfd("compress", folder, "-m", model_folder.path, "-o", tmp_path / "out")
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert lines[0].startswith(f"hfd: {folder}/empty.jpg: got an empty file, expected an image")
    assert lines[1].startswith(f"hfd: {folder}/gone.png: got no such file, expected one that exists")
    assert lines[2:] == [f"hfd: {folder}: {LINE}", "hfd: 2 of 5 failed"]
    assert made(tmp_path / "out") == ["2024/c.hfd", "a.hfd", "sub/b.hfd"]


def test_a_folder_without_pictures_says_what_it_holds(hfd: Hfd, model_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for number in range(5):
        (tmp_path / f"raw/{number}.ARW").write_bytes(b"x")
    assert hfd("compress", tmp_path / "raw", "-m", model_folder.path).complaint == (
        f"{tmp_path}/raw: got a folder without such files (skipped 5: 5 camera raw pictures (0.ARW, 1.ARW, 2.ARW, "
        "...)), expected .png, .jpg, ... in it"
    )


def test_a_named_folder_is_taken_whatever_its_name(
    hfd: Hfd, folder: Path, model_folder: Folder, tmp_path: Path
) -> None:
    ended = hfd("compress", folder / "@eaDir", "-m", model_folder.path, "-o", tmp_path / "out")
    assert (ended.code, ended.err, made(tmp_path / "out")) == (0, "", ["a.png/SYNOPHOTO_THUMB_M.hfd"])


def test_files_to_decompress_follow_the_rule_of_links(
    hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path
) -> None:
    root = tmp_path / "small"
    (root / "sub").mkdir(parents=True)
    for name in ("a.hfd", ".b.hfd", "sub/c.hfd", "a.png"):
        (root / name).write_bytes(file.read_bytes())
    (root / "loop").symlink_to(".")
    (root / "d.hfd").symlink_to("a.hfd")
    ended = hfd("decompress", root, "-m", model_folder.path, "-o", tmp_path / "out", "--realism", 0)
    assert ended.code == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a.png", "c.png"]
    assert ended.err == (
        f"hfd: {root}: skipped 2: 1 further name of a listed file or folder (d.hfd), 1 hidden file or folder (.b.hfd)\n"
    )


def test_heic_pictures_are_named_where_their_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfd.image.formats.find_spec", lambda _name: None)
    assert unread_format(suffix=".HEIC") == "an HEIC picture"
    selection = Selection(IMAGE_SUFFIXES - HEIC_SUFFIXES)
    assert not any(map(selection.takes, ["IMG_1.HEIC", "sub/IMG_2.heif"]))
    assert str(selection.skipped) == "skipped 2: 2 HEIC pictures (IMG_1.HEIC, sub/IMG_2.heif)"


# --- pipes and links that users name ---------------------------------------------------------------


def in_a_shell(line: str, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HFD": f"{sys.executable} -m hfd", **{key: str(one) for key, one in variables.items()}}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.integration
def test_a_command_reads_what_a_shell_hands_it_as_a_pipe(
    photo: Path, file: Path, model_folder: Folder, tmp_path: Path
) -> None:
    ended = in_a_shell('$HFD info --json <(cat "$FILE")', FILE=file)
    assert (ended.returncode, ended.stderr) == (0, "")
    (facts,) = json.loads(ended.stdout)
    assert (facts["bytes"], facts["width"], facts["height"]) == (file.stat().st_size, 90, 70)
    out = tmp_path / "out.hfd"
    ended = in_a_shell('$HFD compress <(cat "$P") -o "$OUT" -m "$M"', P=photo, OUT=out, M=model_folder.path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert out.read_bytes() == library.compress(np.asarray(Image.open(photo)), model=model_folder.path)


@pytest.mark.integration
def test_a_pipe_without_a_name_for_the_output_or_without_bytes_is_one_line(photo: Path, model_folder: Folder) -> None:
    ended = in_a_shell('$HFD compress <(cat "$P") -m "$M"', P=photo, M=model_folder.path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1 and "expected a file. Give another --output" in ended.stderr
    ended = in_a_shell("$HFD info <(true)")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1 and "file: got no bytes, expected an .hfd file" in ended.stderr


def test_export_writes_through_a_link_to_a_folder(hfd: Hfd, model_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "new").symlink_to("made")
    for link, target in (("link", "real"), ("new", "made")):
        ended = hfd("export", model_folder.path, tmp_path / link)
        assert (ended.code, ended.err) == (0, "")
        assert (tmp_path / link).is_symlink() and (tmp_path / target / "autoencoder/weights.safetensors").is_file()
        assert "holds a model already" in hfd("export", model_folder.path, tmp_path / link).complaint


@pytest.mark.parametrize("target", ["file", "/dev/null", "link"])
def test_export_onto_what_is_no_folder_is_one_line(hfd: Hfd, model_folder: Folder, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(target)
    complaint = hfd("export", model_folder.path, tmp_path / "link").complaint
    expected = (
        "got symbolic links in a circle" if target == "link" else f"{tmp_path}/link: got a file, expected a folder"
    )
    assert expected in complaint
    assert (tmp_path / "file").read_bytes() == b"precious" and len(list(tmp_path.iterdir())) == 2
