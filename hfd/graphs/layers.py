"""Layers that the graphs share. They take and return names of values; parameters are stored under ``name``."""

from __future__ import annotations

import numpy as np

from hfd.graphs.builder import GraphBuilder


def conv(
    graph: GraphBuilder,
    name: str,
    x: str,
    *,
    padding: int,
    stride: int = 1,
    unshuffle: int = 1,
    first: int | None = None,
) -> str:
    """A convolution with a square kernel.

    ``unshuffle``: of space-to-depth by this factor. ONNX orders its channels by position and then by channel, torch by
    channel and then by position: the weights are put in ONNX's order. ``first``: use only this many input channels,
    as if the others were zero.
    """
    weight, (_, channels, side, _) = graph.weight(f"{name}.weight"), graph.shape(f"{name}.weight")
    order = np.arange(channels if first is None else first).reshape(-1, unshuffle**2).T.ravel()
    if unshuffle > 1:
        x = graph.op("SpaceToDepth", x, blocksize=unshuffle)
    if order.tolist() != list(range(channels)):
        weight = graph.op("Gather", weight, graph.whole(*order), axis=1)
    return graph.op(
        "Conv",
        x,
        weight,
        graph.weight(f"{name}.bias"),
        kernel_shape=[side, side],
        strides=[stride, stride],
        pads=[padding] * 4,
    )


def linear(graph: GraphBuilder, name: str, x: str) -> str:
    """A linear layer on (B, C)."""
    return graph.op("Gemm", x, graph.weight(f"{name}.weight"), graph.weight(f"{name}.bias"), transB=1)


def silu(graph: GraphBuilder, x: str) -> str:
    return graph.op("Mul", x, graph.op("Sigmoid", x))


def shuffle(graph: GraphBuilder, x: str, factor: int) -> str:
    """Torch's depth-to-space."""
    return graph.op("DepthToSpace", x, blocksize=factor, mode="CRD")


def doubling_deconv(graph: GraphBuilder, name: str, x: str) -> str:
    """A transposed convolution with a 5x5 kernel, stride 2, padding 2 and output padding 1.

    Computed as a 3x3 convolution to the four outputs of each input position: output 2q + r takes input q + j - 1, j
    from 0 to 2, by the tap 4 - 2j + r, where tap 5 is zero. Engines run it as fast as their own transposed
    convolution, in half the memory.
    """
    inputs, outputs, *_ = graph.shape(f"{name}.weight")
    weight = graph.op("Pad", graph.weight(f"{name}.weight"), graph.whole(0, 0, 0, 0, 0, 0, 1, 1))
    weight = graph.op("Reshape", weight, graph.whole(inputs, outputs, 3, 2, 3, 2))  # taps as 2 (2 - j) + r
    least = -(2**31)
    weight = graph.op(
        "Slice", weight, graph.whole(2, 2), graph.whole(least, least), graph.whole(2, 4), graph.whole(-1, -1)
    )
    weight = graph.op("Transpose", weight, perm=[1, 3, 5, 0, 2, 4])
    weight = graph.op("Reshape", weight, graph.whole(4 * outputs, inputs, 3, 3))
    bias = graph.op("Reshape", graph.weight(f"{name}.bias"), graph.whole(outputs, 1))
    bias = graph.op("Reshape", graph.op("Expand", bias, graph.whole(outputs, 4)), graph.whole(4 * outputs))
    places = graph.op("Conv", x, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return shuffle(graph, places, 2)
