"""The base install serves the codec, ``train`` the trainings; a command whose packages are missing names the extra."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfd.io.storage import Folder
from pipelines.extras import PIPELINE, TRAIN
from tests.support.absent import hfd_without, run_without
from tests.support.pictures import photograph
from tests.support.tiny_run import tiny_overrides, write_photographs

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parent.parent.parent
IN_ANY_CASE = {"aiohttp", "jinja2", "matplotlib", "psutil", "pydantic", "pydantic_core", "requests", "scipy"}
"""Packages that compressai and typer themselves require, and so may import."""

NO_PIPELINE = sorted(set(PIPELINE) - IN_ANY_CASE)
CODEC_ONLY = sorted({*PIPELINE, *TRAIN} - IN_ANY_CASE)


def test_no_heavy_package_is_a_base_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {line.partition("[")[0].partition(">")[0].partition("<")[0] for line in project["dependencies"]}
    assert names == {
        "compressai", "numpy", "onnxruntime", "pillow", "pyvips", "rich", "safetensors", "torch", "torchvision",
        "typer",
    }  # fmt: skip
    assert set(project["optional-dependencies"]) == {
        "train", "pipeline", "metrics", "onnx", "heic", "server", "demo", "dev",
    }  # fmt: skip


def test_the_codecs_commands_import_no_package_of_an_extra(tmp_path: Path, model_folder: Folder) -> None:
    Image.fromarray(photograph(64, 96, seed=1)).save(tmp_path / "a.png")
    model = str(model_folder.path)
    for arguments in (
        ["--help"],
        ["compress", "a.png", "-m", model, "--keep-metadata"],
        ["decompress", "a.hfd", "-m", model, "-o", "b.png", "--steps", "2"],
        ["info", "a.hfd", model],
        ["export", model, "copy", "--half"],
    ):
        ended = hfd_without(CODEC_ONLY, *arguments, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, ""), arguments
    assert Image.open(tmp_path / "b.png").size == (96, 64)


def test_the_interface_and_the_plugin_import_no_package_of_an_extra(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(tmp_path / "a.png")
    code = (
        "import hfd, hfd.pillow_plugin\n"
        "from PIL import Image\n"
        "data = hfd.compress('a.png')\n"
        "assert hfd.decompress(data, steps=1).size == (48, 32)\n"
        "Image.open('a.png').save('a.hfd')\n"
        "Image.open('a.hfd').load()\n"
    )
    ended = run_without(CODEC_ONLY, code, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_one_machine_trains_without_ray_mlflow_and_s3(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photographs")
    settings = tiny_overrides(photographs, tmp_path / "w", "tracking.uri=none", "cluster.kind=inline", steps=2)
    for command in ("prepare", "train-autoencoder", "reconstruct", "train-decoder"):
        ended = hfd_without(NO_PIPELINE, command, "-c", "demo", *settings, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, ""), command
    assert list((tmp_path / "w/train-decoder").rglob("manifest.json"))
    ended = hfd_without(NO_PIPELINE, "retrain", "-c", "demo", *settings, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.endswith("not installed, expected by hfd evaluate. Run pip install 'hfd[pipeline]'\n")


@pytest.mark.parametrize(
    ("absent", "arguments", "line"),
    [
        ("yaml", ["retrain", "-c", "demo"], "yaml: not installed, expected by this command"),
        ("yaml", ["retrain"], "yaml: not installed, expected by this command"),
        ("pyarrow", ["rollback", "-c", "demo"], "pyarrow: not installed, expected by this command"),
        ("yaml", ["evaluate", "-c", "demo"], "yaml: not installed, expected by this command"),
        ("ray", ["jobs"], "ray: not installed, expected by this command"),
        (
            "ray",
            ["prepare", "-c", "demo", "cluster.kind=local"],
            "ray: not installed, expected by cluster.kind=local (inline needs none)",
        ),
        (
            "mlflow",
            ["prepare", "-c", "demo"],
            "mlflow: not installed, expected by tracking.uri (none turns tracking off)",
        ),
        (
            "boto3",
            ["prepare", "-c", "demo", "tracking.uri=none", "workspace=s3://bucket/w"],
            "boto3: not installed, expected by workspace=s3://bucket/w",
        ),
    ],
)
def test_a_missing_extra_is_one_line(tmp_path: Path, absent: str, arguments: list[str], line: str) -> None:
    ended = hfd_without([absent], *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"hfd: {line}. Run pip install 'hfd[pipeline]'\n"


def test_a_database_server_names_the_extra_of_its_driver(tmp_path: Path) -> None:
    ended = hfd_without(["psycopg2"], "prepare", "-c", "demo", "tracking.uri=postgresql://me@host/db", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "hfd: psycopg2: not installed, expected by tracking.uri=postgresql+psycopg2: (an MLflow server's address needs "
        "none). Run pip install 'hfd[server]'\n"
    )


@pytest.mark.parametrize(("absent", "name"), [("torch_fidelity", "inception"), ("timm", "clip")])
def test_a_network_of_set_metrics_names_its_extra(tmp_path: Path, absent: str, name: str) -> None:
    given = [f"evaluate.{name}=w", f"evaluate.{name}_sha256={'ab' * 32}", "evaluate.data=x", "tracking.uri=none"]
    ended = hfd_without([absent], "evaluate", "-c", "score", *given, "cluster.kind=inline", cwd=tmp_path)
    assert ended.returncode == 2
    line = f"hfd: {absent}: not installed, expected by evaluate.{name}. Run pip install 'hfd[metrics]'"
    assert ended.stderr == f"{line}\n"


def test_a_training_names_the_smaller_extra(tmp_path: Path) -> None:
    ended = hfd_without(["pyarrow"], "train-autoencoder", "-c", "demo", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "hfd: pyarrow: not installed, expected by this command. Run pip install 'hfd[train]'\n"
