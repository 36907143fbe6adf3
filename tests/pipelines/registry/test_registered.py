"""Trainings that begin with a model of the registry."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hfd.errors import ConfigError, DataError, HfdError
from hfd.io.storage import Folder
from pipelines.context import Context
from pipelines.engine.inline import Inline
from pipelines.registry.artifacts import Artifacts
from pipelines.tracking.client import open_client
from pipelines.train import autoencoder as train_autoencoder
from pipelines.train import decoder as train_decoder
from pipelines.train.warm_start import warm_start
from tests.support.mlflow_server import Server
from tests.support.tiny_run import tiny_config
from tests.support.warm_starts import SECTIONS, TRAININGS, built, done, settings

pytestmark = pytest.mark.integration

NAME = "hfd kodak"


def register(uri: str, source: str, *aliases: str, run_id: str | None = None) -> str:
    """A version of ``NAME`` whose files lie at ``source``; its number."""
    client = open_client(uri)
    if not any(model.name == NAME for model in client.search_registered_models()):
        client.create_registered_model(NAME)
    version = client.create_model_version(NAME, source=source, run_id=run_id)
    for alias in aliases:
        client.set_registered_model_alias(NAME, alias, version.version)
    return str(version.version)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an empty registry, which takes seconds to make and none to copy."""
    path = tmp_path_factory.mktemp("registry") / "empty.db"
    open_client(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def registry(tmp_path: Path, model_folder: Folder, empty: Path) -> str:
    """The URI of a registry with one version of ``NAME``, the champion."""
    uri = f"sqlite:///{shutil.copy(empty, tmp_path / 'registry.db')}"
    register(uri, model_folder.path.as_uri(), "champion")
    return uri


def context_of(uri: str, workspace: Path, *overrides: str) -> Context:
    config = tiny_config("photos", workspace, f"tracking.uri={uri}", *overrides)
    return Context(config, Folder(str(workspace)), Inline(config.cluster))


@pytest.mark.parametrize("model", [f"models:/{NAME}@champion", f"models:/{NAME}/1"])
@pytest.mark.parametrize("training", list(TRAININGS))
def test_a_training_begins_with_the_registered_weights(
    registry: str, tmp_path: Path, model_folder: Folder, training: str, model: str
) -> None:
    part = TRAININGS[training]
    found = warm_start(model, part, context_of(registry, tmp_path / "work"))
    assert not (tmp_path / "work").exists()
    found.fetch()
    direct = warm_start(model_folder.uri, part)
    assert found.inputs == direct.inputs and found.folder is not None
    # In the workspace, where a worker on another machine finds it too.
    assert found.folder.uri.startswith(f"{tmp_path}/work/warm-start/{NAME}-1-")
    assert sorted(entry.key for entry in found.folder.files()) == ["config.json", "weights.safetensors"]
    again, expected = (dict(built(training, settings(), start).named_parameters()) for start in (found, direct))
    assert all(torch.equal(again[name], value) for name, value in expected.items())


def test_fetched_files_are_not_fetched_again(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(registry, tmp_path / "work")
    start = warm_start(f"models:/{NAME}@champion", "decoder", context)
    start.fetch()
    monkeypatch.setattr(Artifacts, "fetch", None)
    start.fetch()


def test_an_alias_that_moves_moves_the_key(registry: str, tmp_path: Path, model_folder: Folder) -> None:
    def keys() -> dict[str, str]:
        stages = [f"{SECTIONS[part]}.warm_start=models:/{NAME}@champion" for part in ("autoencoder", "decoder")]
        context = context_of(registry, tmp_path / "work", *stages)
        steps = [
            train_autoencoder.plan(context, done("prepare")),
            train_decoder.plan(context, done("reconstruct"), done("autoencoder")),
        ]
        return {one.step.name: one.step.key for one in steps}

    before = keys()
    copy = tmp_path / "copy"
    shutil.copytree(model_folder.path, copy)
    register(registry, copy.as_uri(), "champion")
    assert keys() == before  # other bytes would be another key; another place is not
    (copy / "decoder" / "config.json").write_text((copy / "decoder" / "config.json").read_text() + "\n")
    register(registry, copy.as_uri(), "champion")
    after = keys()
    assert after["train-autoencoder"] == before["train-autoencoder"]
    assert after["train-decoder"] != before["train-decoder"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (f"models:/{NAME}@challenger", f"{NAME} has the aliases @champion and versions up to 1"),
        (f"models:/{NAME}/7", f"{NAME} has the aliases @champion and versions up to 1"),
        ("models:/other@champion", f"it has {NAME}"),
        ("models:/other", "expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/../x@champion", "expected models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_a_missing_model_is_one_line(registry: str, tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        warm_start(model, "decoder", context_of(registry, tmp_path / "work"))
    assert str(caught.value).startswith(f"warm_start: got {model}, expected ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_registry_is_one_line(tmp_path: Path, empty: Path) -> None:
    with pytest.raises(ConfigError, match=r"^tracking\.uri: got null with the registered model models:/x@y"):
        warm_start("models:/x@y", "decoder", context_of("null", tmp_path))
    with pytest.raises(ConfigError, match="it has no models"):
        warm_start("models:/x@y", "decoder", context_of(f"sqlite:///{empty}", tmp_path))
    with pytest.raises(HfdError) as caught:
        warm_start("models:/x@y", "decoder", context_of("http://127.0.0.1:9", tmp_path))
    assert "expected a registry that answers" in str(caught.value) and "\n" not in str(caught.value)


def without_decoder(folder: Path) -> None:
    shutil.rmtree(folder / "decoder")


def with_a_huge_configuration(folder: Path) -> None:
    (folder / "decoder" / "config.json").write_bytes(b" " * (2**20 + 1))


def with_a_pickle(folder: Path) -> None:
    (folder / "decoder" / "weights.safetensors").write_bytes(pickle.dumps({"stem.weight": 1}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_decoder, "(version 2): got no decoder/weights.safetensors, expected a model with its decoder"),
        (with_a_huge_configuration, "decoder/config.json of 1048577 bytes, expected at most 1048576"),
        (with_a_pickle, "not readable weights"),
    ],
)
def test_a_version_that_is_no_model_is_one_line(
    registry: str, tmp_path: Path, model_folder: Folder, spoil: Callable[[Path], None], message: str
) -> None:
    shutil.copytree(model_folder.path, tmp_path / "spoilt")
    spoil(tmp_path / "spoilt")
    register(registry, (tmp_path / "spoilt").as_uri(), "champion")
    with pytest.raises(DataError) as caught:
        warm_start(f"models:/{NAME}@champion", "decoder", context_of(registry, tmp_path / "work"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_from_a_server_that_keeps_the_files(tmp_path: Path, model_folder: Folder) -> None:
    """Artifacts of a run on a real server, which hands them out itself."""
    server = Server(tmp_path)
    server.start()
    try:
        client = open_client(server.uri)
        run = client.create_run(client.create_experiment("e")).info
        client.log_artifacts(run.run_id, str(model_folder.path), "model")
        register(server.uri, f"{run.artifact_uri}/model", "champion", run_id=run.run_id)
        found = warm_start(f"models:/{NAME}@champion", "autoencoder", context_of(server.uri, tmp_path / "work"))
        assert found.inputs == warm_start(model_folder.uri, "autoencoder").inputs
    finally:
        server.stop()
