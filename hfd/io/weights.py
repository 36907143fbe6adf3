"""Weights on disk: ``config.json`` beside ``weights.safetensors``. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from hfd.errors import DataError
from hfd.io.storage import Folder

FORMAT = 1


def write_weights(folder: Folder, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write tensors and configuration; ``config.json`` last, so that its presence means that both are complete."""
    folder.write(
        "weights.safetensors",
        save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}),
    )
    folder.write("config.json", json.dumps({"format": FORMAT, **config}, indent=2, sort_keys=True).encode() + b"\n")


def read_weights(folder: Folder) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Read tensors, configuration and fingerprint (SHA-256 hex over both files) of a weights folder."""
    config_bytes, weights_bytes = folder.read("config.json"), folder.read("weights.safetensors")
    try:
        config = json.loads(config_bytes)
        tensors = load(weights_bytes)
    except (ValueError, SafetensorError) as error:
        raise DataError(f"{folder.uri}: not readable weights ({error}). Make or fetch the model again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        got = config.get("format") if isinstance(config, dict) else config
        raise DataError(
            f"{folder.uri}/config.json: got format {got!r}, expected {FORMAT}. It was made by another version"
        )
    return tensors, config, _fingerprint(config_bytes, weights_bytes)


def fingerprint_of(folder: Folder) -> str:
    """Compute the SHA-256 (hex) over both files of a weights folder."""
    return _fingerprint(folder.read("config.json"), folder.read("weights.safetensors"))


def _fingerprint(config_bytes: bytes, weights_bytes: bytes) -> str:
    return hashlib.sha256(config_bytes + weights_bytes).hexdigest()


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
