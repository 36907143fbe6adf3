"""The transforms g_a, h_a and g_s as nodes, from the modules of an autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compressai.layers import GDN, AttentionBlock
from compressai.models.sensetime import ResidualBottleneckBlock
from torch import nn

from hfd.autoencoder.residual import SLOPE, Branches, ResidualBlock, Scale
from hfd.graphs.builder import GraphBuilder
from hfd.graphs.layers import conv, doubling_deconv, shuffle


def add_module(graph: GraphBuilder, module: nn.Module, name: str, x: str) -> str:
    """Add a module, whose parameters are stored under ``name``, for the value ``x``; return its output.

    Raises :class:`TypeError` for an unsupported module.
    """
    for kind, add in _KINDS:
        if isinstance(module, kind):
            return add(graph, module, name, x)
    if type(module).__name__ == "ResidualUnit":  # a class defined in AttentionBlock's constructor
        return graph.op("Relu", graph.op("Add", _child(graph, module, "conv", name, x), x))
    raise TypeError(f"{name}: got {type(module).__name__}, expected a module of the transforms")


def _child(graph: GraphBuilder, module: nn.Module, child: str, name: str, x: str) -> str:
    return add_module(graph, module.get_submodule(child), f"{name}.{child}", x)


def _sequential(graph: GraphBuilder, module: nn.Sequential, name: str, x: str) -> str:
    unshuffle = 1
    for key, child in module.named_children():
        if isinstance(child, nn.PixelUnshuffle):
            unshuffle = child.downscale_factor  # merged into the next convolution
        elif unshuffle > 1:
            assert isinstance(child, nn.Conv2d), f"{name}.{key}: expected a convolution after space-to-depth"
            x, unshuffle = _conv(graph, child, f"{name}.{key}", x, unshuffle), 1
        else:
            x = add_module(graph, child, f"{name}.{key}", x)
    return x


def _conv(graph: GraphBuilder, module: nn.Conv2d, name: str, x: str, unshuffle: int = 1) -> str:
    assert module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros", name
    return conv(graph, name, x, padding=int(module.padding[0]), stride=module.stride[0], unshuffle=unshuffle)


def _deconv(graph: GraphBuilder, module: nn.ConvTranspose2d, name: str, x: str) -> str:
    shape = (module.kernel_size[0], module.stride[0], int(module.padding[0]), module.output_padding[0])
    assert shape == (5, 2, 2, 1) and module.groups == 1, f"{name}: got {shape}"
    return doubling_deconv(graph, name, x)


def _gdn(graph: GraphBuilder, module: GDN, name: str, x: str) -> str:
    """x / sqrt(beta + gamma x^2), or times it for the inverse; beta and gamma as CompressAI stores them."""
    channels = module.beta.shape[0]
    beta = _non_negative(graph, module.beta_reparam, f"{name}.beta")
    gamma = _non_negative(graph, module.gamma_reparam, f"{name}.gamma")
    gamma = graph.op("Reshape", gamma, graph.whole(channels, channels, 1, 1))
    energy = graph.op("Conv", graph.op("Mul", x, x), gamma, beta, kernel_shape=[1, 1])
    return graph.op("Mul" if module.inverse else "Div", x, graph.op("Sqrt", energy))


def _non_negative(graph: GraphBuilder, parametrizer: Any, name: str) -> str:
    """max(stored, bound)^2 - pedestal. Engines compute it once, when they load the graph."""
    bounded = graph.op("Max", graph.weight(name), graph.constant(float(parametrizer.lower_bound.bound)))
    return graph.op("Sub", graph.op("Mul", bounded, bounded), graph.constant(float(parametrizer.pedestal)))


def _bottleneck(graph: GraphBuilder, module: ResidualBottleneckBlock, name: str, x: str) -> str:
    out = graph.op("Relu", _child(graph, module, "conv1", name, x))
    out = graph.op("Relu", _child(graph, module, "conv2", name, out))
    return graph.op("Add", _child(graph, module, "conv3", name, out), _child(graph, module, "skip", name, x))


def _attention(graph: GraphBuilder, module: AttentionBlock, name: str, x: str) -> str:
    gate = graph.op("Sigmoid", _child(graph, module, "conv_b", name, x))
    return graph.op("Add", graph.op("Mul", _child(graph, module, "conv_a", name, x), gate), x)


def _residual(graph: GraphBuilder, module: ResidualBlock, name: str, x: str) -> str:
    out = _child(graph, module, "first", name, graph.op("LeakyRelu", x, alpha=SLOPE))
    return graph.op("Add", x, _child(graph, module, "second", name, graph.op("LeakyRelu", out, alpha=SLOPE)))


def _branches(graph: GraphBuilder, module: Branches, name: str, x: str) -> str:
    return graph.op("Add", _child(graph, module, "deep", name, x), _child(graph, module, "linear", name, x))


_Add = Callable[[GraphBuilder, Any, str, str], str]
_KINDS: tuple[tuple[type[nn.Module], _Add], ...] = (
    (nn.Sequential, _sequential),
    (nn.Conv2d, _conv),
    (nn.ConvTranspose2d, _deconv),
    (nn.Identity, lambda _graph, _module, _name, x: x),
    (nn.ReLU, lambda graph, _module, _name, x: graph.op("Relu", x)),
    (nn.LeakyReLU, lambda graph, module, _name, x: graph.op("LeakyRelu", x, alpha=module.negative_slope)),
    (nn.PixelShuffle, lambda graph, module, _name, x: shuffle(graph, x, module.upscale_factor)),
    (Scale, lambda graph, module, _name, x: graph.op("Mul", x, graph.constant(module.factor))),
    (GDN, _gdn),
    (ResidualBottleneckBlock, _bottleneck),
    (AttentionBlock, _attention),
    (ResidualBlock, _residual),
    (Branches, _branches),
)
