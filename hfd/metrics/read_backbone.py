"""Read the weights of a backbone that a user gives by path."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from hfd.metrics.backbones import BACKBONES, Backbone, BackboneFile
from hfd.metrics.inception import InceptionFeatures
from hfd.metrics.vision_transformers import clip_features, dinov2_features

PatchNetwork = Callable[[RgbArray], npt.NDArray[np.float32]]
"""Features float32 (P, D) of patches of one size, uint8 (P, h, w, 3) sRGB; P may be 0."""


@lru_cache(maxsize=4)
def read_backbone(file: BackboneFile, device: str = "cpu") -> PatchNetwork:
    """Read a network, once per process.

    Raises:
        DataError: the file is missing, or of another checksum, or its tensors have other names or shapes
            (``reason="io"``).
        ModuleNotFoundError: the network's package is not installed (extra ``metrics``).
    """
    backbone = BACKBONES[file.name]
    folder = Folder(file.folder)
    where = f"{folder.uri}/{backbone.file}"
    tensors = _tensors(_checked(folder, backbone, file.sha256, where), where)
    if file.name == "inception":
        return InceptionFeatures(tensors, where, device)
    return dinov2_features(tensors, where, device) if file.name == "dinov2" else clip_features(tensors, where, device)


def check_backbone(file: BackboneFile) -> None:
    """Check that a network can be read: its package, its file and the checksum. Raises as :func:`read_backbone`."""
    importlib.import_module("torch_fidelity" if file.name == "inception" else "timm")
    backbone, folder = BACKBONES[file.name], Folder(file.folder)
    _checked(folder, backbone, file.sha256, f"{folder.uri}/{backbone.file}")


def _checked(folder: Folder, backbone: Backbone, sha256: str, where: str) -> bytes:
    if not folder.exists(backbone.file):
        raise DataError(
            f"{where}: got no such file, expected the weights of {backbone.label}. Make it with "
            f"python -m hfd.metrics.convert_backbone {backbone.name}",
            reason="io",
        )
    data = folder.read(backbone.file)
    got = hashlib.sha256(data).hexdigest()
    if got != sha256:
        raise DataError(
            f"{where}: got SHA-256 {got}, expected {sha256}. Make the file again, or set "
            f"evaluate.{backbone.name}_sha256",
            reason="io",
        )
    return data


def _tensors(data: bytes, where: str) -> dict[str, Tensor]:
    try:
        return load(data)
    except SafetensorError as error:
        raise DataError(f"{where}: not readable weights ({error}). Make the file again", reason="io") from error
