"""Count files that decode to other symbols under other kernels, threads or precisions: ours and CompressAI's.

    python -m benchmarks.drift PHOTOS [--crops 1000] [--peer-crops 1000] [--model desk-025]

Crops with sides of 128 to 256 pixels are compressed in one process, and their latents decoded in a process for each
other setting: the same networks, the same files. A mismatch is a refused file, or a latent that differs from the
encoder's: for ours by any bit, for CompressAI's by more than 0.01, which only other symbols cause. Decoding under
``float64`` converts all networks to it, while the encoder used float32.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peer import peer_of
from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.model import Elic
from hfd.autoencoder.weights import latent_coder, read_autoencoder
from hfd.codec.tensors import picture_to_tensor
from hfd.engine.base import Values
from hfd.errors import HfdError
from hfd.image.load import load_rgb
from hfd.io.model_folders import find_model


@dataclass(frozen=True)
class Setting:
    """``capability``: of ATen's kernels, None for the best there is; ``bfloat16``: autocast around decoding."""

    capability: str | None = None
    onednn: bool = True
    threads: int = 1
    bfloat16: bool = False
    float64: bool = False


ENCODER = Setting()
SETTINGS = {
    "as encoded": ENCODER,
    "ATen default": Setting(capability="default"),
    "ATen avx2": Setting(capability="avx2"),
    "ATen avx512": Setting(capability="avx512"),
    "oneDNN off": Setting(onednn=False),
    "ATen default, oneDNN off": Setting(capability="default", onednn=False),
    "2 threads": Setting(threads=2),
    "autocast bfloat16": Setting(bfloat16=True),
    "float64 transforms": Setting(float64=True),
}


@dataclass(frozen=True)
class Crop:
    """A crop's files: ours (payload, checksum, CRC32 of y_hat) and CompressAI's (strings, shape, y_hat), if wanted."""

    height: int
    width: int
    ours: tuple[bytes, int, int]
    theirs: tuple[Any, Any, Tensor] | None


def cut(photos: Path, count: int) -> list[Tensor]:
    """Crops (1, 3, H, W) of photographs, one after another, at random places; sides 128, 192 or 256."""
    rng = np.random.default_rng(0)
    paths = sorted(path for path in photos.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    crops: list[Tensor] = []
    for i in range(20 * count):
        x = load_rgb(paths[i % len(paths)])
        height, width = (int(side) for side in rng.choice([128, 192, 256], 2))
        if x.shape[0] >= height and x.shape[1] >= width:
            top, left = int(rng.integers(x.shape[0] - height + 1)), int(rng.integers(x.shape[1] - width + 1))
            crops.append(picture_to_tensor(x[top : top + height, left : left + width]).contiguous())
        if len(crops) == count:
            return crops
    raise SystemExit(f"{photos}: got {len(crops)} crops, expected {count}. Give a folder of larger photographs")


def checksum_of(y_hat: Values) -> int:
    return zlib.crc32(y_hat.tobytes())


def encode(model: Elic, coder: LatentCoder, crops: list[Tensor], peer_crops: int) -> list[Crop]:
    peer, files = peer_of(model), []
    for i, x in enumerate(crops):
        coded, y_hat = coder.encode(x.numpy())
        theirs = None
        if i < peer_crops:
            there = peer.compress(x)
            theirs = (there["strings"], there["shape"], there["y_hat"])
        files.append(Crop(x.shape[2], x.shape[3], (coded.payload, coded.checksum, checksum_of(y_hat)), theirs))
    return files


def decode_ours(coder: LatentCoder, crop: Crop) -> bool:
    payload, checksum, expected = crop.ours
    try:
        y_hat = coder.decode(payload, checksum=checksum, height=crop.height, width=crop.width)
    except HfdError:
        return False
    return checksum_of(y_hat) == expected


def decode_theirs(peer: torch.nn.Module, crop: Crop) -> bool | str:
    assert crop.theirs is not None
    strings, shape, expected = crop.theirs
    try:
        y_hat = peer.latent_codec.decompress(strings, shape)["y_hat"]
    except (RuntimeError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return bool((y_hat.float() - expected).abs().max() < 0.01)


def run_setting(model_name: str, name: str, folder: Path) -> None:
    """In a process of its own: encode, or decode and print the counts."""
    setting = SETTINGS[name]
    warnings.simplefilter("ignore")
    torch.set_num_threads(setting.threads)
    torch.backends.mkldnn.enabled = setting.onednn  # type: ignore[attr-defined]
    wanted = setting.capability
    if wanted is not None and torch.backends.cpu.get_cpu_capability().lower() != wanted:
        print(f"{name:<26} not on this machine: {torch.backends.cpu.get_cpu_capability()}")
        return
    autoencoder = read_autoencoder(find_model(model_name) / "autoencoder")
    model, coder = autoencoder.model, latent_coder(autoencoder.model, autoencoder.tables)
    crops: list[Crop] = pickle.loads((folder / "files.pickle").read_bytes())
    peer = peer_of(model)
    if setting.float64:
        model.double()
        peer.double()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=setting.bfloat16):
        ours = [decode_ours(coder, crop) for crop in crops]
        theirs = [decode_theirs(peer, crop) for crop in crops if crop.theirs is not None]
    wrong = sum(result is not True for result in theirs)
    errors = {result for result in theirs if isinstance(result, str)}
    note = f" ({errors.pop()})" if errors else ""
    print(f"{name:<26} ours {ours.count(False):5d} of {len(crops)}, CompressAI {wrong:5d} of {len(theirs)}{note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--crops", type=int, default=1000)
    parser.add_argument("--peer-crops", type=int, default=1000, help="of them, for CompressAI too")
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.setting:
        run_setting(arguments.model, arguments.setting, arguments.photos)
        return
    torch.set_num_threads(ENCODER.threads)
    autoencoder = read_autoencoder(find_model(arguments.model) / "autoencoder")
    coder = latent_coder(autoencoder.model, autoencoder.tables)
    with tempfile.TemporaryDirectory() as folder:
        with torch.no_grad():
            files = encode(autoencoder.model, coder, cut(arguments.photos, arguments.crops), arguments.peer_crops)
        (Path(folder) / "files.pickle").write_bytes(pickle.dumps(files))
        print(f"{len(files)} crops, mismatches by the setting under which they are decoded", flush=True)
        for name, setting in SETTINGS.items():
            chosen = {} if setting.capability is None else {"ATEN_CPU_CAPABILITY": setting.capability}
            environment = {key: value for key, value in os.environ.items() if key != "ATEN_CPU_CAPABILITY"} | chosen
            command = [sys.executable, "-m", "benchmarks.drift", folder, "--model", arguments.model, "--setting", name]
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
