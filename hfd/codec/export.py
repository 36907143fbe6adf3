"""A model folder of its own, to hand on: both stages, in half precision if wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from hfd.errors import DataError
from hfd.io.model_folders import resolve_model
from hfd.io.storage import Folder
from hfd.io.weights import fingerprint_of, read_weights, write_weights

_KEPT = ("tables.", "entropy_bottleneck.")
"""What entropy coding reads stays as it is."""


def export_model(source: Folder, target: Folder, *, half: bool, steps: int | None = None) -> list[str]:
    """Write the model of a folder or workspace to ``target``; the names of the parts written.

    ``steps``: sampling steps of the copy where none are asked for; None: as the model has them. ``half``: networks in
    float16, half the bytes. The files that the copy makes are its own, not the original's, since its stage 1 rounds
    otherwise. Raises :class:`DataError` where something is there already.
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
