"""The command line: output, exit codes, and messages for mistakes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from hfd.config.presets import load_config
from hfd.errors import ConfigError
from pipelines.cli import main
from tests.support.command_line import Hfd
from tests.support.pictures import photograph

HEAVY = ["torch", "ray", "mlflow", "compressai", "pyarrow", "numpy", "yaml", "PIL", "matplotlib"]
COMMANDS = [
    "retrain", "prepare", "train-autoencoder", "reconstruct", "train-decoder", "evaluate", "promote", "rollback",
    "finetune-decoder", "compress", "decompress", "export", "info", "submit", "jobs", "stop",
]  # fmt: skip
TINY = [
    "tracking.uri=null",
    "cluster.kind=inline",
    "cluster.train_threads=1",
    "prepare.downscale=null",
    "prepare.source_crop_px=64",
    "prepare.min_side_px=64",
    "prepare.validation_share=0.3",
    "decoder.finish=null",
    "autoencoder.warm_start=null",
    "autoencoder.gdn_channels=null",
    "autoencoder.N=16",
    "autoencoder.M=16",
    "autoencoder.groups=[8, 8]",
    "autoencoder.train.crop_px=64",
    "autoencoder.train.batch_size=1",
    "autoencoder.train.precision=float32",
    "decoder.train.crop_px=64",
]


# --- quick to start ------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("arguments", [["--help"], ["retrain", "--help"], ["compress", "--help"], ["nonsense"]])
def test_help_and_slips_of_the_pen_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from pipelines.cli import main\n"
        f"sys.argv = ['hfd', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        f"    heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "    print('HEAVY', heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.integration
def test_settings_alone_import_no_engine_and_no_torch() -> None:
    script = (
        "import sys\n"
        "from hfd.config.presets import load_config\n"
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
        (["compress"], "Missing argument 'pictures'"),
        (["decompress", "x.hfd", "-m", "m", "--steps", "0"], "Invalid value for '--steps'"),
        (["decompress", "x.hfd", "-m", "m", "--steps", "many"], "Invalid value for '--steps'"),
        (["decompress", "x.hfd", "-m", "m", "--seed", "-1"], "Invalid value for '--seed'"),
        (["decompress", "x.hfd", "-m", "m", "--realism", "1.1"], "Invalid value for '--realism'"),
        (["decompress", "x.hfd", "-m", "m", "--realism", "nan"], "Invalid value for '--realism'"),
        (["decompress", "x.hfd", "-m", "m", "--gamma", "-0.1"], "Invalid value for '--gamma'"),
        (["decompress", "x.hfd", "-m", "m", "--gamma", "nan"], "Invalid value for '--gamma'"),
        (["decompress", "x.hfd", "-m", "m", "--stop", "nan"], "Invalid value for '--stop'"),
        (["submit", "--patience", "nan", "retrain"], "Invalid value for '--patience'"),
        (["info"], "Missing argument 'files'"),
        (["compress", "x.png", "--quality", "101"], "Invalid value for '--quality'"),
        (["compress", "x.png", "--quality", "0"], "Invalid value for '--quality'"),
        (["compress", "x.png", "--bpp", "0"], "bpp: got 0.0, expected a number above 0"),
        (["compress", "x.png", "--bpp", "nan"], "bpp: got nan, expected a number above 0"),
        (["compress", "x.png", "--bytes", "0"], "bytes: got 0, expected a whole number of at least 1"),
        (["compress", "x.png", "--bytes", "9", "--bpp", "1"], "got bpp and bytes, expected one of them"),
        (["compress", "x.png", "--force", "--skip"], "--force: got --skip too, expected one of them"),
        (["decompress", "x.hfd", "--region", "1,2,3"], "region: got '1,2,3', expected x,y,w,h in whole pixels"),
        (["decompress", "x.hfd", "--region", "a,0,5,9"], "region: got 'a,0,5,9', expected x,y,w,h in whole pixels"),
        (["decompress", "x.hfd", "--workers", "0"], "Invalid value for '--workers'"),
        (["decompress", "x.hfd", "--format", "gif"], "got .gif, expected one of .png, .webp, .jpg, .jpeg"),
    ],
)
def test_mistakes_of_usage(hfd: Hfd, arguments: list[str], words: str) -> None:
    assert words.lower() in hfd(*arguments).complaint.lower()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["-c", "dsk"],
            "preset: got 'dsk', expected one of clic, coco256, compare, compare-dirac, compare-flow, compare-hific, "
            "compare-po-elic, demo, desk, desk-012, desk-diffusion, lean, score or a .yaml file. "
            "Did you mean desk?",
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
    assert "Run hfd prepare first" in hfd("train-decoder", "-c", "demo", *where, *TINY).complaint


def test_a_bug_is_not_dressed_up_as_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("hfd.config.presets.load_config", fail)
    monkeypatch.setattr(sys, "argv", ["hfd", "retrain", "-c", "desk"])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.integration
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
    adversarial = "decoder.adversarial={train: {budget: 1 min, crop_px: 64}}"
    overrides = [f"data.uri={photos}", f"workspace={tmp_path}/w", "seed=9", adversarial]
    before = sorted(tmp_path.rglob("*"))
    ended = hfd("retrain", "-c", "demo", "--dry-run", *overrides)
    assert (ended.code, ended.err) == (0, "")
    settings, sizes, steps = ended.out.rstrip("\n").split("\n\n")
    assert yaml.safe_load(settings) == load_config("demo", overrides).model_dump(mode="json")
    assert sizes.count("M parameters") == 2
    assert sizes.count("GFLOPs/megapixel") == 2
    names = ["prepare", "train-autoencoder", "reconstruct", "train-decoder", "finetune-decoder", "evaluate"]
    assert [line.split()[0] for line in steps.splitlines()] == names
    assert all("would run" in line for line in steps.splitlines())
    assert f"{tmp_path}/w/prepare/" in steps
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_a_step_prints_that_step(hfd: Hfd, photo: Path) -> None:
    ended = hfd("train-autoencoder", "-c", "desk", "--dry-run", f"data.uri={photo.parent}", "workspace=/nowhere/w")
    assert ended.code == 0
    steps = ended.out.rstrip("\n").split("\n\n")[-1]
    assert [line.split()[0] for line in steps.splitlines()] == ["train-autoencoder"]


def test_a_dry_run_works_before_there_are_photographs(hfd: Hfd) -> None:
    ended = hfd("retrain", "-c", "clic", "--dry-run")
    assert ended.code == 0
    assert ended.out.endswith("steps: unknown until data.uri is given\n")


def test_a_dry_run_reports_mistakes_too(hfd: Hfd) -> None:
    assert hfd("retrain", "-c", "desk", "--dry-run", "seed=x").complaint.startswith("seed: got 'x'")
    ended = hfd("retrain", "-c", "desk", "--dry-run", "data.uri=/nowhere")
    assert ended.code == 2
    assert ended.err == "hfd: data.uri: /nowhere: got no such folder, expected one that exists\n"


@pytest.mark.integration
def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m hfd retrain --help | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.stderr == ""


# --- stopping ------------------------------------------------------------------------------------


def test_an_interrupt_is_exit_code_130(hfd: Hfd, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hfd.config.presets.load_config", stop)
    ended = hfd("retrain", "-c", "desk")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "hfd: stopped. Run the same command again to continue.\n"


def test_every_line_of_a_message_is_marked_as_ours(hfd: Hfd, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ConfigError("photos: got nothing,\nexpected something")

    monkeypatch.setattr("hfd.config.presets.load_config", fail)
    assert hfd("retrain", "-c", "desk").err == "hfd: photos: got nothing,\nhfd: expected something\n"


@pytest.mark.integration
def test_ctrl_c_stops_a_training_and_leaves_its_checkpoint(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(4):
        Image.fromarray(photograph(64, 64, seed=index)).save(photos / f"{index}.png")
    where = [f"data.uri={photos}", f"evaluate.data={photos}", f"workspace={tmp_path}/w"]
    schedule = ["autoencoder.train.budget=1000000 steps", "autoencoder.train.checkpoint_every_s=0.2"]
    command = [sys.executable, "-m", "hfd", "retrain", "-c", "demo", *where, *TINY, *schedule]
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
    assert err.splitlines()[-1] == "hfd: stopped. Run the same command again to continue."
    assert out.startswith("prepare")
    assert list((tmp_path / "w/train-autoencoder").rglob("manifest.json")) == []
    assert list((tmp_path / "w/train-autoencoder").rglob("checkpoint-*")) != []
