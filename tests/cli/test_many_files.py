"""The codec's commands as users run them: over many files, in pipes, on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hfd as library
from hfd.codec.container import unpack
from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from tests.support.command_line import Hfd
from tests.support.pictures import photograph

pytestmark = pytest.mark.integration

X = photograph(40, 70)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two good pictures and a bad one, in a tree."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(X).save(folder / "a.png")
    Image.fromarray(X).save(folder / "sub/b.webp", lossless=True)
    (folder / "bad.jpg").write_bytes(b"")
    return folder


def as_a_user(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hfd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_there_and_back(hfd: Hfd, pictures: Path, model_folder: Folder, tmp_path: Path) -> None:
    os.utime(pictures / "a.png", ns=(10**18, 10**18))
    model = ["-m", model_folder.path]
    ended = as_a_user("compress", pictures, *model, "-o", tmp_path / "small")
    assert ended.returncode == 1
    assert ended.stderr.decode() == (
        f"hfd: {pictures}/bad.jpg: got an empty file, expected an image. Leave it out or replace the file.\n"
        "hfd: 1 of 3 failed\n"
    )
    *lines, total = ended.stdout.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"{tmp_path}/small/a.hfd", f"{tmp_path}/small/sub/b.hfd"]
    made = [(tmp_path / "small" / name).stat().st_size for name in ("a.hfd", "sub/b.hfd")]
    taken = [(pictures / name).stat().st_size for name in ("a.png", "sub/b.webp")]
    assert total == (
        f"2 of 3 files written, {sum(taken):,} bytes in, {sum(made):,} bytes out, "
        f"ratio {sum(made) / sum(taken):.3f}, 1 failed"
    )
    assert files(tmp_path / "small") == ["a.hfd", "sub/b.hfd"]
    assert (tmp_path / "small/a.hfd").read_bytes() == library.compress(X, model=model_folder.path)

    (tmp_path / "small/bad.hfd").write_bytes((tmp_path / "small/a.hfd").read_bytes()[:-1])
    back = ["decompress", tmp_path / "small", *model, "-o", tmp_path / "large", "--realism", 0]
    told = hfd(*back, "--format", "webp")
    assert told.code == 1
    assert told.err.endswith("hfd: 1 of 3 failed\n")
    assert told.err.startswith(f"hfd: {tmp_path}/small/bad.hfd: CRC32: does not match")
    assert files(tmp_path / "large") == ["a.webp", "sub/b.webp"]
    assert (tmp_path / "large/a.webp").stat().st_mtime_ns == 10**18
    (tmp_path / "small/bad.hfd").unlink()
    told = hfd(*back, "--format", "webp", "--skip")
    assert (told.code, told.out.count("exists already, skipped")) == (0, 2)


def test_pipes_carry_pictures_and_nothing_else(model_folder: Folder, tmp_path: Path) -> None:
    Image.fromarray(X).save(tmp_path / "x.png")
    model = ["-m", model_folder.path]
    data = library.compress(X, model=model_folder.path)
    ended = as_a_user("compress", "-", *model, input=(tmp_path / "x.png").read_bytes())
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, data, b"")
    ended = as_a_user("decompress", "-", *model, "--realism", 0, input=data)
    assert (ended.returncode, ended.stderr) == (0, b"")
    wanted = library.decompress(data, model=model_folder.path, realism=0.0)
    assert Image.open(io.BytesIO(ended.stdout)).tobytes() == wanted.tobytes()


def test_messages_in_a_pipe(hfd: Hfd, model_folder: Folder) -> None:
    ended = as_a_user("decompress", "-", "-m", model_folder.path, input=b"")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.decode().startswith("hfd: standard input: file: got no bytes, expected an .hfd file")
    assert "got other inputs beside standard input" in hfd("compress", "-", "x.png").complaint


def test_a_terminal_shows_a_bar_and_lines_go_where_they_are_sent(
    pictures: Path, model_folder: Folder, tmp_path: Path
) -> None:
    (pictures / "bad.jpg").unlink()
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "hfd", "compress", str(pictures), "-m", str(model_folder.path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=follower, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        )
        os.close(follower)
        seen = b""
        with suppress(OSError):  # the other side has closed
            while piece := os.read(leader, 4096):
                seen += piece
        assert process.wait() == 0
    os.close(leader)
    assert b"compress" in seen and b"2/2" in seen and b"files" in seen
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [f"{pictures}/a.hfd", f"{pictures}/sub/b.hfd"]


def test_targets_from_the_command_line(hfd: Hfd, photo: Path, model_folder: Folder) -> None:
    compress = ["compress", photo, "-m", model_folder.path, "-f", "-o", photo.with_name("x.hfd")]
    assert hfd(*compress, "--bytes", 600).code == 0
    assert photo.with_name("x.hfd").stat().st_size <= 600
    ended = hfd(*compress, "--bpp", 0.5)
    assert ended.code == 0
    assert 8 * photo.with_name("x.hfd").stat().st_size <= 0.5 * 90 * 70
    before = photo.with_name("x.hfd").read_bytes()
    complaint = hfd(*compress, "--bytes", 12).complaint
    assert complaint.startswith(f"{photo}: target: got 12 bytes, expected at least ")
    assert complaint.endswith("the smallest file of this picture. Raise the target or scale the picture down")
    assert photo.with_name("x.hfd").read_bytes() == before
    sizes = []
    for quality in (1, 100):
        hfd(*compress, "--quality", quality)
        sizes.append(photo.with_name("x.hfd").stat().st_size)
    assert sizes[0] < sizes[1]


def test_metadata_and_transparency_pass_through(hfd: Hfd, model_folder: Folder, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    alpha = np.tile(np.arange(70, dtype=np.uint8), (40, 1))
    Image.fromarray(np.dstack([X, alpha])).save(tmp_path / "x.png", exif=exif)
    model = ["-m", model_folder.path]
    for options, sections in (
        ([], {0, 128}),
        (["--no-alpha"], {0}),
        (["--keep-metadata"], {0, 128, 130}),
        (["--no-alpha", "--keep-metadata"], {0, 130}),
    ):
        assert hfd("compress", tmp_path / "x.png", *model, "-o", tmp_path / "x.hfd", "-f", *options).code == 0
        assert set(unpack((tmp_path / "x.hfd").read_bytes()).sections) == sections
    hfd("compress", tmp_path / "x.png", *model, "-o", tmp_path / "x.hfd", "-f", "--keep-metadata")
    for name, mode in (("y.png", "RGBA"), ("y.webp", "RGBA"), ("y.jpg", "RGB")):
        ended = hfd("decompress", tmp_path / "x.hfd", *model, "--realism", 0, "-o", tmp_path / name)
        assert ended.code == 0
        with Image.open(tmp_path / name) as image:
            assert image.mode == mode
            assert dict(image.getexif()) == {0x010F: "a camera"}
            if mode == "RGBA":
                np.testing.assert_array_equal(np.asarray(image)[..., 3], alpha)


def test_formats_and_their_limits(hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path) -> None:
    decompress = ["decompress", file, "-m", model_folder.path, "--realism", 0]
    assert hfd(*decompress, "-o", tmp_path / "x.webp").code == 0
    assert hfd(*decompress).code == 0
    np.testing.assert_array_equal(load_rgb(tmp_path / "x.webp"), load_rgb(file.with_suffix(".png")))
    assert "--format: got jpg for" in hfd(*decompress, "-o", tmp_path / "y.png", "--format", "jpg").complaint
    assert hfd(*decompress, "--format", "jpg").out.startswith(f"{file.with_suffix('.jpg')}: ")


def test_info_of_several_and_as_json(hfd: Hfd, file: Path, model_folder: Folder, compressed: bytes) -> None:
    bad = file.with_name("bad.hfd")
    bad.write_bytes(b"nonsense")
    ended = hfd("info", file, bad, model_folder.path)
    assert ended.code == 1
    assert ended.err.splitlines()[0].startswith(f"hfd: {bad}: magic: got ")
    assert ended.err.endswith("hfd: 1 of 3 failed\n")
    assert ended.out.startswith(f"{file}\nsize         90 x 70\n")
    assert f"\n\n{model_folder.path}\nmodel        " in ended.out
    ended = hfd("info", "--json", file)
    (facts,) = json.loads(ended.out)
    assert (ended.code, facts["bytes"], facts["width"], facts["rate"]) == (0, len(compressed), 90, 128)
    assert facts["sections"] == {"latents": len(unpack(compressed).sections[0])}
    assert len(json.loads(hfd("info", "--json", file, model_folder.path).out)) == 2


def test_info_of_a_folder_of_models(hfd: Hfd, model_folder: Folder, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(model_folder.path, tmp_path / "models" / name)
    models = json.loads(hfd("info", "--json", tmp_path / "models").out)
    assert [Path(facts["model"]).name for facts in models] == ["one", "two"]


def test_parts_of_pictures(hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path) -> None:
    decompress = ["decompress", file, "-m", model_folder.path, "-o", tmp_path / "x.png"]
    complaint = hfd(*decompress, "--region", "80,0,11,5").complaint
    assert complaint == f"{file}: region: got 80,0,11,5, expected x,y,w,h within 90 x 70 px. Move or shrink it"
    assert not (tmp_path / "x.png").exists()
    ended = hfd(*decompress, "--region", "60,7,30,20", "--steps", 1, "--workers", 2)
    assert ended.code == 0
    assert ended.out.startswith(f"{tmp_path}/x.png: 30 x 20, sample of 1 step, seed ")
    hfd(*decompress[:-1], tmp_path / "whole.png", "--steps", 1)
    whole, part = load_rgb(tmp_path / "whole.png").astype(int), load_rgb(tmp_path / "x.png").astype(int)
    np.testing.assert_allclose(part, whole[7:27, 60:90], atol=4)
