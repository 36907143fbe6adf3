"""Graphs of all architectures give what their torch modules give, from the weights as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hfd.autoencoder.model import Elic
from hfd.autoencoder.transforms import reach_cells, reach_of
from hfd.diffusion.lean import LeanNet
from hfd.diffusion.unet import UNet
from hfd.diffusion.weights import DecoderNet
from hfd.engine.base import Stage1Reach, Values
from hfd.engine.onnx import OnnxStage1, OnnxStage2
from hfd.errors import DataError
from hfd.graphs.builder import stored_tensors
from hfd.graphs.transforms import add_module
from hfd.graphs.write import stage1_graphs, write_graphs
from hfd.io.model_folders import shipped_models
from hfd.io.storage import Folder
from tests.support.graphs import FINGERPRINT, folder_of
from tests.support.networks import lively_elic, lively_unet

TOLERANCE = 2e-5
"""Of values of the order of one; more where they are larger."""


@torch.no_grad()
def lively(module: nn.Module) -> None:
    """Parameters that are zero become random, so that no layer is without effect."""
    for value in module.parameters():
        if not value.any():
            nn.init.normal_(value, std=0.05)


def with_gdn() -> Elic:
    torch.manual_seed(0)
    model = Elic(8, 12, (4, 8), gdn_channels=10).eval()
    with torch.no_grad():
        for transform in (model.g_a, model.g_s):
            for layer in (transform[1], transform[3], transform[5]):
                layer.gamma.add_(torch.rand_like(layer.gamma) - 0.4)  # some below the bound
                layer.beta.mul_(torch.rand_like(layer.beta) + 0.5)
    return model


def of_elic() -> Elic:
    return lively_elic(8, 12, (4, 8))


def residual() -> Elic:
    torch.manual_seed(0)
    model = Elic(8, 12, (4, 8), residual=((8, 12, 16), (1, 2, 1))).eval()
    lively(model)
    return model


def lean(*arguments: object) -> LeanNet:
    torch.manual_seed(0)
    net = LeanNet(*arguments).eval()  # type: ignore[arg-type]
    lively(net)
    return net


def array(values: torch.Tensor) -> Values:
    found: Values = values.detach().numpy()
    return found


def close(found: Values, expected: torch.Tensor) -> None:
    assert float(expected.abs().max()) > 0.02  # or the comparison would say nothing
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("make", [with_gdn, of_elic, residual])
@torch.no_grad()
def test_stage_1(tmp_path: Path, make: Callable[[], Elic], dtype: torch.dtype) -> None:
    model = make()
    folder, weights = folder_of(model, tmp_path, dtype)
    engine = OnnxStage1(folder, weights, FINGERPRINT, threads=1)
    for height, width in ((64, 64), (128, 192), (64, 320)):
        x = torch.rand(1, 3, height, width)
        y = model.g_a(x)
        close(engine.analysis(array(x)), y)
        close(engine.hyper_analysis(array(y)), model.h_a(y))
        close(engine.synthesis(array(y)), model.g_s(y).clamp(0.0, 1.0))
    latent = 3.0 * torch.randn(1, 12, 5, 7)  # a cut of a picture, of any size
    close(engine.synthesis(array(latent)), model.reconstruct(latent))
    assert engine.reach == Stage1Reach(reach_of(model.g_a), reach_of(model.h_a), reach_cells(model.g_s))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    "make",
    [
        lively_unet,
        lambda: lively_unet(2, (8, 12, 16), (1, 0, 2)),
        lambda: lively_unet(1, (8,), (1,)),  # no grid to remove
        lambda: lean((8, 12, 16), (0, 1, 2), 4),
        lambda: lean((8, 12), (1, 1), 5),
    ],
)
@torch.no_grad()
def test_stage_2(tmp_path: Path, make: Callable[[], DecoderNet], dtype: torch.dtype) -> None:
    net = make()
    folder, weights = folder_of(net, tmp_path, dtype)
    engine = OnnxStage2(folder, weights, FINGERPRINT, threads=1)
    assert (engine.stride, engine.receptive_field_px) == (net.stride, net.receptive_field_px)
    for batch, height, width in ((1, 64, 40), (2, 24, 96)):
        x_in, x_hat = torch.randn(batch, 3, height, width), 2.0 * torch.rand(batch, 3, height, width) - 1.0
        level, mask = torch.linspace(-2.0, 3.0, batch), torch.rand(batch, 1, height, width).round()
        known = torch.cat([x_hat * mask, mask], dim=1)
        arrays = array(x_in), array(x_hat), array(level)
        close(engine(*arrays), net(x_in, x_hat, level))
        close(engine(*arrays, array(known)), net(x_in, x_hat, level, known))


def test_only_a_network_with_known_pixels_has_a_graph_for_them(tmp_path: Path) -> None:
    folder_of(lively_unet(2, (8,), (1,)), tmp_path / "unet")
    folder_of(lean((8, 8), (0, 1), 4), tmp_path / "lean")
    graphs = {name: sorted(path.name for path in (tmp_path / name).glob("*.onnx")) for name in ("unet", "lean")}
    assert graphs == {"unet": ["network.onnx", "network_known.onnx"], "lean": ["network.onnx"]}


@pytest.mark.parametrize("make", [with_gdn, of_elic, residual, lively_unet, lambda: lean((8, 12, 16))])
def test_they_are_small_and_valid(tmp_path: Path, make: Callable[[], Elic | DecoderNet]) -> None:
    """By onnx's own check, with inferred shapes. All weights are external data of the one file."""
    folder_of(make(), tmp_path, torch.float16)
    for path in tmp_path.glob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=True)
        graph = onnx.load(str(path), load_external_data=False).graph
        external = [tensor for tensor in graph.initializer if tensor.external_data]
        places = {entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"}
        assert places == {"weights.safetensors"} and path.stat().st_size < 60_000
        assert all(np.prod(tensor.dims) <= 1000 for tensor in graph.initializer if not tensor.external_data)
        assert all(value.doc_string for value in (*graph.input, *graph.output))


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_the_shipped_graphs_are_those_of_their_weights(tmp_path: Path, name: str) -> None:
    """In every byte, so that neither can be changed alone."""
    shipped = shipped_models()[name]
    graphs = {file.key: shipped.read(file.key) for file in shipped.files() if file.key.endswith(".onnx")}
    copy = Folder(str(tmp_path))
    for file in shipped.files():
        if not file.key.endswith(".onnx"):
            copy.write(file.key, shipped.read(file.key))
    assert sorted(write_graphs(copy)) == sorted(graphs)
    assert {key: copy.read(key) for key in graphs} == graphs


def test_weights_that_lack_a_tensor_are_named() -> None:
    with pytest.raises(DataError, match=r"^g_a\.0\.weight: got no such weights"):
        stage1_graphs(with_gdn(), {}, FINGERPRINT)


def test_a_module_of_no_transform_is_an_error(tmp_path: Path) -> None:
    from hfd.graphs.builder import GraphBuilder

    _, weights = folder_of(with_gdn(), tmp_path)
    with pytest.raises(TypeError, match="tail: got Softmax"):
        add_module(GraphBuilder(stored_tensors(weights)), nn.Softmax(dim=1), "tail", "x")


def test_a_unet_without_blocks(tmp_path: Path) -> None:
    folder, weights = folder_of(UNet(2, (8,), (0,)).eval(), tmp_path)
    output = OnnxStage2(folder, weights, FINGERPRINT)(
        *(np.zeros((1, 3, 8, 8), np.float32),) * 2, np.zeros(1, np.float32)
    )
    assert output.shape == (1, 3, 8, 8)
