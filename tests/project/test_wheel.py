"""The wheel without extras in a fresh virtual environment: the codec works, a pipeline command names its extra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.support.paths import ROOT
from tests.support.pictures import photograph

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_types_presets_and_models(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"hfd/py.typed", "pipelines/py.typed"} <= names
    for source, target in (("conf", "hfd/conf"), ("hfd/pretrained", "hfd/pretrained")):
        files = [path.relative_to(ROOT / source) for path in (ROOT / source).rglob("*") if path.is_file()]
        assert files and {f"{target}/{file.as_posix()}" for file in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_light_install(wheel: Path, tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 15e9:
        pytest.skip(f"needs 15 GB free in {tmp_path} for the packages of torch")
    environment = tmp_path / "environment"
    try:
        _use(wheel, environment, tmp_path)
    finally:
        shutil.rmtree(environment, ignore_errors=True)


def _use(wheel: Path, environment: Path, folder: Path) -> None:
    venv.create(environment, with_pip=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [environment / "bin" / program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=clean, check=False)

    def printed(*arguments: object) -> str:
        ended = run("hfd", *arguments)
        assert (ended.returncode, ended.stderr) == (0, ""), arguments
        return ended.stdout

    installed = run("pip", "install", "--no-cache-dir", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    assert installed.returncode == 0, installed.stderr
    present = run("python", "-c", "import importlib.util as u; print([n for n in ('ray', 'mlflow') if u.find_spec(n)])")
    assert present.stdout == "[]\n", present.stderr

    Image.fromarray(photograph(72, 96, seed=1)).save(folder / "a.png")
    printed("compress", "a.png")
    printed("decompress", "a.hfd", "-o", "b.png", "--steps", "1")
    assert Image.open(folder / "b.png").size == (96, 72)
    assert "96 x 72" in printed("info", "a.hfd")
    assert printed("--version").startswith("hfd ")
    assert "retrain" in printed("--help")
    for arguments in (["retrain", "-c", "demo"], ["retrain"]):
        ended = run("hfd", *arguments)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
        assert ended.stderr.endswith("Run pip install 'hfd[pipeline]'\n")
