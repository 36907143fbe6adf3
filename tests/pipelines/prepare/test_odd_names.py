"""Trees as real disks hold them, prepared by the command: odd names in any locale, thumbnails, links."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from hfd.data.shards import SPLITS, iterate_rows
from hfd.io.storage import Folder
from tests.support.command_line import Hfd
from tests.support.paths import ROOT
from tests.support.pictures import photograph
from tests.support.tiny_run import jpeg, tiny_overrides

pytestmark = pytest.mark.integration

NAMES = {
    b"plain.jpg": "plain.jpg",
    b"with space.jpg": "with space.jpg",
    b"line\nbreak.jpg": "line\\nbreak.jpg",
    b"caf\xe9.jpg": "caf\\xe9.jpg",
    b"\xff\xfe/in.jpg": "\\xff\\xfe/in.jpg",
    "grün 猫.jpg".encode(): "grün 猫.jpg",
    b"n" * 251 + b".jpg": "n" * 251 + ".jpg",
    b"-rf.jpg": "-rf.jpg",
    b"\x1b[31mred.jpg": "\\x1b[31mred.jpg",
    b"back\\slash.jpg": "back\\slash.jpg",
    b"a=b #?%&.jpg": "a=b #?%&.jpg",
}
"""Names as bytes, and as tables hold them."""

LOCALES = [
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"},
]


def write(folder: Path, name: bytes, data: bytes) -> None:
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def as_a_user(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    command = [sys.executable, "-m", "hfd", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, check=False, cwd=ROOT, env={**variables, "PYTHONPATH": str(ROOT), **environment}
    )


def prepared(workspace: Path) -> tuple[dict[str, Any], Folder]:
    (manifest,) = workspace.glob("prepare/*/manifest.json")
    facts: dict[str, Any] = json.loads(manifest.read_text())["facts"]
    return facts, Folder(str(manifest.parent))


@pytest.mark.parametrize("locale", LOCALES, ids=["utf-8", "ascii streams", "ascii names"])
def test_odd_names_are_prepared_and_compressed_in_any_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    photographs, workspace = tmp_path / "odd", tmp_path / "w"
    for i, name in enumerate(NAMES):
        write(photographs, name, jpeg(150, 170, seed=i))
    write(photographs, b"c\xe9.cr2", b"raw")
    ended = as_a_user("prepare", "-c", "demo", *tiny_overrides(photographs, workspace), **locale)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.splitlines()[0] == b"data.uri: skipped 1: 1 camera raw picture (c\\xe9.cr2)"
    facts, folder = prepared(workspace)
    assert facts["photos"] == len(NAMES) and facts["rejected"] == 0
    assert facts["skipped"] == {"camera raw pictures": {"count": 1, "examples": ["c\\xe9.cr2"]}}
    table = pq.read_table(io.BytesIO(folder.read("photos.parquet")))
    assert table["photo"].to_pylist() == sorted(NAMES.values())
    assert {row.photo for split in SPLITS for row in iterate_rows(folder, split)} == set(NAMES.values())


def test_a_folder_of_odd_names_is_compressed_where_output_is_ascii(model_folder: Folder, tmp_path: Path) -> None:
    photographs = tmp_path / "odd"
    for i, name in enumerate(NAMES):
        write(photographs, name, jpeg(40, 50, seed=i))
    small = tmp_path / "small"
    ended = as_a_user("compress", photographs, "-o", small, "-m", model_folder.path, **LOCALES[1])
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.isascii() and len(ended.stdout.splitlines()) == len(NAMES) + 1
    found = {os.fsencode(path.relative_to(small)) for path in small.rglob("*") if path.is_file()}
    assert found == {name.removesuffix(b".jpg") + b".hfd" for name in NAMES}


def test_thumbnails_of_a_nas_are_no_photographs(hfd: Hfd, tmp_path: Path) -> None:
    """Synology keeps a smaller copy of each picture, below folders whose names sort before letters."""
    photographs = tmp_path / "nas"
    for i in range(6):
        picture = Image.fromarray(photograph(200, 300, seed=i))
        (photographs / f"@eaDir/{i}.jpg").mkdir(parents=True)
        picture.save(photographs / f"{i}.jpg", quality=90)
        picture.resize((180, 120)).save(photographs / f"@eaDir/{i}.jpg/SYNOPHOTO_THUMB_XL.jpg", quality=70)
    (photographs / "loop").symlink_to("..")
    (photographs / "notes.txt").write_text("x")
    ended = hfd("prepare", "-c", "demo", *tiny_overrides(photographs, tmp_path / "w"))
    assert ended.code == 0
    line = "skipped 8: 6 thumbnails (@eaDir), 1 link to a folder that contains it (loop), 1 other file (.txt)"
    assert ended.out.splitlines()[0] == f"data.uri: {line}"
    facts, folder = prepared(tmp_path / "w")
    assert (facts["photos"], facts["rejected"], facts["other_files"]) == (6, 0, 1)
    assert {name: group["count"] for name, group in facts["skipped"].items()} == {
        "thumbnails": 6, "links to folders that contain them": 1, "other files": 1,
    }  # fmt: skip
    assert {row.photo for split in SPLITS for row in iterate_rows(folder, split)} == {f"{i}.jpg" for i in range(6)}
    again = hfd("prepare", "-c", "demo", *tiny_overrides(photographs, tmp_path / "w"))
    assert again.out.splitlines()[0] == f"data.uri: {line}" and "nothing to do" in again.out


def test_lines_of_both_trees_of_an_evaluation(hfd: Hfd, tmp_path: Path) -> None:
    for tree in ("photographs", "pictures"):
        write(tmp_path / tree, b"a.jpg", jpeg(150, 170, seed=1))
        write(tmp_path / tree, f"{tree}.mov".encode(), b"x")
    overrides = tiny_overrides(tmp_path / "photographs", tmp_path / "w", f"evaluate.data={tmp_path}/pictures")
    ended = hfd("prepare", "-c", "demo", *overrides, "prepare.validation_share=0")
    assert ended.code == 0
    assert ended.out.splitlines()[:2] == [
        "data.uri: skipped 1: 1 video (photographs.mov)", "evaluate.data: skipped 1: 1 video (pictures.mov)",
    ]  # fmt: skip


def test_pictures_that_are_empty_or_of_another_format_than_their_suffix(hfd: Hfd, tmp_path: Path) -> None:
    """The suffix decides what is taken, and the content how it is read."""
    photographs = tmp_path / "photographs"
    png = io.BytesIO()
    Image.fromarray(photograph(150, 170, seed=1)).save(png, "PNG")
    write(photographs, b"a png.jpg", png.getvalue())
    write(photographs, b"a jpeg.PNG", jpeg(150, 170, seed=2))
    write(photographs, b"empty.jpg", b"")
    write(photographs, b"video.jpg", b"\0\0\0\x18ftypisom" + bytes(100))
    write(photographs, b"raw.tif", b"II*\0\x10\0\0\0CR\x02\0" + bytes(100))
    write(photographs, b"a jpeg.txt", jpeg(150, 170, seed=3))
    write(photographs, b"jpeg", jpeg(150, 170, seed=4))
    (photographs / "gone.jpg").symlink_to("nowhere")
    overrides = tiny_overrides(
        photographs, tmp_path / "w", "prepare.max_reject_share=0.9", "prepare.validation_share=0"
    )
    ended = hfd("prepare", "-c", "demo", *overrides)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == "data.uri: skipped 2: 2 other files (.txt, without a suffix)"
    facts, folder = prepared(tmp_path / "w")
    rows = pq.read_table(io.BytesIO(folder.read("photos.parquet"))).to_pylist()
    assert {row["photo"]: row["reason"] for row in rows} == {
        "a png.jpg": None, "a jpeg.PNG": None, "empty.jpg": "not-an-image", "video.jpg": "unread-format",
        "raw.tif": "unread-format", "gone.jpg": "missing",
    }  # fmt: skip
    assert {row["photo"]: row["format"] for row in rows if row["reason"] is None} == {
        "a png.jpg": "PNG", "a jpeg.PNG": "JPEG",
    }  # fmt: skip
    assert facts["rejected"] == 4
