"""Outputs of the codec's commands, and files that they never overwrite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from tests.support.command_line import Hfd


def test_an_existing_output_is_kept_unless_forced(
    hfd: Hfd, photo: Path, file: Path, model_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "out.hfd"
    out.write_bytes(b"precious")
    complaint = hfd("compress", photo, "-m", model_folder.path, "-o", out).complaint
    assert complaint == f"{out}: exists already. Give another --output, or --force to replace it"
    assert out.read_bytes() == b"precious"
    assert hfd("compress", photo, "-m", model_folder.path, "-o", out, "--force").code == 0
    assert out.read_bytes() == file.read_bytes()

    picture = tmp_path / "out.png"
    picture.write_bytes(b"precious")
    decompress = ["decompress", file, "-m", model_folder.path, "-o", picture, "--realism", 0]
    assert "exists already" in hfd(*decompress).complaint
    assert picture.read_bytes() == b"precious"
    assert hfd(*decompress, "-f").code == 0
    assert load_rgb(picture).shape == (70, 90, 3)


def test_the_input_is_never_overwritten(hfd: Hfd, photo: Path, model_folder: Folder) -> None:
    before = photo.read_bytes()
    alias = photo.parent / "." / ".." / photo.parent.name / photo.name
    for output in (photo, alias):
        complaint = hfd("compress", photo, "-m", model_folder.path, "-o", output, "--force").complaint
        assert "is the input itself. Give another --output" in complaint
    assert photo.read_bytes() == before


def test_an_output_that_is_a_folder(hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in ("there", "new/"):
        assert hfd("compress", photo, "-m", model_folder.path, "-o", f"{tmp_path}/{folder}").code == 0
        assert (tmp_path / folder / f"{photo.stem}.hfd").is_file()
    (tmp_path / "there/x.hfd").mkdir()
    (tmp_path / "x.png").write_bytes(photo.read_bytes())
    complaint = hfd("compress", tmp_path / "x.png", "-m", model_folder.path, "-o", tmp_path / "there", "-f").complaint
    assert complaint == f"{tmp_path}/there/x.hfd: got a folder, expected the name of a file for --output"


def test_an_output_below_a_file(hfd: Hfd, photo: Path, file: Path, model_folder: Folder) -> None:
    complaint = hfd("compress", photo, "-m", model_folder.path, "-o", file / "x.hfd").complaint
    assert complaint == f"{file}/x.hfd: a folder of its path is a file. Give another path"
    decompress = ["decompress", file, "-m", model_folder.path, "--realism", 0]
    assert "is a file" in hfd(*decompress, "-o", photo / "x.png").complaint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    complaint = hfd("compress", photo, "-m", model_folder.path, "-o", locked / "x.hfd").complaint
    assert complaint == f"{locked}/x.hfd: no permission. Check its owner and mode"


def test_a_new_output_folder_is_made(hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path) -> None:
    assert hfd("compress", photo, "-m", model_folder.path, "-o", tmp_path / "a/b/x.hfd").code == 0
    assert (tmp_path / "a/b/x.hfd").is_file()


@pytest.mark.parametrize("name", ["x.gif", "x", "x.png.bak", "png"])
def test_an_output_of_another_kind(hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path, name: str) -> None:
    complaint = hfd("decompress", file, "-m", model_folder.path, "-o", tmp_path / name).complaint
    assert complaint.startswith(f"{tmp_path}/{name}: got ")
    assert complaint.endswith("expected one of .png, .webp, .jpg, .jpeg")
    assert not (tmp_path / name).exists()


def test_a_full_disk_is_one_line(hfd: Hfd, photo: Path, model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hfd.io.outputs.os.fsync", full)
    assert "the disk is full" in hfd("compress", photo, "-m", model_folder.path).complaint
    assert [path.name for path in photo.parent.iterdir()] == [photo.name]
