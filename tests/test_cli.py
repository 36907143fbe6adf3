"""The command line: what it prints, how it ends, and what a mistake is told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import photograph
from PIL import Image

from hfd.autoencoder.coding import build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.weights import write_autoencoder
from hfd.cli import main
from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.errors import DataError
from hfd.images import load_rgb
from hfd.presets import load_config
from hfd.storage import Folder

HEAVY = ["torch", "ray", "mlflow", "compressai", "pyarrow", "numpy", "yaml", "PIL", "matplotlib"]
COMMANDS = [
    "retrain", "prepare", "train-autoencoder", "reconstruct", "train-decoder", "evaluate",
    "compress", "decompress", "info",
]  # fmt: skip
TINY = [
    "tracking.uri=null",
    "cluster.kind=inline",
    "cluster.train_threads=1",
    "prepare.downscale=null",
    "prepare.source_crop_px=64",
    "prepare.min_side_px=64",
    "prepare.validation_share=0.3",
    "autoencoder.N=16",
    "autoencoder.M=16",
    "autoencoder.groups=[8, 8]",
    "autoencoder.train.crop_px=64",
    "autoencoder.train.batch_size=1",
    "autoencoder.train.precision=float32",
]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a mistake: exit code 2, nothing on standard output, no traceback."""
        assert (self.code, self.out) == (2, "")
        assert self.err.startswith("hfd: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("hfd: ").rstrip("\n")


Hfd = Callable[..., Ended]


@pytest.fixture
def hfd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hfd:
    """Runs a command line in this process."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hfd", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Ended(stop.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo ü.png"
    Image.fromarray(photograph(70, 90)).save(path)
    return path


@pytest.fixture(scope="session")
def compressed(model_folder: Folder) -> bytes:
    return Codec.load(model_folder).compress(photograph(70, 90)).data


@pytest.fixture
def file(tmp_path: Path, compressed: bytes) -> Path:
    path = tmp_path / "photo.hfd"
    path.write_bytes(compressed)
    return path


# --- quick to start ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["retrain", "--help"], ["compress", "--help"], ["nonsense"]])
def test_help_and_slips_of_the_pen_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from hfd.cli import main\n"
        f"sys.argv = ['hfd', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        f"    heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "    print('HEAVY', heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_settings_alone_import_no_engine_and_no_torch() -> None:
    script = (
        "import sys\n"
        "from hfd.presets import load_config\n"
        "load_config('desk')\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'compressai', 'pyarrow', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- help and usage ------------------------------------------------------------------------------


def test_help_names_every_command(hfd: Hfd) -> None:
    for arguments in (["--help"], ["-h"]):
        ended = hfd(*arguments)
        assert (ended.code, ended.err) == (0, "")
        assert all(command in ended.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(hfd: Hfd, command: str) -> None:
    ended = hfd(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"Usage: hfd {command}" in ended.out


def test_no_arguments_is_a_mistake_that_shows_the_help(hfd: Hfd) -> None:
    ended = hfd()
    assert ended.code == 2
    assert all(command in ended.out + ended.err for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["retrain"], "Missing option '--config' / '-c'"),
        (["retrain", "-c"], "requires an argument"),
        (["retrain", "--confg", "desk"], "No such option: --confg"),
        (["compress"], "Missing argument 'picture'"),
        (["compress", "x.png"], "Missing option '--model' / '-m'"),
        (["decompress", "x.hfd", "-m", "m", "--steps", "-1"], "Invalid value for '--steps'"),
        (["decompress", "x.hfd", "-m", "m", "--steps", "many"], "Invalid value for '--steps'"),
        (["decompress", "x.hfd", "-m", "m", "--seed", "-1"], "Invalid value for '--seed'"),
        (["info"], "Missing argument 'file'"),
        (["info", "x", "y"], "unexpected extra argument"),
    ],
)
def test_mistakes_of_usage(hfd: Hfd, arguments: list[str], words: str) -> None:
    assert words.lower() in hfd(*arguments).complaint.lower()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["-c", "dsk"],
            "preset: got 'dsk', expected one of clic, coco256, demo, desk or a .yaml file. Did you mean desk?",
        ),
        (["-c", "desk"], "data.uri: missing, expected a folder or s3:// prefix. Give it as data.uri=..."),
        (["-c", "desk", "autoencoder.lamda=1"], "autoencoder.lamda: unknown key. Did you mean autoencoder.lmbda?"),
        (["-c", "desk", "seed"], "override: got 'seed', expected key=value. Example: autoencoder.lmbda=0.002"),
        (["-c", "desk", "data.uri=/nowhere"], "data.uri: /nowhere: got no such folder, expected one that exists"),
    ],
)
@pytest.mark.parametrize("command", ["retrain", "prepare", "evaluate"])
def test_mistakes_in_settings(hfd: Hfd, command: str, arguments: list[str], line: str) -> None:
    assert hfd(command, *arguments).complaint == line


def test_every_mistake_in_the_settings_has_its_line(hfd: Hfd) -> None:
    ended = hfd("retrain", "-c", "desk", "seed=-1", "autoencoder.lamda=1", "cluster.kind=foo")
    assert (ended.code, ended.out) == (2, "")
    assert [line.split(": ")[:2] for line in ended.err.splitlines()] == [
        ["hfd", "seed"],
        ["hfd", "autoencoder.lamda"],
        ["hfd", "cluster.kind"],
    ]


def test_an_empty_folder_of_photographs(hfd: Hfd, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/notes.txt").write_text("no picture")
    complaint = hfd("retrain", "-c", "desk", f"data.uri={tmp_path}/photos", f"workspace={tmp_path}/w").complaint
    assert complaint == f"data.uri: got no pictures in {tmp_path}/photos, expected some. Check the folder"
    assert not (tmp_path / "w").exists()


def test_a_step_whose_inputs_are_missing_names_the_command_to_run(hfd: Hfd, tmp_path: Path, photo: Path) -> None:
    where = [f"data.uri={photo.parent}", f"workspace={tmp_path}/w"]
    assert "Run hfd prepare first" in hfd("train-decoder", "-c", "desk", *where, *TINY).complaint


def test_a_bug_is_not_dressed_up_as_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("hfd.presets.load_config", fail)
    monkeypatch.setattr(sys, "argv", ["hfd", "retrain", "-c", "desk"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_the_exit_code_reaches_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hfd", "retrain", "-c", "dsk"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


# --- dry run -------------------------------------------------------------------------------------


def test_a_dry_run_prints_settings_sizes_and_steps_and_creates_nothing(
    hfd: Hfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(photo, photos)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    overrides = [f"data.uri={photos}", f"workspace={tmp_path}/w", "seed=9"]
    before = sorted(tmp_path.rglob("*"))
    ended = hfd("retrain", "-c", "desk", "--dry-run", *overrides)
    assert (ended.code, ended.err) == (0, "")
    settings, sizes, steps = ended.out.rstrip("\n").split("\n\n")
    assert yaml.safe_load(settings) == load_config("desk", overrides).model_dump(mode="json")
    assert sizes.count("M parameters") == 2
    assert sizes.count("GFLOPs/megapixel") == 2
    names = ["prepare", "train-autoencoder", "reconstruct", "train-decoder", "evaluate"]
    assert [line.split()[0] for line in steps.splitlines()] == names
    assert all("would run" in line for line in steps.splitlines())
    assert f"{tmp_path}/w/prepare/" in steps
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_a_step_speaks_of_that_step(hfd: Hfd, photo: Path) -> None:
    ended = hfd("train-autoencoder", "-c", "desk", "--dry-run", f"data.uri={photo.parent}", "workspace=/nowhere/w")
    assert ended.code == 0
    steps = ended.out.rstrip("\n").split("\n\n")[-1]
    assert [line.split()[0] for line in steps.splitlines()] == ["train-autoencoder"]


def test_a_dry_run_works_before_there_are_photographs(hfd: Hfd) -> None:
    ended = hfd("retrain", "-c", "clic", "--dry-run")
    assert ended.code == 0
    assert ended.out.endswith("steps: unknown until data.uri is given\n")


def test_a_dry_run_tells_mistakes_too(hfd: Hfd) -> None:
    assert hfd("retrain", "-c", "desk", "--dry-run", "seed=x").complaint.startswith("seed: got 'x'")
    ended = hfd("retrain", "-c", "desk", "--dry-run", "data.uri=/nowhere")
    assert ended.code == 2
    assert ended.err == "hfd: data.uri: /nowhere: got no such folder, expected one that exists\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m hfd retrain --help | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.stderr == ""


# --- compress, decompress, info ------------------------------------------------------------------


def test_there_and_back_again(hfd: Hfd, photo: Path, model_folder: Folder, compressed: bytes) -> None:
    ended = hfd("compress", photo, "-m", model_folder.path)
    assert (ended.code, ended.err) == (0, "")
    file = photo.with_suffix(".hfd")
    assert file.read_bytes() == compressed
    bpp = 8 * len(compressed) / (70 * 90)
    assert ended.out == f"{file}: 90 x 70, {len(compressed)} bytes, {bpp:.3f} bpp\n"

    decoded = photo.with_name("decoded.png")
    ended = hfd("decompress", file, "-m", model_folder.path, "-o", decoded, "--steps", 2)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{decoded}: 90 x 70, sample of 2 steps, seed ")
    assert load_rgb(decoded).shape == (70, 90, 3)


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
    plain = decode("4.png", "--steps", 0)
    np.testing.assert_array_equal(plain, Codec.load(model_folder).reconstruct(file.read_bytes()))
    assert (plain != first).any()


def test_a_model_without_a_decoder_gives_the_reconstruction_and_says_so(
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


def test_info_says_what_a_file_holds(hfd: Hfd, file: Path, compressed: bytes) -> None:
    ended = hfd("info", file)
    assert (ended.code, ended.err) == (0, "")
    container = unpack(compressed)
    assert ended.out == (
        "size         90 x 70\n"
        f"bytes        {len(compressed)} ({8 * len(compressed) / 6300:.3f} bpp)\n"
        f"model        {container.model.hex()}\n"
        f"holds        latents {len(container.sections[0])} bytes\n"
    )


def test_info_says_what_a_model_is(hfd: Hfd, model_folder: Folder, compressed: bytes) -> None:
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
    assert complaint == f"{tmp_path}/none.xyz: got no such file, expected a file"
    assert _untouched(tmp_path) == {}


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_folder_is_no_file(hfd: Hfd, command: str, model_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    complaint = hfd(command, tmp_path / "folder", "-m", model_folder.path).complaint
    assert complaint == f"{tmp_path}/folder: got a folder, expected a file"


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
def test_compressing_what_is_no_picture(
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
    assert "truncated or damaged" in complaint or "no .hfd file" in complaint
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
        f"{photo}: magic: got 89 50 4e 47, expected 89 48 46 44. This is no .hfd file"
    )


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


# --- outputs -------------------------------------------------------------------------------------


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
    decompress = ["decompress", file, "-m", model_folder.path, "-o", picture, "--steps", 0]
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
    (tmp_path / "folder.hfd").mkdir()
    complaint = hfd("compress", photo, "-m", model_folder.path, "-o", tmp_path / "folder.hfd", "-f").complaint
    assert complaint == f"{tmp_path}/folder.hfd: got a folder, expected the name of a file for --output"


def test_an_output_below_a_file(hfd: Hfd, photo: Path, file: Path, model_folder: Folder) -> None:
    complaint = hfd("compress", photo, "-m", model_folder.path, "-o", file / "x.hfd").complaint
    assert complaint == f"{file}/x.hfd: a folder of its path is a file. Give another path"
    decompress = ["decompress", file, "-m", model_folder.path, "--steps", 0]
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


@pytest.mark.parametrize("name", ["x.jpg", "x", "x.webp", "x.png.bak"])
def test_an_output_that_is_no_png(hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path, name: str) -> None:
    complaint = hfd("decompress", file, "-m", model_folder.path, "-o", tmp_path / name).complaint
    assert complaint.startswith(f"{tmp_path}/{name}: got ")
    assert complaint.endswith("expected .png")
    assert not (tmp_path / name).exists()


def test_a_full_disk_is_one_line(hfd: Hfd, photo: Path, model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hfd.storage.os.fsync", full)
    assert "the disk is full" in hfd("compress", photo, "-m", model_folder.path).complaint
    assert [path.name for path in photo.parent.iterdir()] == [photo.name]


# --- stopping ------------------------------------------------------------------------------------


def test_an_interrupt_is_exit_code_130(hfd: Hfd, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hfd.presets.load_config", stop)
    ended = hfd("retrain", "-c", "desk")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "hfd: stopped. Run the same command again to go on.\n"


def test_every_line_of_a_message_is_marked_as_ours(hfd: Hfd, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DataError("photos: got nothing,\nexpected something")

    monkeypatch.setattr("hfd.presets.load_config", fail)
    assert hfd("retrain", "-c", "desk").err == "hfd: photos: got nothing,\nhfd: expected something\n"


def test_ctrl_c_stops_a_training_and_leaves_its_checkpoint(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(4):
        Image.fromarray(photograph(64, 64, seed=index)).save(photos / f"{index}.png")
    where = [f"data.uri={photos}", f"evaluate.data={photos}", f"workspace={tmp_path}/w"]
    schedule = ["autoencoder.train.budget=1000000 steps", "autoencoder.train.checkpoint_every_s=0.2"]
    command = [sys.executable, "-m", "hfd", "retrain", "-c", "desk", *where, *TINY, *schedule]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while not list((tmp_path / "w").rglob("checkpoint-*")):
            assert running.poll() is None, running.communicate()
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "hfd: stopped. Run the same command again to go on."
    assert out.startswith("prepare")
    assert list((tmp_path / "w/train-autoencoder").rglob("manifest.json")) == []
    assert list((tmp_path / "w/train-autoencoder").rglob("checkpoint-*")) != []
