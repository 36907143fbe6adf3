"""Share of divisive normalisation (GDN) in the transforms, as CompressAI's layer and fused, with the same weights.

    python -m benchmarks.gdn [--model desk-025] [--size 512 768] [--batch 4] [--crop 128] [--rounds 7] [--threads 1]

g_a and g_s are timed with each layer and without any, in turn: in coding, for a picture of ``--size``, and in training,
for the forward and backward pass of a batch of crops. Printed are the least seconds of the processor, which a busy
machine changes less than those of the clock, and the layers' share: what the network without them does not take.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.startup import processor
from hfd.autoencoder.library import GDN
from hfd.autoencoder.normalisation import FusedGdn
from hfd.autoencoder.transforms import transform
from hfd.autoencoder.weights import read_autoencoder
from hfd.io.model_folders import find_model


def with_layers(network: nn.Module, replace: Callable[[GDN], nn.Module]) -> nn.Module:
    made = copy.deepcopy(network).requires_grad_(True).to(memory_format=torch.channels_last)
    for name, module in list(made.named_children()):
        if isinstance(module, GDN):
            setattr(made, name, replace(module))
    return made


def plain(layer: GDN) -> GDN:
    made = GDN(len(layer.beta), inverse=layer.inverse)
    made.load_state_dict(layer.state_dict())
    return made


def fused(layer: GDN) -> GDN:
    made = FusedGdn(len(layer.beta), inverse=layer.inverse)
    made.load_state_dict(layer.state_dict())
    return made


VARIANTS: dict[str, Callable[[GDN], nn.Module]] = {
    "without": lambda _: nn.Identity(),
    "plain": plain,
    "fused": fused,
}


def coding(network: nn.Module, x: Tensor) -> None:
    transform(network, x)


def training(network: nn.Module, x: Tensor) -> None:
    network.zero_grad()
    network(x.requires_grad_()).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="desk-025", help="one with gdn_channels")
    parser.add_argument("--size", type=int, nargs=2, default=[512, 768], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = read_autoencoder(find_model(arguments.model) / "autoencoder").model
    pictures = {coding: torch.rand(1, 3, *arguments.size)}
    pictures[training] = torch.rand(arguments.batch, 3, arguments.crop, arguments.crop)
    print(f"{processor()}; {arguments.threads} threads; seconds of the processor, the least of {arguments.rounds}")
    print(f"{'':<14} {'without':>8} {'plain':>8} {'fused':>8}   share of plain and of fused, fused / plain")
    for work, x in pictures.items():
        for name, network, value in (("g_a", model.g_a, x), ("g_s", model.g_s, transform(model.g_a, x).round())):
            networks = {variant: with_layers(network, replace) for variant, replace in VARIANTS.items()}
            least = dict.fromkeys(VARIANTS, float("inf"))
            for _ in range(arguments.rounds):
                for variant, one in networks.items():
                    given = value.clone().contiguous(memory_format=torch.channels_last)
                    started = time.process_time()
                    work(one, given)
                    least[variant] = min(least[variant], time.process_time() - started)
            extra = [least[variant] - least["without"] for variant in ("plain", "fused")]
            shares = f"{extra[0] / least['plain']:8.2f} {extra[1] / least['fused']:8.2f} {extra[1] / extra[0]:8.2f}"
            seconds = " ".join(f"{least[variant]:8.3f}" for variant in VARIANTS)
            print(f"{work.__name__:<9} {name:<4} {seconds} {shares}", flush=True)


if __name__ == "__main__":
    main()
