"""Share of divisive normalisation (GDN) in the transforms, as CompressAI's layer and fused, with the same weights.

    python -m benchmarks.gdn [--model desk-025] [--size 512 768] [--batch 4] [--crop 128] [--rounds 7] [--threads 1]
        [--compile] [--precision float32]

g_a and g_s are timed with each layer and without any, in turn: in coding, for a picture of ``--size``, and in training,
for the forward and backward pass of a batch of crops. Printed are the least seconds of the processor, which a busy
machine changes less than those of the clock, and the layers' share: what the network without them does not take. With
``--compile``, training with the fused layers is also timed compiled (needs a C++ compiler), and how long the first pass
takes. ``--precision``: of training, as in ``train.precision``.
"""

from __future__ import annotations

import argparse
import copy
import functools
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
from hfd.precision import autocast


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


def training(network: nn.Module, x: Tensor, precision: str = "float32") -> None:
    network.zero_grad()
    with autocast(x.device, precision):
        found = network(x.requires_grad_())
    found.float().sum().backward()


def seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def print_compiled(name: str, network: nn.Module, value: Tensor, precision: str, rounds: int) -> None:
    """Time training as it is and compiled, in turn."""
    eager = with_layers(network, fused)
    compiled = torch.compile(with_layers(network, fused), dynamic=False)
    first = seconds(functools.partial(training, compiled, value.clone(), precision))
    both = [
        [seconds(functools.partial(training, one, value.clone(), precision)) for one in (eager, compiled)]
        for _ in range(rounds)
    ]
    least = [min(column) for column in zip(*both, strict=True)]
    print(
        f"compiled  {name:<4} {least[0]:8.3f} s as it is, {least[1]:.3f} s compiled ({least[1] / least[0]:.2f}, "
        f"{precision}); first pass {first:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="desk-025", help="one with gdn_channels")
    parser.add_argument("--size", type=int, nargs=2, default=[512, 768], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "auto"], default="float32")
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
                    passed = seconds(functools.partial(work, one, given))
                    least[variant] = min(least[variant], passed)
            extra = [least[variant] - least["without"] for variant in ("plain", "fused")]
            shares = f"{extra[0] / least['plain']:8.2f} {extra[1] / least['fused']:8.2f} {extra[1] / extra[0]:8.2f}"
            times = " ".join(f"{least[variant]:8.3f}" for variant in VARIANTS)
            print(f"{work.__name__:<9} {name:<4} {times} {shares}", flush=True)
            if work is training and arguments.compile:
                print_compiled(name, network, value, arguments.precision, arguments.rounds)


if __name__ == "__main__":
    main()
