"""Layers that the graphs share. They take and return names of values; parameters are stored under ``name``."""

from __future__ import annotations

import numpy as np

from hfd.graphs.builder import GraphBuilder

_BLOCK = 8
"""Channels that engines compute at once; fewer take as long."""
_BEFORE_ALL = -(2**31)
"""End of a slice that runs down to the first element."""


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


def shuffle(graph: GraphBuilder, x: str, factor: int, *, by_place: int | None = None) -> str:
    """Torch's depth-to-space. ``by_place``: of so many channels, whose order is by place in the cell, then by channel.

    Computed by two transpositions that move one axis each, the columns and then the rows, which engines run in half the
    time of ``DepthToSpace``.
    """
    inner = [] if by_place is None else [by_place]
    sides = graph.op("Shape", x, start=2, end=4)
    wide = graph.op("Mul", sides, graph.whole(1, factor))
    cells = graph.op("Concat", graph.whole(-1, factor, factor, *inner), sides, axis=0)
    lines = graph.op("Concat", graph.whole(-1, factor, *inner), wide, axis=0)
    whole = graph.op("Mul", sides, graph.whole(factor, factor))
    whole = graph.op("Concat", graph.op("Shape", x, start=0, end=1), graph.whole(-1), whole, axis=0)
    x = graph.op("Reshape", x, cells)
    x = graph.op("Transpose", x, perm=[0, 1, 3, 4, 2] if by_place is None else [0, 1, 3, 4, 5, 2])
    x = graph.op("Reshape", x, lines)
    x = graph.op("Transpose", x, perm=[0, 2, 1, 3] if by_place is None else [0, 2, 3, 1, 4])
    return graph.op("Reshape", x, whole)


def doubling_deconv(graph: GraphBuilder, name: str, x: str) -> str:
    """A transposed convolution with a 5x5 kernel, stride 2, padding 2 and output padding 1.

    Output 2q + r takes input q + j - 1, j from 0 to 2, by the tap 4 - 2j + r, where tap 5 is zero: each of the four
    outputs of an input position is a convolution of its own, of 3 or 2 rows and columns. Engines run these faster than
    their own transposed convolution, in half the memory.
    """
    _, outputs, *_ = graph.shape(f"{name}.weight")
    if outputs < _BLOCK:
        return shuffle(graph, _places_at_once(graph, name, x), 2)
    places = [_place(graph, name, x, row, column) for row in (0, 1) for column in (0, 1)]
    return shuffle(graph, graph.op("Concat", *places, axis=1), 2, by_place=outputs)


def _place(graph: GraphBuilder, name: str, x: str, row: int, column: int) -> str:
    """The outputs of one place in the cells of a :func:`doubling_deconv`."""
    weight = graph.op(
        "Slice",
        graph.weight(f"{name}.weight"),
        graph.whole(4 - row, 4 - column),
        graph.whole(_BEFORE_ALL, _BEFORE_ALL),
        graph.whole(2, 3),
        graph.whole(-2, -2),
    )
    weight = graph.op("Transpose", weight, perm=[1, 0, 2, 3])
    bias = graph.weight(f"{name}.bias")
    pads = [1 - row, 1 - column, 1, 1]
    return graph.op("Conv", x, weight, bias, kernel_shape=[3 - row, 3 - column], pads=pads)


def _places_at_once(graph: GraphBuilder, name: str, x: str) -> str:
    """All places in one convolution, in the order of channels and then of places, for few channels."""
    inputs, outputs, *_ = graph.shape(f"{name}.weight")
    weight = graph.op("Pad", graph.weight(f"{name}.weight"), graph.whole(0, 0, 0, 0, 0, 0, 1, 1))
    weight = graph.op("Reshape", weight, graph.whole(inputs, outputs, 3, 2, 3, 2))  # taps as 2 (2 - j) + r
    ends = graph.whole(_BEFORE_ALL, _BEFORE_ALL)
    weight = graph.op("Slice", weight, graph.whole(2, 2), ends, graph.whole(2, 4), graph.whole(-1, -1))
    weight = graph.op("Transpose", weight, perm=[1, 3, 5, 0, 2, 4])
    weight = graph.op("Reshape", weight, graph.whole(4 * outputs, inputs, 3, 3))
    bias = graph.op("Reshape", graph.weight(f"{name}.bias"), graph.whole(outputs, 1))
    bias = graph.op("Reshape", graph.op("Expand", bias, graph.whole(outputs, 4)), graph.whole(4 * outputs))
    return graph.op("Conv", x, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
