"""Speed of the autoencoder path against CompressAI's compress and decompress, with the same weights, in one run.

    python -m benchmarks.coding_speed PICTURES [--model desk-025] [--repeats 5] [--threads 1] [--paper]

Ours: a picture's tensor to payload, and payload to x_hat. Theirs: ``Elic2022Official.compress`` and ``decompress``
with the same modules, on the same tensor. The four calls alternate. Prints the median over repeats of each picture's
time, summed over pictures, and the median ratio of neighbouring calls: of wall time, and of processor time, which a
busy machine changes less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peer import peer_of
from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.model import Elic, pad_to_stride
from hfd.autoencoder.weights import latent_coder, read_autoencoder
from hfd.codec.tensors import picture_to_tensor
from hfd.image.load import load_rgb
from hfd.io.model_folders import find_model


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time of a call."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--paper", action="store_true", help="ELIC of the paper's size, untrained, in place of a model")
    parser.add_argument("--count", type=int, default=4, help="pictures, the first by name")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.paper:
        torch.manual_seed(0)
        model = Elic().eval()
        coder = latent_coder(model, build_tables(model))
    else:
        autoencoder = read_autoencoder(find_model(arguments.model) / "autoencoder")
        model, coder = autoencoder.model, latent_coder(autoencoder.model, autoencoder.tables)
    peer = peer_of(model)
    totals = {"compress": [0.0, 0.0], "decompress": [0.0, 0.0]}
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in totals}
    paths = sorted(arguments.pictures.iterdir())[: arguments.count]
    for path in paths:
        x = pad_to_stride(picture_to_tensor(load_rgb(path))).contiguous()
        for name, (ours, theirs) in calls(model, coder, peer, x).items():
            ours(), theirs()
            pairs = [(seconds(ours), seconds(theirs)) for _ in range(arguments.repeats)]
            for i in (0, 1):
                totals[name][i] += statistics.median(pair[i][0] for pair in pairs)
            ratios[name] += [(there[0] / here[0], there[1] / here[1]) for here, there in pairs]
    print(f"{len(paths)} pictures, {arguments.threads} threads, {arguments.repeats} repeats")
    for name, (here, there) in totals.items():
        clock, processor = (statistics.median(ratio[i] for ratio in ratios[name]) for i in (0, 1))
        print(
            f"{name:<10} ours {here:6.2f} s, CompressAI {there:6.2f} s: {clock:.2f} times as fast by the clock, "
            f"{processor:.2f} by the processor"
        )


def calls(
    model: torch.nn.Module, coder: LatentCoder, peer: torch.nn.Module, x: Tensor
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    height, width = x.shape[2:]
    coded, _ = coder.encode(x.numpy())
    with torch.no_grad():
        there = peer.compress(x)

    def decompress() -> Tensor:
        y_hat = coder.decode(coded.payload, checksum=coded.checksum, height=height, width=width)
        return model.reconstruct(torch.from_numpy(y_hat))

    return {
        "compress": (lambda: coder.encode(x.numpy()), torch.no_grad()(lambda: peer.compress(x))),
        "decompress": (decompress, torch.no_grad()(lambda: peer.decompress(**there))),
    }


if __name__ == "__main__":
    main()
