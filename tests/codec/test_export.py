"""Export of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfd.codec.codec import Codec
from hfd.codec.export import export_model
from hfd.diffusion.sampling import Sampling
from hfd.engine.names import GRAPHS
from hfd.errors import DataError
from hfd.io.model_folders import shipped_models
from hfd.io.storage import Folder
from tests.support.absent import hfd_without
from tests.support.pictures import photograph


def size(folder: Folder) -> int:
    return sum(path.stat().st_size for path in folder.path.rglob("*.safetensors"))


def test_a_copy_is_the_same_model(model_folder: Folder, tmp_path: Path) -> None:
    copy = Folder(str(tmp_path / "copy"))
    assert export_model(model_folder, copy, half=False) == ["autoencoder", "decoder"]
    x = photograph(64, 80)
    data = Codec.load(model_folder).compress(x).data
    assert Codec.load(copy).compress(x).data == data
    np.testing.assert_array_equal(Codec.load(copy).reconstruct(data), Codec.load(model_folder).reconstruct(data))


def test_half_precision_is_half_the_bytes_and_all_but_the_same_picture(model_folder: Folder, tmp_path: Path) -> None:
    copy = Folder(str(tmp_path / "half"))
    export_model(model_folder, copy, half=True)
    # Entropy tables stay whole, and are most of a tiny model.
    assert size(copy / "decoder") < 0.52 * size(model_folder / "decoder")
    assert size(copy / "autoencoder") < size(model_folder / "autoencoder")
    x = photograph(64, 80)
    original, half = Codec.load(model_folder), Codec.load(copy)
    x_hat = half.reconstruct(half.compress(x).data)
    one, other = (codec.sample(x_hat, Sampling(steps=2), seed=1) for codec in (original, half))
    assert np.abs(one.astype(int) - other.astype(int)).mean() < 1.0


def test_a_model_there_already_is_kept(model_folder: Folder) -> None:
    with pytest.raises(DataError, match="holds a model already"):
        export_model(model_folder, model_folder, half=True)


def test_the_copy_may_take_other_steps_by_default(model_folder: Folder, tmp_path: Path) -> None:
    export_model(model_folder, Folder(str(tmp_path / "copy")), half=False, steps=3)
    export_model(Folder(str(tmp_path / "copy")), Folder(str(tmp_path / "again")), half=False)
    steps = [Codec.load(Folder(str(tmp_path / name))).default_sampling.steps for name in ("copy", "again")]
    assert steps == [3, 3]
    assert Codec.load(model_folder).default_sampling.steps == 50


def test_graphs_are_copied_while_they_fit_the_weights(tmp_path: Path) -> None:
    shipped, same, changed = shipped_models()["desk-025"], Folder(str(tmp_path / "a")), Folder(str(tmp_path / "b"))
    export_model(shipped, same, half=False)
    export_model(shipped, changed, half=False, steps=7)
    for part in ("autoencoder", "decoder"):
        names = [name for name in GRAPHS[part] if shipped.exists(f"{part}/{name}")]
        assert names
        for name in names:
            assert same.read(f"{part}/{name}") == shipped.read(f"{part}/{name}")
            assert changed.exists(f"{part}/{name}") == (part == "autoencoder")


@pytest.mark.integration
def test_graphs_without_the_package_are_one_line(model_folder: Folder, tmp_path: Path) -> None:
    ended = hfd_without(["onnx"], "export", model_folder.path, "copy", "--onnx", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "hfd: onnx: not installed, expected by --onnx. Run pip install 'hfd[onnx]'\n"
    assert not (tmp_path / "copy").exists()
