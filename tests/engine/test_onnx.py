"""The engine of ONNX Runtime: graphs that it refuses, and that it needs no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from hfd.engine import names
from hfd.engine.base import Values
from hfd.engine.metadata import metadata_of
from hfd.engine.onnx import OnnxStage1, OnnxStage2
from hfd.errors import DataError
from hfd.io.storage import Folder
from tests.support.absent import run_without
from tests.support.graphs import FINGERPRINT, folder_of
from tests.support.networks import lively_elic, lively_unet

LATENT: Values = np.zeros((1, 8, 4, 4), np.float32)


@pytest.fixture
def stage1(tmp_path: Path) -> tuple[Folder, bytes]:
    return folder_of(lively_elic(8, 8, (8,)), tmp_path / "autoencoder")


def refused(folder: Folder, weights: bytes, fingerprint: str = FINGERPRINT) -> str:
    with pytest.raises(DataError) as raised:
        OnnxStage1(folder, weights, fingerprint, threads=1).synthesis(LATENT)
    message = str(raised.value)
    assert message.startswith(f"{folder.uri}/synthesis.onnx: ") and "\n" not in message
    assert "hfd export" in message and "--engine torch" in message
    return message


def test_a_model_without_graphs(stage1: tuple[Folder, bytes]) -> None:
    folder, weights = stage1
    folder.delete(names.SYNTHESIS)
    assert "got no graph" in refused(folder, weights)
    assert OnnxStage1(folder, weights, FINGERPRINT).analysis(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 8, 4, 4)


def test_a_graph_of_other_weights(stage1: tuple[Folder, bytes]) -> None:
    assert "got a graph of the weights abababab, expected cdcdcdcd" in refused(*stage1, "cd" * 32)


def test_a_graph_of_another_format(stage1: tuple[Folder, bytes]) -> None:
    folder, weights = stage1
    model = onnx.load_model_from_string(folder.read(names.SYNTHESIS))
    facts = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**facts, "format": "2"})
    folder.write(names.SYNTHESIS, model.SerializeToString())
    assert "got format '2', expected '1'" in refused(folder, weights)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "²", "9" * 10, None])
def test_a_fact_that_is_no_number(stage1: tuple[Folder, bytes], value: str | None) -> None:
    folder, weights = stage1
    model = onnx.load_model_from_string(folder.read(names.SYNTHESIS))
    facts = {entry.key: entry.value for entry in model.metadata_props if entry.key != "synthesis_cells"}
    helper.set_model_props(model, facts if value is None else {**facts, "synthesis_cells": value})
    folder.write(names.SYNTHESIS, model.SerializeToString())
    with pytest.raises(DataError, match=r"synthesis_cells: got .* expected a whole number"):
        _ = OnnxStage1(folder, weights, FINGERPRINT).reach


def test_weights_that_are_too_short(stage1: tuple[Folder, bytes]) -> None:
    folder, weights = stage1
    assert "does not fit its weights" in refused(folder, weights[: len(weights) // 2])


def test_external_data_of_another_file(stage1: tuple[Folder, bytes]) -> None:
    """A graph reads the weights that were checked, and no other file of the disk."""
    folder, weights = stage1
    folder.write("other.safetensors", weights)
    model = onnx.load_model_from_string(folder.read(names.SYNTHESIS))
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(folder.path / "other.safetensors")
    folder.write(names.SYNTHESIS, model.SerializeToString())
    assert "does not fit its weights" in refused(folder, weights)


def test_a_latent_of_another_model(stage1: tuple[Folder, bytes]) -> None:
    folder, weights = stage1
    with pytest.raises(DataError, match=r"synthesis\.onnx: does not run"):
        OnnxStage1(folder, weights, FINGERPRINT).synthesis(np.zeros((1, 9, 4, 4), np.float32))


def test_a_graph_of_another_network(stage1: tuple[Folder, bytes]) -> None:
    folder, weights = stage1
    folder.write(names.SYNTHESIS, folder.read(names.ANALYSIS))
    assert "does not run" in refused(folder, weights)


def test_bytes_that_are_no_graph(stage1: tuple[Folder, bytes]) -> None:
    folder, weights = stage1
    graph = folder.read(names.SYNTHESIS)
    for broken in (b"no graph", graph[: len(graph) // 2], graph[:-1], b"\xff" * 100):
        folder.write(names.SYNTHESIS, broken)
        refused(folder, weights)


def test_the_metadata_equals_that_of_onnx(stage1: tuple[Folder, bytes]) -> None:
    folder, _ = stage1
    for name in (names.ANALYSIS, names.HYPER_ANALYSIS, names.SYNTHESIS):
        graph = folder.read(name)
        props = onnx.load_model_from_string(graph).metadata_props
        assert metadata_of(graph, name) == {entry.key: entry.value for entry in props}
        assert len(props) == 5


def test_threads_change_rounding_at_most(tmp_path: Path) -> None:
    folder, weights = folder_of(lively_unet(2, (8, 8), (1, 1)), tmp_path, torch.float16)
    generator = np.random.default_rng(0)
    x_in, x_hat = (generator.random((1, 3, 32, 48), np.float32) for _ in range(2))
    level: Values = np.zeros(1, np.float32)
    one, two = (OnnxStage2(folder, weights, FINGERPRINT, threads=n)(x_in, x_hat, level) for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=0.0, atol=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize(("absent", "line"), [("torch", ""), ("onnxruntime", "onnxruntime is not installed")])
def test_it_needs_onnxruntime_and_no_torch(stage1: tuple[Folder, bytes], absent: str, line: str) -> None:
    folder, _ = stage1
    code = (
        "import numpy as np\n"
        "from hfd.engine.onnx import OnnxStage1\n"
        "from hfd.errors import ConfigError\n"
        "from hfd.io.storage import Folder\n"
        f"folder = Folder({folder.uri!r})\n"
        f"engine = OnnxStage1(folder, folder.read('weights.safetensors'), {FINGERPRINT!r})\n"
        "try:\n"
        "    print(engine.synthesis(np.zeros((1, 8, 4, 4), np.float32)).shape)\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    ended = run_without([absent, "compressai", "scipy"], code, cwd=folder.path)
    assert ended.returncode == 0, ended.stderr
    assert line in ended.stdout and (line or ended.stdout == "(1, 3, 64, 64)\n")
