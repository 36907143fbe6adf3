"""Encoder and decoder in two processes, with different settings."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.weights import read_autoencoder, write_autoencoder
from hfd.io.storage import Folder
from tests.support.coders import tensor_coder
from tests.support.latents import picture
from tests.support.networks import lively_elic


@pytest.fixture(scope="module")
def model() -> Elic:
    return lively_elic(16, 16, (8, 8))


CONFIG = {"arch": "elic", "N": 16, "M": 16, "groups": [8, 8]}


DECODE = """
import sys, zlib
from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.entropy_model import entropy_model_of
from hfd.io.storage import Folder
from hfd.io.weights import read_stored
coder = LatentCoder(None, entropy_model_of(read_stored(Folder(sys.argv[1]))))
for line in sys.stdin:
    payload, checksum, height, width, rate = line.split()
    sizes = {"height": int(height), "width": int(width), "rate": int(rate)}
    print(zlib.crc32(coder.decode(bytes.fromhex(payload), checksum=int(checksum), **sizes)))
print(*({"torch", "compressai", "scipy", "pandas"} & sys.modules.keys()))
"""


@pytest.mark.integration
@pytest.mark.parametrize(("kernels", "threads"), [("NEHALEM", 1), ("SANDYBRIDGE", 2), ("HASWELL", 1), ("", 2)])
def test_files_decode_alike_under_any_setting(tmp_path: Path, model: Elic, kernels: str, threads: int) -> None:
    """In a process that imports neither torch nor CompressAI, with the matrix products of other processors."""
    write_autoencoder(Folder(str(tmp_path)), model, build_tables(model), CONFIG)
    coder, lines, expected = tensor_coder(model, build_tables(model)), [], []
    for seed, (height, width, rate) in enumerate([(128, 192, 128), (256, 64, 110), (64, 64, 150), (192, 256, 128)]):
        coded, y_hat = coder.encode(picture(height, width, seed=seed), rate)
        lines.append(f"{coded.payload.hex()} {coded.checksum} {height} {width} {rate}")
        expected.append(zlib.crc32(y_hat.numpy().tobytes()))
    chosen = {"OPENBLAS_CORETYPE": kernels} if kernels else {}
    there = subprocess.run(
        [sys.executable, "-c", DECODE, str(tmp_path)],
        input="\n".join(lines),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": str(threads), **chosen},
    ).stdout
    *found, imported = there.split("\n")[:-1]
    assert [int(line) for line in found] == expected and imported == ""


ENCODE = """
import sys, torch
from tests.support.coders import TensorCoder, tensor_coder
from hfd.autoencoder.weights import read_autoencoder
from hfd.io.storage import Folder
torch.set_num_threads(1)
autoencoder = read_autoencoder(Folder(sys.argv[1]))
x = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(7))
coded, _ = tensor_coder(autoencoder.model, autoencoder.tables).encode(x)
sys.stdout.buffer.write(coded.checksum.to_bytes(4, "little") + coded.payload)
"""


@pytest.mark.integration
def test_encoder_and_decoder_in_two_processes(tmp_path: Path, model: Elic) -> None:
    folder = Folder(str(tmp_path))
    write_autoencoder(folder, model, build_tables(model), CONFIG)
    there = subprocess.run([sys.executable, "-c", ENCODE, str(tmp_path)], stdout=subprocess.PIPE, check=True).stdout
    autoencoder = read_autoencoder(folder)
    coder = tensor_coder(autoencoder.model, autoencoder.tables)
    coded, y_hat = coder.encode(picture(128, 192, seed=7))
    assert there == coded.checksum.to_bytes(4, "little") + coded.payload
    back = coder.decode(there[4:], checksum=int.from_bytes(there[:4], "little"), height=128, width=192)
    assert torch.equal(back, y_hat)
