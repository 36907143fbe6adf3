"""The models in the package: found by name, and by the file that one of them made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hfd.cli.facts import facts_of
from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.codec.library import find_models, model_that_made
from hfd.errors import BitstreamError, DataError
from hfd.io import model_folders
from hfd.io.model_folders import find_model, former_models, shipped_models
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights, write_weights
from tests.support.pictures import photograph


@pytest.fixture
def shipped(model_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two models: ``small`` is the fixture's, ``large`` another autoencoder without a decoder."""
    models = tmp_path / "models"
    shutil.copytree(model_folder.path, models / "small")
    tensors, config, _ = read_weights(model_folder / "autoencoder")
    write_weights(Folder(str(models / "large/autoencoder")), tensors, {**config, "lmbda": 0.5})
    (models / "notes").mkdir()
    (models / "notes/config.json").write_text("{}")
    monkeypatch.setattr(model_folders, "MODELS", models)
    return models


@pytest.fixture(scope="module")
def file(model_folder: Folder) -> bytes:
    """Compressed by the fixture's model."""
    return Codec.load(model_folder).compress(photograph(48, 64)).data


def test_the_models_of_the_package_by_name(shipped: Path) -> None:
    assert shipped_models() == {name: Folder(str(shipped / name)) for name in ("large", "small")}
    assert list(shipped_models()) == ["large", "small"]


def test_a_package_may_ship_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: bytes) -> None:
    monkeypatch.setattr(model_folders, "MODELS", tmp_path / "nowhere")
    assert shipped_models() == {}
    with pytest.raises(DataError) as caught:
        find_model("small")
    assert str(caught.value) == (
        "small: got no model there, expected a folder with autoencoder/config.json, or a workspace"
    )
    with pytest.raises(BitstreamError, match=r"expected one of the shipped models \(none\)"):
        model_that_made(unpack(file), None)


def test_models_belong_to_the_package() -> None:
    assert Path(model_folders.__file__).parents[1] / "pretrained" == model_folders.MODELS


def test_a_model_is_found_by_name_by_folder_and_by_workspace(
    shipped: Path, model_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model("small") == Folder(str(shipped / "small"))
    assert find_model(model_folder.uri) == model_folder
    workspace = tmp_path / "work"
    shutil.copytree(model_folder.path, workspace / "train-decoder/abc")
    (workspace / "latest.json").write_text(json.dumps({"model": "train-decoder/abc"}))
    assert find_model(str(workspace)) == Folder(f"{workspace}/train-decoder/abc")
    # A folder of the same name, here: the package's own comes first, and ./ asks for the other.
    shutil.copytree(model_folder.path, tmp_path / "large")
    monkeypatch.chdir(tmp_path)
    assert find_model("large") == Folder(str(shipped / "large"))
    assert find_model("./large") == Folder("./large")


@pytest.mark.parametrize("name", ["smal", "no/such/folder", "Small"])
def test_an_unknown_name_lists_the_models(shipped: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shipped.parent)
    with pytest.raises(DataError) as caught:
        find_model(name)
    assert str(caught.value) == (
        f"{name}: got no model there, expected a folder with autoencoder/config.json, or a workspace, "
        "or a shipped model (large, small)"
    )


def test_a_folder_that_holds_no_model_is_refused(shipped: Path) -> None:
    with pytest.raises(DataError, match="got no model there, expected a folder with"):
        find_model(str(shipped / "notes"))


def test_the_model_that_made_a_file_is_found(shipped: Path, file: bytes) -> None:
    assert model_that_made(unpack(file), None) == Folder(str(shipped / "small"))
    other = Codec.load(Folder(str(shipped / "large"))).compress(photograph(48, 64)).data
    assert model_that_made(unpack(other), None) == Folder(str(shipped / "large"))
    found = Codec.load(model_that_made(unpack(file), None))
    assert np.array_equal(found.reconstruct(file), Codec.load(find_model("small")).reconstruct(file))


def test_a_former_model_decodes_its_files_and_makes_none(shipped: Path, file: bytes) -> None:
    (shipped / "former").mkdir()
    (shipped / "small").rename(shipped / "former/small-1")
    former = Folder(str(shipped / "former/small-1"))
    assert list(shipped_models()) == ["large"] and former_models() == {"small-1": former}
    assert model_that_made(unpack(file), None) == former == find_model("small-1")
    assert find_models(None) == [find_model("large")] == find_models(str(shipped))
    with pytest.raises(DataError, match=r"or a shipped model \(large\)$"):
        find_model("small")
    found = facts_of("small-1")
    assert [(one["model"], one["autoencoder"]) for one in found] == [(former.uri, unpack(file).model.hex()[:8])]


def test_a_file_of_no_shipped_model_names_those_there_are(shipped: Path, file: bytes) -> None:
    shutil.rmtree(shipped / "small")
    with pytest.raises(BitstreamError) as caught:
        model_that_made(unpack(file), None)
    maker = unpack(file).model.hex()
    assert str(caught.value) == (
        f"model: got a file made by {maker}, expected one of the shipped models (large). "
        "Give the model that made it with --model"
    )


def test_a_damaged_file_is_reported_as_damaged(shipped: Path, file: bytes) -> None:
    assert shipped.is_dir()
    for data in (b"", file[:-1], b"\x89PNG" + file):
        with pytest.raises(BitstreamError) as caught:
            model_that_made(unpack(data), None)
        assert "shipped" not in str(caught.value)
