"""Copy a model into its own folder, optionally in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from hfd.errors import DataError
from hfd.io.model_folders import resolve_model
from hfd.io.storage import Folder
from hfd.io.weights import fingerprint_of, read_weights, write_weights

_KEPT = ("tables.", "entropy_bottleneck.")
"""Prefixes of the entropy coding's tensors, which keep their precision."""


def export_model(source: Folder, target: Folder, *, half: bool, steps: int | None = None) -> list[str]:
    """Write the model of a folder or workspace to ``target``; return the names of the parts.

    ``steps``: default sampling steps of the copy; None: the model's. ``half``: networks in float16, half the bytes. A
    half-precision copy is a model of its own, since its stage 1 rounds differently: it does not decode the original's
    files. Raises :class:`DataError` if the target holds a model.
    """
    source = resolve_model(source)
    if target.exists("autoencoder/config.json"):
        raise DataError(f"{target.uri}: holds a model already. Give another folder")
    autoencoder = ""
    parts = [name for name in ("autoencoder", "decoder") if source.exists(f"{name}/config.json")]
    for name in parts:
        tensors, config, _ = read_weights(source / name)
        settings = {key: value for key, value in config.items() if key != "format"}
        if name == "decoder":
            settings |= {"autoencoder": autoencoder} | ({} if steps is None else {"steps": steps})
        write_weights(target / name, {key: _stored(key, value, half) for key, value in tensors.items()}, settings)
        if name == "autoencoder":
            autoencoder = fingerprint_of(target / name)
    return parts


def _stored(name: str, tensor: Tensor, half: bool) -> Tensor:
    keep = not half or tensor.dtype != torch.float32 or name.startswith(_KEPT)
    return tensor if keep else tensor.to(torch.float16)
