"""EfficientNet-Lite up to its pooled features as a graph, from the module of `efficientnet_lite_pytorch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfd.graphs.builder import GraphBuilder, StoredTensor, Value

PICTURE, FEATURES = "picture", "features"
_MOST = 6.0  # of ReLU6


def efficientnet_graph(network: Any, stored: Mapping[str, StoredTensor], num_features: int) -> bytes:
    """Return the serialised graph of an `EfficientNet` with ReLU6 and without squeeze-and-excitation.

    Input: ``picture`` (batch, 3, height, width), of any size, as the network takes it. Output: ``features`` (batch,
    ``num_features``), the means over the positions of the last map. ``stored``: the network's parameters by name.
    """
    graph = GraphBuilder(stored)
    h = _layer(graph, "_conv_stem", "_bn0", PICTURE, network._conv_stem, network._bn0)
    for index, block in enumerate(network._blocks):
        h = _block(graph, f"_blocks.{index}", block, h)
    h = _layer(graph, "_conv_head", "_bn1", h, network._conv_head, network._bn1)
    return graph.model(
        "efficientnet",
        [Value(PICTURE, ("batch", 3, "height", "width"), "float32, preprocessed")],
        Value(FEATURES, ("batch", num_features), "float32, from 0 to 6"),
        graph.op("ReduceMean", h, axes=[2, 3], keepdims=0),
        doc="The features of EfficientNet-Lite.",
        metadata={},
    )


def _block(graph: GraphBuilder, name: str, block: Any, x: str) -> str:
    """An inverted bottleneck: expansion, depthwise convolution, projection."""
    assert not block.has_se, f"{name}: expected no squeeze-and-excitation"
    arguments, h = block._block_args, x
    if arguments.expand_ratio != 1:
        h = _layer(graph, f"{name}._expand_conv", f"{name}._bn0", h, block._expand_conv, block._bn0)
    h = _layer(graph, f"{name}._depthwise_conv", f"{name}._bn1", h, block._depthwise_conv, block._bn1)
    h = _layer(graph, f"{name}._project_conv", f"{name}._bn2", h, block._project_conv, block._bn2, bounded=False)
    keeps_shape = block._depthwise_conv.stride == (1, 1) and arguments.input_filters == arguments.output_filters
    return graph.op("Add", h, x) if block.id_skip and keeps_shape else h


def _layer(
    graph: GraphBuilder, conv_name: str, norm_name: str, x: str, conv: Any, norm: Any, bounded: bool = True
) -> str:
    """A convolution with TensorFlow's SAME padding, its batch norm, which engines merge, and ReLU6 if ``bounded``."""
    h = graph.op(
        "Conv",
        x,
        graph.weight(f"{conv_name}.weight"),
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        group=conv.groups,
        auto_pad="SAME_UPPER",
    )
    parts = [graph.weight(f"{norm_name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
    h = graph.op("BatchNormalization", h, *parts, epsilon=float(norm.eps))
    return graph.op("Clip", h, graph.constant(0.0), graph.constant(_MOST)) if bounded else h
