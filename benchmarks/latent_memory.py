"""Measure memory and time of coding the latent of a large picture, encoded by rows and decoded by bands.

    python -m benchmarks.latent_memory [--side 6000] [--model desk-025]

The picture is generated row by row and never whole, so that the memory is that of the coder. Each direction runs in
its own process; prints the peak resident size, and its excess over the loaded model.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import torch
from torch import Tensor

from hfd.autoencoder.model import STRIDE
from hfd.autoencoder.weights import latent_coder, read_autoencoder
from hfd.io.model_folders import find_model


def rows(first: int, last: int, width: int) -> Tensor:
    """Generate waves, stripes and noise (1, 3, last - first, W), independent of the division into calls."""
    noise = torch.stack([torch.rand(width, generator=torch.Generator().manual_seed(row)) for row in range(first, last)])
    down, along = torch.arange(first, last).unsqueeze(1), torch.arange(width)
    wave = 0.5 + 0.2 * torch.sin(down / 37.0) * torch.cos(along / 23.0) + 0.1 * ((down // 90 + along // 70) % 2)
    return torch.stack([wave + 0.05 * noise, wave, 1.0 - wave]).unsqueeze(0)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(direction: str, model: str, side: int, path: Path) -> None:
    torch.set_num_threads(1)
    autoencoder = read_autoencoder(find_model(model) / "autoencoder")
    coder = latent_coder(autoencoder.model, autoencoder.tables)
    before, start = peak_mib(), time.perf_counter()
    if direction == "encode":
        coded, y_hat = coder.code(
            coder.analyse(lambda first, last: rows(first, last, side).numpy(), side, side), consume=True
        )
        check = zlib.crc32(y_hat)
        path.write_bytes(coded.checksum.to_bytes(4, "little") + check.to_bytes(4, "little") + coded.payload)
    else:
        data = path.read_bytes()
        y_hat = coder.decode(data[8:], checksum=int.from_bytes(data[:4], "little"), height=side, width=side)
        assert zlib.crc32(y_hat) == int.from_bytes(data[4:8], "little")
    seconds, added = time.perf_counter() - start, peak_mib() - before
    print(
        f"{direction}: {side} x {side}, {path.stat().st_size - 8} bytes, {seconds:.0f} s, at most {peak_mib():.0f} "
        f"MiB, {added:.0f} on top of the model: {added * 2**20 / side**2:.1f} bytes a pixel",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=6000)
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--direction", choices=["encode", "decode"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    side = arguments.side + -arguments.side % STRIDE
    if arguments.direction:
        work(arguments.direction, arguments.model, side, arguments.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        for direction in ("encode", "decode"):
            command = [sys.executable, "-m", "benchmarks.latent_memory"]
            command += ["--side", str(side), "--model", arguments.model]
            subprocess.run([*command, "--direction", direction, "--file", f"{folder}/payload"], check=True)


if __name__ == "__main__":
    main()
