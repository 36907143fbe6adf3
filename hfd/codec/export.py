"""Copy a model into its own folder, optionally in half precision and with ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hfd.engine.names import GRAPHS
from hfd.errors import ConfigError, DataError
from hfd.io.model_folders import CRITIC, resolve_model
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights, write_weights
from hfd.io.weights import fingerprint_of

_KEPT = ("tables.", "entropy_bottleneck.")
"""Prefixes of the entropy coding's tensors, which keep their precision."""


def export_model(
    source: Folder,
    target: Folder,
    *,
    half: bool,
    steps: int | None = None,
    onnx: bool = False,
    critic: bool = False,
) -> list[str]:
    """Write the model of a folder or workspace to ``target``; return the names of the parts.

    ``steps``: default sampling steps of the copy; None: the model's. ``half``: networks in float16, half the bytes. A
    half-precision copy is a model of its own, since its stage 1 rounds differently: it does not decode the original's
    files. ``onnx``: write graphs (:func:`add_graphs`). Graphs of the source are copied while they fit. ``critic``: copy
    the decoder's critic, which further trainings start from, if it has one.

    Raises :class:`DataError` if the target holds a model, :class:`ConfigError` for ``onnx`` without its package.
    """
    source = resolve_model(source)
    if onnx:
        _graph_writer()  # before anything is written
    if target.exists("autoencoder/config.json"):
        raise DataError(f"{target.uri}: holds a model already. Give another folder")
    autoencoder = ""
    parts = [name for name in ("autoencoder", "decoder") if source.exists(f"{name}/config.json")]
    for name in parts:
        tensors, config, fingerprint = read_weights(source / name)
        settings = {key: value for key, value in config.items() if key != "format"}
        if name == "decoder":
            settings |= {"autoencoder": autoencoder} | ({} if steps is None else {"steps": steps})
        write_weights(target / name, {key: _stored(key, value, half) for key, value in tensors.items()}, settings)
        written = fingerprint_of(target / name)
        if name == "autoencoder":
            autoencoder = written
        if written == fingerprint and not onnx:
            for graph in (graph for graph in GRAPHS[name] if source.exists(f"{name}/{graph}")):
                target.write(f"{name}/{graph}", source.read(f"{name}/{graph}"))
    of_critic = f"decoder/{CRITIC}"
    if critic and source.exists(f"{of_critic}/config.json"):
        tensors, config, _ = read_weights(source / of_critic)
        settings = {key: value for key, value in config.items() if key != "format"}
        write_weights(target / of_critic, {key: _stored(key, value, half) for key, value in tensors.items()}, settings)
        parts.append("critic")
    if onnx:
        add_graphs(target)
    return parts


def add_graphs(model: Folder) -> list[str]:
    """Write the ONNX graphs of a model folder beside its weights, and return the names of the files.

    Raises :class:`ConfigError` if onnx is not installed.
    """
    return _graph_writer()(model)


def _graph_writer() -> Callable[[Folder], list[str]]:
    try:
        from hfd.graphs.write import write_graphs
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ConfigError("onnx: not installed, expected by --onnx. Run pip install 'hfd[onnx]'") from error
    return write_graphs


def _stored(name: str, tensor: Tensor, half: bool) -> Tensor:
    keep = not half or tensor.dtype != torch.float32 or name.startswith(_KEPT)
    return tensor if keep else tensor.to(torch.float16)
