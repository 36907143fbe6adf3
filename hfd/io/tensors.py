"""Weights on disk as tensors of torch: written, read, and copied into networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import load, save
from torch import Tensor, nn

from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.weights import FORMAT, WEIGHTS, read_stored


def write_weights(folder: Folder, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write tensors and configuration; ``config.json`` last, so that its presence means that both are complete."""
    folder.write(
        WEIGHTS,
        save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}),
    )
    folder.write("config.json", json.dumps({"format": FORMAT, **config}, indent=2, sort_keys=True).encode() + b"\n")


def read_weights(folder: Folder) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Read tensors, configuration and fingerprint (SHA-256 hex over both files) of a weights folder."""
    stored = read_stored(folder)
    return stored.parsed(load), stored.config, stored.fingerprint


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a module's parameters. Raises :class:`DataError` that names those that do not fit."""
    parameters = dict(module.named_parameters())
    missing, unknown = sorted(parameters.keys() - tensors.keys()), sorted(tensors.keys() - parameters.keys())
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(parameter.shape)}"
        for name, parameter in parameters.items()
        if name in tensors and tensors[name].shape != parameter.shape
    ]
    problems = [f"missing {', '.join(missing[:4])}"] * bool(missing) + [f"unknown {', '.join(unknown[:4])}"] * bool(
        unknown
    )
    if problems or shapes:
        raise DataError(f"{where}: weights do not fit the network: {'; '.join(problems + shapes[:4])}")
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[name])
