"""Designs of stage 1 at equal CPU time: each trains for the same CPU seconds, on the same crops, from the same seeds.

    nice -n 19 python -m benchmarks.stage1_designs PHOTOS [--cpu-seconds 300] [--seeds 2] [--designs gdn,residual]

The designs share the hyperprior and the context model and differ in the transforms:

- gdn: those of the preset desk, strided 5x5 convolutions with generalised divisive normalisation;
- residual: those of the preset lean, blocks of two dense 3x3 convolutions;
- depthwise: those of lean with blocks as in real-time codecs: a depthwise 3x3 convolution between two 1x1 convolutions,
  and two further 1x1 convolutions of twice the width, without normalisation.

Sample i of a seed is the same crop for every design, and the learning rate falls by the share of the CPU time spent, as
in the presets. Every ``HELD_OUT``-th picture takes no part in training; the loss lmbda 255^2 MSE + bpp_est of its
centre, rounded as in a file, is the result. Prints per design the mean over seeds with the range over them, and the
difference to the first design with a 95 % interval: a bootstrap over the held-out pictures of the mean over seeds.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hfd.autoencoder.loss import rate_distortion
from hfd.autoencoder.model import Elic
from hfd.autoencoder.residual import SLOPE, ResidualBlock
from hfd.data.loader import sub_crop
from hfd.image.load import RgbArray, load_rgb
from hfd.training.loop import to_images
from hfd.training.randomness import worker_randomness
from hfd.training.tasks import AutoencoderTask, OptimiserSettings

HELD_OUT = 5
SOURCE_PX, HELD_OUT_PX, CROP_PX, BATCH = 512, 256, 128, 8
DRAWS = 2000


class DepthwiseBlock(nn.Module):
    """x + 1x1(depthwise 3x3(leaky(1x1 x))), then x + 1x1(leaky(1x1 x)) of twice the width; the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.wide, self.narrow = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, channels, 1)
        for last in (self.after, self.narrow):
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.after(self.depthwise(F.leaky_relu(self.before(x), SLOPE)))
        out: Tensor = x + self.narrow(F.leaky_relu(self.wide(x), SLOPE))
        return out


@dataclass(frozen=True)
class Design:
    """``build``: the network; ``settings``: its optimiser's, as the preset that it comes from has them."""

    build: Callable[[], Elic]
    settings: OptimiserSettings
    lr_final: float


def optimiser(lr: float, grad_clip: float, beta2: float) -> OptimiserSettings:
    return OptimiserSettings(lr=lr, weight_decay=0.0, grad_clip=grad_clip, precision="auto", beta2=beta2)


def depthwise() -> Elic:
    model = Elic(64, 128, (32, 96), residual=((48, 192, 256), (0, 4, 1)))
    for transform in (model.g_a, model.g_s):
        for parent in transform.modules():
            if isinstance(parent, nn.Sequential):
                for index, module in enumerate(parent):
                    if isinstance(module, ResidualBlock):
                        parent[index] = DepthwiseBlock(module.first.in_channels)
    return model


DESIGNS = {
    "gdn": Design(lambda: Elic(64, 96, (32, 64), gdn_channels=96), optimiser(8e-4, 1.0, 0.999), 0.03),
    "residual": Design(
        lambda: Elic(64, 128, (32, 96), residual=((48, 128, 192), (0, 4, 1))), optimiser(5e-4, 0.5, 0.99), 0.05
    ),
    "depthwise": Design(depthwise, optimiser(5e-4, 0.5, 0.99), 0.05),
}


def read_pictures(folder: Path, count: int, seed: int = 0) -> list[RgbArray]:
    """Read a random part of ``SOURCE_PX`` px of each of ``count`` pictures, evenly over the sorted names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    pictures = []
    for number, path in enumerate(paths[:: max(1, len(paths) // count)]):
        whole = load_rgb(path)
        if len(pictures) < count and min(whole.shape[:2]) >= SOURCE_PX:
            (part,) = sub_crop([whole], SOURCE_PX, seed=seed, sample=number)
            pictures.append(part.copy())
    return pictures


def batch_of(pictures: Sequence[RgbArray], step: int, seed: int) -> npt.NDArray[np.uint8]:
    """Batch ``step`` (BATCH, 1, CROP_PX, CROP_PX, 3), a function of seed and step."""
    chosen = np.random.Generator(np.random.Philox(key=[seed, step])).integers(0, len(pictures), BATCH)
    crops = [
        sub_crop([pictures[index]], CROP_PX, seed=seed, sample=step * BATCH + i)[0] for i, index in enumerate(chosen)
    ]
    return np.stack(crops)[:, None]


def factor(progress: float, settings: Design) -> float:
    """The learning rate's factor: 1, then a cosine over the last 60 %, after a short warm-up."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(max((progress - 0.4) / 0.6, 0.0), 1.0)))
    return min(1.0, progress / 0.02 + 0.01) * (settings.lr_final + (1.0 - settings.lr_final) * cosine)


def trained(design: Design, pictures: Sequence[RgbArray], seed: int, cpu_s: float, lmbda: float) -> tuple[Elic, int]:
    """Train a design from a seed until the CPU time is spent; return it and the number of steps."""
    torch.manual_seed(seed)
    model, device, step = design.build(), torch.device("cpu"), 0
    task = AutoencoderTask(model, design.settings, lmbda=lmbda, aux_lr=1e-3)
    started = time.process_time()
    while (spent := time.process_time() - started) < cpu_s:
        images = to_images(batch_of(pictures, step, seed), device)
        losses = task.losses(images, progress=spent / cpu_s, randomness=worker_randomness(seed, step, BATCH))
        task.backward(losses, weight=1.0)
        task.update(step=step, lr_factor=factor(spent / cpu_s, design))
        step += 1
    return model.eval(), step


@torch.no_grad()
def held_out(model: Elic, pictures: Sequence[RgbArray], lmbda: float) -> npt.NDArray[np.float64]:
    """Loss, bpp_est and PSNR in dB of each picture, (I, 3)."""
    begin = (SOURCE_PX - HELD_OUT_PX) // 2
    centre = slice(begin, begin + HELD_OUT_PX)
    rows = []
    for picture in pictures:
        x = to_images(picture[None, None, centre, centre].copy(), torch.device("cpu"))[:, 0]
        found = rate_distortion(model(x), x, lmbda)
        rows.append((float(found.loss), float(found.bpp_est), -10.0 * math.log10(float(found.mse))))
    return np.array(rows)


def interval(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval, over pictures, of the mean of differences (I,)."""
    draws = np.random.default_rng(0).integers(0, len(differences), (DRAWS, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


@torch.no_grad()
def kmac(model: Elic) -> tuple[float, float]:
    """Thousands of multiply-adds a pixel of analysis and synthesis."""
    counts = []
    for transform, inputs in ((model.g_a, torch.rand(1, 3, 128, 128)), (model.g_s, torch.rand(1, model.M, 8, 8))):
        with FlopCounterMode(display=False) as counter:
            transform(inputs)
        counts.append(counter.get_total_flops() / 2 / 128**2 / 1000)
    return counts[0], counts[1]


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cpu-seconds", type=float, default=300.0, help="of each training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--lmbda", type=float, default=0.0038)
    parser.add_argument("--designs", default=",".join(DESIGNS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pictures = read_pictures(arguments.photos, arguments.pictures)
    kept = pictures[::HELD_OUT]
    rest = [picture for index, picture in enumerate(pictures) if index % HELD_OUT]
    print(f"{processor()}, one thread; {len(rest)} pictures for training, {len(kept)} held out")
    names = arguments.designs.split(",")
    found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in names}
    for seed in range(arguments.seeds):
        for name in names:
            model, steps = trained(DESIGNS[name], rest, seed, arguments.cpu_seconds, arguments.lmbda)
            found[name].append(held_out(model, kept, arguments.lmbda))
            loss, bpp, psnr = found[name][-1].mean(axis=0)
            print(f"seed {seed} {name:10} {steps:5} steps: {loss:.4f}, {bpp:.4f} bpp, {psnr:.2f} dB", flush=True)
    print(f"after {arguments.cpu_seconds:g} CPU seconds: held-out loss, mean (least to most over seeds)")
    first = np.mean([rows[:, 0] for rows in found[names[0]]], axis=0)
    for name in names:
        by_seed = np.array([rows[:, 0].mean() for rows in found[name]])
        difference = np.mean([rows[:, 0] for rows in found[name]], axis=0) - first
        low, high = interval(difference)
        analysis, synthesis = kmac(DESIGNS[name].build())
        print(
            f"{name:10} {analysis:5.1f} + {synthesis:5.1f} kMAC/px: {by_seed.mean():.4f} "
            f"({by_seed.min():.4f} to {by_seed.max():.4f}); to {names[0]} {difference.mean():+.4f} "
            f"({low:+.4f} to {high:+.4f}), ratio {by_seed.mean() / first.mean():.3f}"
        )


if __name__ == "__main__":
    main()
