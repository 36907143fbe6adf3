"""The stage-2 networks as nodes, after the values x_in, x_hat, noise_level and, of a U-Net, known."""

from __future__ import annotations

import numpy as np

from hfd.diffusion.lean import FIRST, LeanNet
from hfd.diffusion.neighbours import CHANNELS
from hfd.diffusion.unet import GRID_CELLS, NoiseEmbedding, UNet
from hfd.graphs.builder import GraphBuilder
from hfd.graphs.layers import conv, linear, shuffle, silu

_COLOURS = 3


def add_network(graph: GraphBuilder, net: UNet | LeanNet, *, known: bool) -> str:
    """Add the network; return its output. ``known``: with that input, of a U-Net."""
    return _unet(graph, net, known) if isinstance(net, UNet) else _lean(graph, net)


def _unet(graph: GraphBuilder, net: UNet, known: bool) -> str:
    noise = _embedding(graph, net.embed)
    inputs = graph.op("Concat", "x_in", "x_hat", *["known"] * known, axis=1)
    seen = (2 * _COLOURS + CHANNELS * known) * net.patch**2
    h = conv(graph, "stem", inputs, padding=1, unshuffle=net.patch, first=seen)
    skips = []
    for level, channels in enumerate(net.channels):
        for block in range(net.blocks[level]):
            h = _modulated(graph, f"down.{level}.{block}", h, noise, channels)
        if level < len(net.shrink):
            skips.append(h)
            h = conv(graph, f"shrink.{level}", h, padding=0, stride=2)
    for level in reversed(range(len(net.up))):
        h = shuffle(graph, conv(graph, f"grow.{level}", h, padding=0), 2)
        h = conv(graph, f"join.{level}", graph.op("Concat", h, skips[level], axis=1), padding=0)
        for block in range(net.blocks[level]):
            h = _modulated(graph, f"up.{level}.{block}", h, noise, net.channels[level])
    cells = conv(graph, "head", silu(graph, _norm(graph, h, net.channels[0])), padding=1)
    return _without_grid(graph, shuffle(graph, cells, net.patch), net.stride)


def _modulated(graph: GraphBuilder, name: str, h: str, noise: str, channels: int) -> str:
    """:class:`hfd.diffusion.unet.ResidualBlock`."""
    both = graph.op("Reshape", linear(graph, f"{name}.modulate", noise), graph.whole(-1, 2 * channels, 1, 1))
    scale = graph.op("Slice", both, graph.whole(0), graph.whole(channels), graph.whole(1))
    shift = graph.op("Slice", both, graph.whole(channels), graph.whole(2 * channels), graph.whole(1))
    inner = conv(graph, f"{name}.conv1", silu(graph, _norm(graph, h, channels)), padding=1)
    scale = graph.op("Add", scale, graph.constant(1.0))
    inner = graph.op("Add", graph.op("Mul", _norm(graph, inner, channels), scale), shift)
    return graph.op("Add", h, conv(graph, f"{name}.conv2", silu(graph, inner), padding=1))


def _lean(graph: GraphBuilder, net: LeanNet) -> str:
    noise = _embedding(graph, net.embed)
    inputs = graph.op("Concat", "x_in", "x_hat", axis=1)
    h = conv(graph, "stem", inputs, padding=1, unshuffle=FIRST)
    skips = []
    for level in range(len(net.channels)):
        if level == len(net.shrink):
            shift = graph.op("Reshape", linear(graph, "modulate", noise), graph.whole(-1, net.channels[level], 1, 1))
            h = graph.op("Add", h, shift)
        h = _plain(graph, f"down.{level}", h, net.blocks[level])
        if level < len(net.shrink):
            skips.append(h)
            h = conv(graph, f"shrink.{level}", silu(graph, h), padding=0, stride=2)
    for level in reversed(range(len(net.up))):
        grown = shuffle(graph, conv(graph, f"grow.{level}", silu(graph, h), padding=0), 2)
        h = _plain(graph, f"up.{level}", graph.op("Add", skips[level], grown), net.blocks[level])
    found = shuffle(graph, conv(graph, "head", silu(graph, h), padding=1), FIRST)
    mixed = conv(graph, "mix", graph.op("Concat", silu(graph, found), inputs, axis=1), padding=1)
    return _without_grid(graph, conv(graph, "last", silu(graph, mixed), padding=1), net.stride)


def _plain(graph: GraphBuilder, name: str, h: str, count: int) -> str:
    """A stack of :class:`hfd.diffusion.lean.LeanBlock`."""
    for block in range(count):
        inner = conv(graph, f"{name}.{block}.conv1", silu(graph, h), padding=1)
        h = graph.op("Add", h, conv(graph, f"{name}.{block}.conv2", silu(graph, inner), padding=1))
    return h


def _embedding(graph: GraphBuilder, module: NoiseEmbedding) -> str:
    """:class:`hfd.diffusion.unet.NoiseEmbedding`."""
    level = graph.op("Reshape", "noise_level", graph.whole(-1, 1))
    angles = graph.op("Mul", level, graph.constant(module.frequencies.cpu().numpy()[None]))
    waves = graph.op("Concat", graph.op("Sin", angles), graph.op("Cos", angles), axis=1)
    return silu(graph, linear(graph, "embed.linear2", silu(graph, linear(graph, "embed.linear1", waves))))


def _norm(graph: GraphBuilder, h: str, channels: int) -> str:
    """:func:`hfd.diffusion.unet.channel_norm`, with the mean as a convolution, which engines run faster."""
    shares = graph.op("Expand", graph.constant(1.0 / channels), graph.whole(1, channels, 1, 1))
    mean = graph.op("Conv", graph.op("Mul", h, h), shares, kernel_shape=[1, 1])
    return graph.op("Div", h, graph.op("Sqrt", graph.op("Add", mean, graph.constant(1e-6))))


def _without_grid(graph: GraphBuilder, x: str, cell: int) -> str:
    """:func:`hfd.diffusion.unet.without_grid`."""
    if cell == 1:
        return x
    means = graph.op("AveragePool", x, kernel_shape=[cell, cell], strides=[cell, cell])
    factors = graph.constant(np.array([1, 1, cell, cell]))
    smooth = graph.op("Resize", means, "", factors, mode="linear", coordinate_transformation_mode="half_pixel")
    places = graph.op("SpaceToDepth", graph.op("Sub", x, smooth), blocksize=cell)
    repeated = graph.op(
        "AveragePool", places, kernel_shape=[GRID_CELLS] * 2, pads=[GRID_CELLS // 2] * 4, count_include_pad=0
    )
    by_place = graph.op("Reshape", repeated, graph.whole(0, cell**2, _COLOURS, -1))
    grid = graph.op("Sub", by_place, graph.op("ReduceMean", by_place, axes=[1], keepdims=1))
    grid = graph.op("Reshape", grid, graph.op("Shape", repeated))
    return graph.op("Sub", x, graph.op("DepthToSpace", grid, blocksize=cell, mode="DCR"))
