"""The commands of the codec: compress, decompress, export, info, and messages for bad input."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.weights import write_autoencoder
from hfd.codec.codec import Codec
from hfd.codec.container import pack, unpack
from hfd.codec.sampling_options import SamplingOptions
from hfd.codec.sections import Extras
from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from tests.support.command_line import Hfd
from tests.support.pictures import photograph

# --- compress, decompress, info ------------------------------------------------------------------


def test_there_and_back_again(hfd: Hfd, photo: Path, model_folder: Folder, compressed: bytes) -> None:
    ended = hfd("compress", photo, "-m", model_folder.path)
    assert (ended.code, ended.err) == (0, "")
    file = photo.with_suffix(".hfd")
    assert file.read_bytes() == compressed
    bpp = 8 * len(compressed) / (70 * 90)
    assert ended.out == (
        f"{file}: 90 x 70, {len(compressed)} bytes, {bpp:.3f} bpp (source: {photo.stat().st_size:,} bytes)\n"
    )

    decoded = photo.with_name("decoded.png")
    ended = hfd("decompress", file, "-m", model_folder.path, "-o", decoded, "--steps", 2)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{decoded}: 90 x 70, sample of 2 steps, seed ")
    assert load_rgb(decoded).shape == (70, 90, 3)


def test_only_smaller_files_are_written(hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path) -> None:
    icon = tmp_path / "in/icon.png"
    icon.parent.mkdir()
    Image.new("1", (64, 64)).save(icon)
    size = icon.stat().st_size
    command = ["compress", "-m", model_folder.path, "--only-smaller"]
    ended = hfd(*command, icon)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{icon}: ")
    assert ended.out.endswith(f" bytes would not be smaller than the source ({size} bytes), not written\n")
    assert [path.name for path in icon.parent.iterdir()] == ["icon.png"]

    shutil.copy(photo, icon.parent / "photo.png")
    ended = hfd(*command, icon.parent)
    taken, made = photo.stat().st_size, icon.with_name("photo.hfd").stat().st_size
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == (
        f"1 of 2 files written, {taken:,} bytes in, {made:,} bytes out, ratio {made / taken:.3f}, 1 not smaller"
    )
    assert not icon.with_suffix(".hfd").exists()

    assert hfd(*command, photo, "-o", "-").complaint == (
        "--only-smaller: got standard output, expected a file or a folder. Give --output FILE"
    )


def test_a_picture_that_is_read_by_strips_gives_the_same_file(
    hfd: Hfd, photo: Path, model_folder: Folder, compressed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hfd.codec.picture.strips.WHOLE_PIXELS", 100)
    monkeypatch.setattr("hfd.codec.picture.strips.STRIP_PIXELS", 1000)
    assert hfd("compress", photo, "-m", model_folder.path).code == 0
    file = photo.with_suffix(".hfd")
    assert file.read_bytes() == compressed
    for target in (["--bytes", 300], ["--quality", 40]):
        by_strips, whole = photo.with_name("strips.hfd"), photo.with_name("whole.hfd")
        assert hfd("compress", photo, "-m", model_folder.path, "-o", by_strips, "-f", *target).code == 0
        with monkeypatch.context() as patch:
            patch.setattr("hfd.codec.picture.strips.WHOLE_PIXELS", 10**6)
            patch.setattr("hfd.codec.encode.KEPT_PIXELS", 0)
            assert hfd("compress", photo, "-m", model_folder.path, "-o", whole, "-f", *target).code == 0
        assert by_strips.read_bytes() == whole.read_bytes()

    photo.write_bytes(photo.read_bytes()[:-200])
    file.unlink()
    assert "expected a whole image" in hfd("compress", photo, "-m", model_folder.path).complaint
    assert not file.exists()


def test_a_file_decodes_to_the_same_picture_again_and_to_another_by_seed(
    hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path
) -> None:
    def decode(name: str, *options: object) -> np.ndarray:
        ended = hfd("decompress", file, "-m", model_folder.path, "-o", tmp_path / name, *options)
        assert ended.code == 0
        return load_rgb(tmp_path / name)

    first = decode("1.png", "--steps", 2)
    np.testing.assert_array_equal(decode("2.png", "--steps", 2), first)
    assert (decode("3.png", "--steps", 2, "--seed", 5) != first).any()
    plain = decode("4.png", "--realism", 0)
    np.testing.assert_array_equal(plain, Codec.load(model_folder).reconstruct(file.read_bytes()))
    assert (plain != first).any()


def test_a_model_without_a_decoder_gives_the_reconstruction_with_a_note(
    hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path
) -> None:
    shutil.copytree(model_folder.path / "autoencoder", tmp_path / "stage1/autoencoder")
    ended = hfd("decompress", file, "-m", tmp_path / "stage1", "-o", tmp_path / "x.png")
    assert ended.out == f"{tmp_path}/x.png: 90 x 70, reconstruction\n"
    assert "decoder      none" in hfd("info", tmp_path / "stage1").out


def test_a_workspace_stands_for_its_newest_model(
    hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path, compressed: bytes
) -> None:
    shutil.copytree(model_folder.path, tmp_path / "w/train-decoder/abc")
    (tmp_path / "w/latest.json").write_text('{"model": "train-decoder/abc", "report": "evaluate/x"}')
    assert hfd("compress", photo, "-m", tmp_path / "w").code == 0
    assert photo.with_suffix(".hfd").read_bytes() == compressed
    assert f"{tmp_path}/w/train-decoder/abc" in hfd("info", tmp_path / "w").out


def test_info_describes_a_file(hfd: Hfd, file: Path, compressed: bytes) -> None:
    ended = hfd("info", file)
    assert (ended.code, ended.err) == (0, "")
    container = unpack(compressed)
    assert ended.out == (
        "size         90 x 70\n"
        f"bytes        {len(compressed)} ({8 * len(compressed) / 6300:.3f} bpp)\n"
        "version      2\n"
        f"model        {container.model.hex()}\n"
        "rate         128\n"
        "colour       sRGB\n"
        f"checksum     {container.checksum:08x}\n"
        f"holds        latents {len(container.sections[0])} bytes\n"
    )


def test_info_of_a_file_with_every_section(hfd: Hfd, file: Path, compressed: bytes) -> None:
    extras = Extras(photograph(70, 90)[..., 0], b"profile", b"exif", SamplingOptions(steps=3, realism=0.5, seed=9))
    sections = {**unpack(compressed).sections, **extras.to_sections(), 200: b"later"}
    file.write_bytes(pack(replace(unpack(compressed), sections=sections)))
    ended = hfd("info", file)
    assert (ended.code, ended.err) == (0, "")
    held = [f"alpha {len(sections[128])}", "icc 8", "exif 5", "sampling 20", "section 200 5"]
    held.insert(0, f"latents {len(sections[0])}")
    assert f"holds        {', '.join(f'{one} bytes' for one in held)}\n" in ended.out
    assert "colour       of its ICC profile\n" in ended.out
    assert ended.out.endswith("sampling     steps 3, realism 0.5, seed 9\n")


def test_info_describes_a_model(hfd: Hfd, model_folder: Folder, compressed: bytes) -> None:
    ended = hfd("info", model_folder.path)
    assert (ended.code, ended.err) == (0, "")
    assert f"autoencoder  {unpack(compressed).model.hex()}" in ended.out
    assert "'N': 16" in ended.out


# --- bad input -----------------------------------------------------------------------------------


def _untouched(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("command", ["compress", "decompress", "info"])
def test_a_missing_file_is_named(hfd: Hfd, command: str, model_folder: Folder, tmp_path: Path) -> None:
    model = [] if command == "info" else ["-m", model_folder.path]
    complaint = hfd(command, tmp_path / "none.xyz", *model).complaint
    assert complaint == f"{tmp_path}/none.xyz: got no such file, expected a file or a folder"
    assert _untouched(tmp_path) == {}


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_folder_without_such_files(hfd: Hfd, command: str, model_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("no picture")
    complaint = hfd(command, tmp_path / "folder", "-m", model_folder.path).complaint
    assert complaint.startswith(f"{tmp_path}/folder: got a folder without such files, expected .")


def test_info_of_a_folder_that_is_no_model(hfd: Hfd, tmp_path: Path) -> None:
    assert hfd("info", tmp_path).complaint.startswith(f"{tmp_path}: got no model there, expected a folder with")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"not a picture at all", "begins with b'not a pi'"),
        (b"\x89HFD\x01" + bytes(40), "begins with b'\\x89HFD"),
    ],
)
def test_compressing_a_file_that_is_not_a_picture(
    hfd: Hfd, model_folder: Folder, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    complaint = hfd("compress", tmp_path / "bad.png", "-m", model_folder.path).complaint
    assert complaint.startswith(f"{tmp_path}/bad.png: got ")
    assert words in complaint
    assert list(tmp_path.glob("*.hfd")) == []


@pytest.mark.parametrize("kept", [8, 50, 500, 0.5, -200])
def test_compressing_a_truncated_picture(hfd: Hfd, model_folder: Folder, photo: Path, kept: float) -> None:
    data = photo.read_bytes()
    photo.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert hfd("compress", photo, "-m", model_folder.path).complaint.startswith(f"{photo}: got ")
    assert not photo.with_suffix(".hfd").exists()


@pytest.mark.parametrize("command", ["decompress", "info"])
@pytest.mark.parametrize("kept", [0, 1, 3, 4, 5, 9, 17, 23, 24, 0.5, -4, -1])
def test_a_truncated_file(hfd: Hfd, command: str, kept: float, file: Path, model_folder: Folder) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    complaint = hfd(command, file, *([] if command == "info" else ["-m", model_folder.path])).complaint
    assert complaint.startswith(f"{file}: ")
    assert any(words in complaint for words in ("truncated or damaged", "not an .hfd file", "got no bytes"))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_damaged_file(hfd: Hfd, file: Path, model_folder: Folder) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)
    assert "truncated or damaged" in hfd("decompress", file, "-m", model_folder.path).complaint


@pytest.mark.parametrize("command", ["decompress", "info"])
def test_a_foreign_file(hfd: Hfd, command: str, photo: Path, model_folder: Folder) -> None:
    model = [] if command == "info" else ["-m", model_folder.path, "-o", photo.with_name("x.png")]
    assert hfd(command, photo, *model).complaint == (
        f"{photo}: magic: got 89 50 4e 47, expected 89 48 46 44. This is not an .hfd file"
    )


@pytest.mark.parametrize("command", ["decompress", "info"])
def test_a_file_of_version_1(hfd: Hfd, command: str, file: Path, model_folder: Folder) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:4] + b"\x01" + data[5:])
    assert hfd(command, file, *([] if command == "info" else ["-m", model_folder.path])).complaint == (
        f"{file}: version: got version 1, expected version 2. Use the hfd release that wrote it"
    )


def test_a_file_whose_header_claims_two_thousand_million_pixels(
    hfd: Hfd, file: Path, model_folder: Folder, compressed: bytes
) -> None:
    file.write_bytes(pack(replace(unpack(compressed), width=2**16, height=2**15)))
    complaint = hfd("decompress", file, "-m", model_folder.path).complaint
    assert complaint.startswith(f"{file}: size: got 65536 x 32768 pixels, expected at most 64000000 pixels")
    assert "size         65536 x 32768\n" in hfd("info", file).out
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_whose_symbols_are_not_those_of_its_checksum(
    hfd: Hfd, file: Path, model_folder: Folder, compressed: bytes
) -> None:
    file.write_bytes(pack(replace(unpack(compressed), checksum=1)))
    complaint = hfd("decompress", file, "-m", model_folder.path).complaint
    assert complaint.startswith(f"{file}: checksum of symbols: got ")
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_of_another_model(hfd: Hfd, file: Path, tmp_path: Path, compressed: bytes) -> None:
    other = Elic(N=16, M=16, groups=(8, 8)).eval()
    settings = {"arch": "elic", "N": 16, "M": 16, "groups": [8, 8], "lmbda": 0.004}
    write_autoencoder(Folder(str(tmp_path / "other/autoencoder")), other, build_tables(other), settings)
    complaint = hfd("decompress", file, "-m", tmp_path / "other").complaint
    assert complaint.startswith(f"{file}: model: got a file made by {unpack(compressed).model.hex()}, expected ")
    assert complaint.endswith("Give the model that made it with --model")
    assert not file.with_suffix(".png").exists()


@pytest.mark.parametrize("model", ["nowhere", "photo.hfd", "."])
def test_a_model_that_is_none(
    hfd: Hfd, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    complaint = hfd("decompress", file, "-m", model, "-o", tmp_path / "x.png").complaint
    assert "got no model there, expected a folder with autoencoder/config.json, or a workspace" in complaint


@pytest.mark.parametrize(
    ("damaged", "content"),
    [
        ("autoencoder/weights.safetensors", b""),
        ("autoencoder/weights.safetensors", b"\x10" + bytes(7) + b"not json at all!"),
        ("autoencoder/config.json", b"{"),
        ("autoencoder/config.json", b"[]"),
        ("autoencoder/config.json", b"\xff\xfe"),
        ("autoencoder/config.json", b'{"format": 99}'),
        ("autoencoder/config.json", b'{"format": 1, "arch": "elic"}'),
        ("decoder/weights.safetensors", b"short"),
        ("decoder/config.json", b'{"format": 1}'),
    ],
)
def test_a_damaged_model(
    hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path, damaged: str, content: bytes
) -> None:
    shutil.copytree(model_folder.path, tmp_path / "m")
    (tmp_path / "m" / damaged).write_bytes(content)
    complaint = hfd("compress", photo, "-m", tmp_path / "m").complaint
    assert complaint.startswith(f"{tmp_path}/m/{damaged.split('/')[0]}")
    assert not photo.with_suffix(".hfd").exists()


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"model": "gone"}', b'{"report": "x"}'])
def test_a_workspace_whose_record_is_damaged_or_void(hfd: Hfd, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "latest.json").write_bytes(content)
    assert str(tmp_path) in hfd("info", tmp_path).complaint


# --- models --------------------------------------------------------------------------------------


def test_an_exported_model_decodes_what_it_compresses(
    hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    assert hfd("export", model_folder.path, copy, "--half").out.startswith(f"{copy}: autoencoder and decoder, ")
    assert hfd("compress", photo, "-m", copy, "-o", tmp_path / "a.hfd").code == 0
    assert hfd("decompress", tmp_path / "a.hfd", "-m", copy, "--steps", 1, "-o", tmp_path / "a.png").code == 0
    assert "holds a model already" in hfd("export", model_folder.path, copy).complaint


def test_graphs_are_exported_with_a_copy_or_added_to_a_model(hfd: Hfd, model_folder: Folder, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert hfd("export", model_folder.path, one, "--half", "--onnx").code == 0
    graphs = {path.relative_to(one): path.read_bytes() for path in one.rglob("*.onnx")}
    assert [str(path) for path in sorted(graphs)] == [
        "autoencoder/analysis.onnx", "autoencoder/hyper_analysis.onnx", "autoencoder/synthesis.onnx",
        "decoder/network.onnx", "decoder/network_known.onnx",
    ]  # fmt: skip
    assert hfd("export", model_folder.path, other, "--half").code == 0
    assert not list(other.rglob("*.onnx"))
    assert hfd("export", other, other, "--onnx").out == f"{other}: {', '.join(map(str, sorted(graphs)))}\n"
    assert {path.relative_to(other): path.read_bytes() for path in other.rglob("*.onnx")} == graphs
    assert "holds a model already" in hfd("export", other, other, "--onnx", "--half").complaint


def test_compressing_without_a_model(hfd: Hfd, photo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hfd.io.model_folders.MODELS", tmp_path / "none")
    assert hfd("compress", photo).complaint.startswith("model: missing, expected --model FOLDER")


def test_a_file_of_no_shipped_model_asks_for_its_model(hfd: Hfd, file: Path) -> None:
    complaint = hfd("decompress", file).complaint
    assert "model: got a file made by" in complaint and "Give the model that made it with --model" in complaint
