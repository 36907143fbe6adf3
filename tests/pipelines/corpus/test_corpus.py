"""The listing of photographs, and the digest that stands for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hfd.errors import ConfigError, DataError
from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from pipelines.corpus import listing as corpus
from pipelines.corpus.listing import BUILTIN, list_corpus
from tests.support.s3_server import put


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("b.JPG", "a.png", "sub/c.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def digest(folder: Path) -> str:
    return list_corpus(str(folder), setting="data.uri").digest


def test_pictures_are_listed_by_key_at_any_depth(photos: Path) -> None:
    found = list_corpus(str(photos), setting="data.uri")
    assert [photo.key for photo in found.photos] == ["a.png", "b.JPG", "sub/c.webp"]
    assert [photo.read() for photo in found.photos] == [b"a.png", b"b.JPG", b"sub/c.webp"]
    assert [photo.size for photo in found.photos] == [5, 5, 10]
    assert found.num_other_files == 0 and len(found.digest) == 64


def test_other_and_hidden_files_are_counted(photos: Path) -> None:
    before = digest(photos)
    for name in ("notes.txt", "sub/labels.csv", "no_suffix", ".hidden.jpg", ".cache/x.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"x")
    found = list_corpus(str(photos), setting="data.uri")
    assert found.num_other_files == 3
    assert str(found.skipped) == (
        "skipped 5: 3 other files (.csv, .txt, without a suffix), 2 hidden files and folders (.cache, .hidden.jpg)"
    )
    assert [photo.key for photo in found.photos] == ["a.png", "b.JPG", "sub/c.webp"]
    assert found.digest == before


def test_the_digest_is_that_of_names_sizes_and_times(photos: Path) -> None:
    before = digest(photos)
    assert digest(photos) == before
    (photos / "a.png").write_bytes(b"longer than it was")
    longer = digest(photos)
    (photos / "d.jpg").write_bytes(b"new")
    added = digest(photos)
    (photos / "d.jpg").rename(photos / "e.jpg")
    renamed = digest(photos)
    os.utime(photos / "e.jpg", ns=(1, 1))
    touched = digest(photos)
    assert len({before, longer, added, renamed, touched}) == 5
    (photos / "e.jpg").unlink()
    assert digest(photos) == longer


def test_the_digest_does_not_depend_on_where_the_folder_is(photos: Path, tmp_path: Path) -> None:
    before = digest(photos)
    photos.rename(tmp_path / "moved")
    assert digest(tmp_path / "moved") == before


@pytest.mark.parametrize("setting", ["data.uri", "evaluate.data"])
@pytest.mark.parametrize(
    ("where", "reason"), [("", "empty"), ("texts", "empty"), ("nowhere", "missing"), ("texts/a.txt", "not-a-folder")]
)
def test_errors_name_the_setting(tmp_path: Path, setting: str, where: str, reason: str) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        list_corpus(str(tmp_path / where), setting=setting)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"{setting}: ") and str(tmp_path / where) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["data.uri", "evaluate.data"])
def test_a_missing_setting_is_named_with_its_form(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{setting}: missing.*{setting}=\.\.\."):
        list_corpus(None, setting=setting)


def test_the_builtin_photographs_are_real_and_always_the_same() -> None:
    found = list_corpus(BUILTIN, setting="data.uri")
    assert len(found.photos) == 10 and found.num_other_files == 0
    for photo in found.photos:
        assert len(photo.read()) == photo.size
        assert min(load_rgb(photo.read(), name=photo.key).shape[:2]) >= 128
    assert found.digest == list_corpus(BUILTIN, setting="data.uri").digest


def test_a_missing_package_of_photographs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BUILTIN_FILES", {"no_such_package": ("a.png",)})
    monkeypatch.setattr(corpus, "BUILTIN_FOLDERS", {"no_such_package": "data"})
    with pytest.raises(ConfigError, match=r"^data\.uri: .* no_such_package\. Install hfd\[demo\]"):
        list_corpus(BUILTIN, setting="data.uri")


TREE = [
    "a.jpg", "B.JPEG", "sub/c.webp", "sub/d.PnG", "empty.jpg", "no suffix", "notes.txt", "x.CR2", "y.mov", "z.svg",
    ".hidden.jpg", ".cache/deep/e.jpg", ".cache/f.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "@eaDir/a.jpg/INDEX",
    "sub/@eaDir/c.webp/SYNOPHOTO_THUMB_M.jpg", "Thumbs.db", "sub/Thumbs.db", "__MACOSX/sub/._c.webp", "._a.jpg",
    "#recycle/g.jpg", "#snapshot/daily/a.jpg", "#snapshot/daily/h.jpg", "$RECYCLE.BIN/S-1/$R.png",
]  # fmt: skip


def test_a_tree_on_s3_and_its_copy_on_a_disk_have_the_same_pictures_and_lines(
    s3: Folder, s3_client: Any, tmp_path: Path
) -> None:
    for name in TREE:
        data = b"" if name == "empty.jpg" else name.encode()
        put(s3_client, s3.uri, f"photos/{name}", data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    here, there = (list_corpus(uri, setting="data.uri") for uri in (str(tmp_path), f"{s3.uri}/photos"))
    for found in (here, there):
        assert [photo.key for photo in found.photos] == ["B.JPEG", "a.jpg", "empty.jpg", "sub/c.webp", "sub/d.PnG"]
        assert str(found.skipped) == (
            "skipped 17: 5 thumbnails (@eaDir, Thumbs.db, sub/Thumbs.db), 2 deleted files (#recycle, $RECYCLE.BIN), "
            "2 hidden files and folders (.cache, .hidden.jpg), 2 other files (.txt, without a suffix), "
            "2 system files (._a.jpg, __MACOSX), 1 SVG drawing (z.svg), 1 camera raw picture (x.CR2), "
            "1 snapshot folder (#snapshot), 1 video (y.mov)"
        )
    assert here.skipped == there.skipped


def test_links_are_followed_once_and_a_broken_one_is_rejected_by_name(photos: Path, tmp_path: Path) -> None:
    """A folder outside by two links, a circle, a further name, and a link to nothing."""
    before = digest(photos)
    (tmp_path / "real").mkdir()
    (tmp_path / "real/r.jpg").write_bytes(b"real")
    for name in ("2024", "2025"):
        (photos / name).symlink_to("../real")
    (photos / "loop").symlink_to("..")
    (photos / "sub/loop").symlink_to("../../photos")
    (photos / "z.jpg").symlink_to("b.JPG")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    found = list_corpus(str(photos), setting="data.uri")
    assert [photo.key for photo in found.photos] == ["2024/r.jpg", "a.png", "b.JPG", "gone.jpg", "sub/c.webp"]
    assert found.photos[0].read() == b"real" and found.num_other_files == 0
    assert str(found.skipped) == (
        "skipped 4: 2 further names of listed files and folders (2025, z.jpg), "
        "2 links to folders that contain them (loop, sub/loop)"
    )
    with pytest.raises(DataError, match=r"gone\.jpg: got no such file") as caught:
        found.photos[3].read()
    assert caught.value.reason == "missing"
    (tmp_path / "photos/nowhere.jpg").write_bytes(b"back")
    again = list_corpus(str(photos), setting="data.uri")
    assert len({before, found.digest, again.digest}) == 3


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("IMG_1.NEF", "clip.mp4", "@eaDir/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        list_corpus(str(tmp_path), setting="data.uri")
    assert str(caught.value) == (
        f"data.uri: got no pictures in {tmp_path} (skipped 3: 1 camera raw picture (IMG_1.NEF), 1 thumbnail (@eaDir), "
        "1 video (clip.mp4)), expected some. Check the folder"
    )


def test_names_that_print_alike_have_keys_of_their_own(tmp_path: Path) -> None:
    for name in (b"caf\xe9.jpg", b"caf\\xe9.jpg", b"caf\\xe9.jpg (2).jpg"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    found = list_corpus(str(tmp_path), setting="data.uri")
    assert len({photo.key for photo in found.photos}) == 3
    assert {photo.read() for photo in found.photos} == {b"caf\xe9.jpg", b"caf\\xe9.jpg", b"caf\\xe9.jpg (2).jpg"}
    assert found.digest == list_corpus(str(tmp_path), setting="data.uri").digest


def test_a_prefix_on_s3_lists_like_a_folder(s3: Folder) -> None:
    for name in ("photos/b.JPG", "photos/sub/c.webp", "photos/notes.txt", "photographs-not-here/x.jpg"):
        s3.write(name, name.encode())
    found = list_corpus(f"{s3.uri}/photos", setting="data.uri")
    assert [photo.key for photo in found.photos] == ["b.JPG", "sub/c.webp"]
    assert found.photos[1].read() == b"photos/sub/c.webp"
    assert found.num_other_files == 1
    s3.write("photos/a.png", b"new")
    assert list_corpus(f"{s3.uri}/photos", setting="data.uri").digest != found.digest
    with pytest.raises(DataError, match=r"^evaluate\.data: .*nothing"):
        list_corpus(f"{s3.uri}/nothing", setting="evaluate.data")
