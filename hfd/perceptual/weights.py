"""The weights of the frozen networks: files that ship, in half precision, each with a pinned SHA-256."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from hfd.errors import DataError
from hfd.io.tensors import load_strictly
from hfd.perceptual.networks import NETWORKS, FrozenFeatures, NetworkName

FOLDER = Path(__file__).parent / "weights"

SHA256: dict[NetworkName, str] = {
    "alexnet": "baf8d7fa81c01d36d9398cfc2e30c300b4051ca227bd76af83086f31f440c938",
    "vgg16": "e3d48ad9dfcf552d1cc58939b9c1761175df86cf89f26b807ce6ad60faf148a6",
}
"""SHA-256 of the files that :mod:`hfd.perceptual.convert` writes, by name."""

LINEAR = "lpips."
"""Prefix of the names of LPIPS's linear layers."""


@lru_cache(maxsize=4)
def read_frozen(name: NetworkName, folder: Path = FOLDER) -> tuple[FrozenFeatures, tuple[Tensor, ...]]:
    """Return a network, float32 on the CPU, and LPIPS's weights of its taps, (C_i,) each; () if none are stored.

    The result is cached and shared: do not change it, and copy the network before moving it to a device.
    Raises :class:`DataError`: weights missing or of another checksum, name or shape.
    """
    path = folder / f"{name}.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: got {error.strerror or 'an error'}, expected the weights of {name}. Install hfd again",
            reason="unreadable",
        ) from error
    got = hashlib.sha256(data).hexdigest()
    if got != SHA256[name]:
        raise DataError(f"{path}: got SHA-256 {got}, expected {SHA256[name]}. Install hfd again", reason="checksum")
    return build_frozen(name, data, str(path))


@torch.inference_mode(False)  # the network is cached, and later calls may need gradients
def build_frozen(name: NetworkName, data: bytes, where: str) -> tuple[FrozenFeatures, tuple[Tensor, ...]]:
    """As :func:`read_frozen`, from the bytes of a file. Raises :class:`DataError` that names the fault."""
    try:
        tensors = {key: tensor.float() for key, tensor in load(data).items()}
    except SafetensorError as error:
        raise DataError(f"{where}: not readable weights ({error}). Install hfd again", reason="unreadable") from error
    # The initial values, replaced below, draw random numbers: what is built next must not depend on that.
    with torch.random.fork_rng(devices=[]):
        network = FrozenFeatures(NETWORKS[name])
    linear = [tensors.pop(key) for key in sorted(tensors) if key.startswith(LINEAR)]
    load_strictly(network, tensors, where)
    shapes = [tuple(one.shape) for one in linear]
    if linear and shapes != [(width,) for width in network.widths]:
        raise DataError(f"{where}: {LINEAR}*: got {shapes}, expected {[(width,) for width in network.widths]}")
    return network.to(memory_format=torch.channels_last), tuple(linear)
