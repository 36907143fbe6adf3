"""Measure the speed of training and sampling stage 2, against the machine's limit and diffusers' U-Net of equal size.

    python -m benchmarks.sampling [--config desk-diffusion] [--threads 2] [--side 512]

In one run, in the same precision: the limit is the best 3x3 convolution over a small grid of shapes, forward only for
sampling and with its backward pass for training. Ours is counted in the network's own FLOPs. The peer is
``diffusers.UNet2DModel`` with the same input and about as many parameters, at the same number of steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hfd.config.presets import load_config
from hfd.diffusion.decoder import ScoreDecoder, build_process
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.weights import build_network
from hfd.precision import autocast, native_bfloat16
from hfd.training.randomness import worker_randomness
from hfd.training.tasks import DecoderTask, OptimiserSettings

CPU = torch.device("cpu")
SHAPES = [(channels, side, batch) for channels in (96, 128, 256, 384) for side in (16, 32, 64) for batch in (1, 4, 16)]
"""Shapes of the convolutions for the limit: channels, sides, batch."""

REPEATS = 5
STEPS = 4
"""Steps of each timed sampling: the time of a step does not depend on their number."""


def median_s(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median seconds of a call, after a warm-up."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def flops_of(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def convolution_rates(training: bool) -> Iterator[tuple[float, tuple[int, int, int]]]:
    for channels, side, batch in SHAPES:
        conv = nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
        x.requires_grad_(training)

        def call(conv: nn.Conv2d = conv, x: Tensor = x) -> None:
            with torch.set_grad_enabled(training), autocast(CPU, "auto"):
                y = conv(x)
            if training:
                y.backward(torch.ones_like(y))

        yield flops_of(call) / median_s(call, 3), (channels, side, batch)


def millions(net: nn.Module) -> float:
    return sum(parameter.numel() for parameter in net.parameters()) / 1e6


def peer_of(parameters: float) -> UNet2DModel:
    """Build diffusers' U-Net with its usual three levels, no attention, and about this many million parameters."""
    widths = range(32, 257, 32)
    nets = (
        UNet2DModel(
            in_channels=6,
            out_channels=3,
            block_out_channels=(width, 2 * width, 2 * width),
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
            add_attention=False,
            norm_num_groups=32,
        )
        for width in widths
    )
    return min(nets, key=lambda net: abs(millions(net) - parameters))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="desk-diffusion")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = load_config(options.config).decoder
    shape = config.model_dump(mode="json")
    process = build_process(shape["process"])
    precision = "bfloat16" if native_bfloat16("cpu") else "float32"

    net = build_network(shape).eval().to(memory_format=torch.channels_last)
    decoder = ScoreDecoder(net, process, {}, "")
    side, train = options.side, config.train
    x_hat = torch.rand(1, 3, side, side)
    ours_s = median_s(lambda: decoder.sample(x_hat, Sampling(steps=STEPS), seeds=[0]), 3) / STEPS
    pictures = (torch.zeros(1, 3, side, side),) * 2
    forward = flops_of(lambda: net(*pictures, torch.zeros(1)))

    peer = peer_of(millions(net)).eval().to(memory_format=torch.channels_last)
    noisy = torch.cat(pictures, dim=1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def peer_step() -> None:
        with autocast(CPU, "auto"):
            peer(noisy, 500)

    peer_s = median_s(peer_step, 3)

    task = DecoderTask(
        build_network(shape),
        process,
        OptimiserSettings(1e-4, 0.0, 1.0, "auto"),
        sigma_rels=config.ema.sigma_rels,
        neighbours_share=config.neighbours_share,
    )
    batch = torch.rand(train.batch_size, 2, 3, train.crop_px, train.crop_px)
    randomness = worker_randomness(0, 10, train.batch_size)
    losses = flops_of(lambda: task.losses(batch, progress=0.5, randomness=randomness)["loss"].backward())  # type: ignore[no-untyped-call]

    def train_step() -> None:
        task.backward(task.losses(batch, progress=0.5, randomness=randomness), weight=1.0)
        task.update(step=10, lr_factor=1.0)

    train_s = median_s(train_step)
    limits = {training: max(convolution_rates(training)) for training in (False, True)}

    megapixels = side * side / 1e6
    print(f"{options.threads} threads, {precision}; preset {options.config}: {millions(net):.2f} M parameters")
    for what, rate, training in (("sampling", forward / ours_s, False), ("training", losses / train_s, True)):
        limit, best = limits[training]
        print(
            f"{what}: {rate / 1e9:.0f} GFLOP/s of {limit / 1e9:.0f} (3x3 convolution of {best[0]} channels, "
            f"{best[1]} x {best[1]}, batch {best[2]}): ratio {rate / limit:.2f} (goal 0.5)"
        )
    print(
        f"a step of sampling: ours {ours_s / megapixels:.3f} s/megapixel, diffusers' UNet2DModel "
        f"({millions(peer):.2f} M parameters) {peer_s / megapixels:.3f}: {peer_s / ours_s:.1f} times faster (goal 2)"
    )


if __name__ == "__main__":
    main()
