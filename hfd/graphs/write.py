"""Write the graphs of a model folder beside its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hfd.autoencoder.model import STRIDE, Elic
from hfd.autoencoder.transforms import reach_cells, reach_of
from hfd.autoencoder.weights import read_autoencoder
from hfd.diffusion.lean import LeanNet
from hfd.diffusion.unet import UNet
from hfd.diffusion.weights import DecoderNet, read_decoder
from hfd.engine import names
from hfd.engine.metadata import FORMAT
from hfd.graphs.builder import WEIGHTS, GraphBuilder, StoredTensor, Value, stored_tensors
from hfd.graphs.networks import add_network
from hfd.graphs.transforms import add_module
from hfd.io.storage import Folder

_PICTURE = "float32, sRGB in [0, 1], colours red, green, blue"
_SIGNED = "float32, sRGB times 2 minus 1, colours red, green, blue"


def write_graphs(model: Folder) -> list[str]:
    """Write the graphs of ``autoencoder/`` and of ``decoder/``, if any; return the names of the files.

    Each names ``weights.safetensors`` of its folder as external data, and states the fingerprint of these weights.
    Existing graphs are replaced. Raises :class:`DataError` for weights that cannot be read.
    """
    written = []
    for part, make in (("autoencoder", _of_autoencoder), ("decoder", _of_decoder)):
        folder = model / part
        if folder.exists("config.json"):
            for name, graph in make(folder).items():
                folder.write(name, graph)
                written.append(f"{part}/{name}")
    return written


def _of_autoencoder(folder: Folder) -> dict[str, bytes]:
    autoencoder = read_autoencoder(folder)
    return stage1_graphs(autoencoder.model, stored_tensors(folder.read(WEIGHTS)), autoencoder.fingerprint)


def _of_decoder(folder: Folder) -> dict[str, bytes]:
    decoder = read_decoder(folder)
    assert isinstance(decoder.net, UNet | LeanNet)
    return stage2_graphs(decoder.net, stored_tensors(folder.read(WEIGHTS)), decoder.fingerprint)


def stage1_graphs(model: Elic, stored: Mapping[str, StoredTensor], fingerprint: str) -> dict[str, bytes]:
    """Build the graphs of g_a, h_a and g_s, by the names of their files."""
    metadata = {
        "format": FORMAT,
        "weights": fingerprint,
        "analysis_px": str(reach_of(model.g_a)),
        "hyper_analysis_cells": str(reach_of(model.h_a)),
        "synthesis_cells": str(reach_cells(model.g_s)),
    }
    picture = f"picture, {_PICTURE}"
    y = Value(names.Y, (1, model.M, "height / 16", "width / 16"), "latent before quantisation, float32")
    z = Value(names.Z, (1, model.N, "h / 4", "w / 4"), "hyper-latent before quantisation, float32")
    y_hat = Value(names.Y_HAT, (1, model.M, "h", "w"), "decoded latent, float32")
    x_hat = Value(names.X_HAT, (1, 3, "16 h", "16 w"), f"reconstruction, {_PICTURE}")
    made = {}

    graph = GraphBuilder(stored)
    made[names.ANALYSIS] = graph.model(
        "analysis",
        [Value(names.X, (1, 3, "height", "width"), f"{picture}; height and width are multiples of {STRIDE}")],
        y,
        add_module(graph, model.g_a, "g_a", names.X),
        doc="g_a: a picture to the latent y.",
        metadata=metadata,
    )
    graph = GraphBuilder(stored)
    made[names.HYPER_ANALYSIS] = graph.model(
        "hyper_analysis",
        [Value(names.Y, (1, model.M, "h", "w"), f"{y.doc}; h and w are multiples of 4")],
        z,
        add_module(graph, model.h_a, "h_a", names.Y),
        doc="h_a: the latent y to the hyper-latent z.",
        metadata=metadata,
    )
    graph = GraphBuilder(stored)
    picture_values = add_module(graph, model.g_s, "g_s", names.Y_HAT)
    made[names.SYNTHESIS] = graph.model(
        "synthesis",
        [y_hat],
        x_hat,
        graph.op("Clip", picture_values, graph.constant(0.0), graph.constant(1.0)),
        doc="g_s: a decoded latent to the reconstruction x_hat.",
        metadata=metadata,
    )
    return made


@torch.no_grad()
def stage2_graphs(net: DecoderNet, stored: Mapping[str, StoredTensor], fingerprint: str) -> dict[str, bytes]:
    """Build the graphs of a stage-2 network, by the names of their files, with known pixels if it uses them."""
    metadata = {
        "format": FORMAT,
        "weights": fingerprint,
        "stride": str(net.stride),
        "receptive_field_px": str(net.receptive_field_px),
    }
    sides = f"height and width are multiples of {net.stride}"
    made = {}
    for name, known in ((names.NETWORK, False), (names.NETWORK_KNOWN, True)):
        if known and not isinstance(net, UNet):
            continue
        graph = GraphBuilder(stored)
        inputs = [
            Value(names.X_IN, ("batch", 3, "height", "width"), f"preconditioned noisy picture, float32; {sides}"),
            Value(names.X_HAT, ("batch", 3, "height", "width"), f"reconstruction, {_SIGNED}"),
            Value(names.NOISE_LEVEL, ("batch",), "noise level of each picture, float32"),
        ]
        if known:
            doc = f"finished picture, {_SIGNED}, zero where unknown; and its mask, 1 where known"
            inputs.append(Value(names.KNOWN, ("batch", 4, "height", "width"), doc))
        made[name] = graph.model(
            "network",
            inputs,
            Value(names.OUTPUT, ("batch", 3, "height", "width"), "output of the network, float32"),
            add_network(graph, net, known=known),
            doc="The network of stage 2, at one noise level.",
            metadata=metadata,
        )
    return made
