"""Estimate work, hours and cost of a training of coco256 and of clic, as a table in Markdown.

    python infra/sizing.py

The work is counted from the presets' budgets and networks. The other values are assumptions, listed at the top, and
none was measured: no GPU has run these presets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from hfd.config import Config, TrainConfig
from hfd.config.presets import load_config

GPU_NODE, CPU_NODE, HEAD_NODE = "p4d.24xlarge", "m6i.4xlarge", "m6i.2xlarge"
USD_PER_HOUR = {GPU_NODE: 21.96, CPU_NODE: 0.768, HEAD_NODE: 0.384}
PRICES = "on-demand list prices, us-east-1, as of June 2025, to be checked"

GPUS_PER_NODE = 8
PEAK_TFLOPS = 312.0
"""Peak of one A100 in bfloat16, without sparsity (the vendor's data sheet)."""

UTILISATIONS = (0.4, 0.2)
"""Share of the peak that a training reaches: assumed, from good to poor."""

MIN_STEP_S = (0.02, 0.05)
"""Least time of a training step of any batch size, for kernel launches and gradients. Assumed, good to poor."""

BACKWARD = 2.0
"""Work of a backward pass, in forward passes."""

CPU_NODES, CPUS_PER_NODE = 8, 16
PREPARE_MEGAPIXELS_PER_CPU_S = 10.0
CODING_S_PER_MEGAPIXEL = 2.0
"""Seconds of entropy coding and metrics of an image, on one CPU task."""


@dataclass(frozen=True)
class Corpus:
    """Photographs for training and test: numbers and mean sizes."""

    photographs: int
    megapixels: float
    test_images: int
    test_megapixels: float


CORPORA = {
    "coco256": Corpus(118_287, 0.31, 30_000, 0.31),  # MS-COCO train2017; test images of the same size
    "clic": Corpus(1_633, 2.8, 428, 2.8),  # CLIC 2020, professional and mobile
}


@dataclass(frozen=True)
class Line:
    """One step: its work in FLOP (None: not counted), its nodes, and hours from good to poor."""

    step: str
    flop: float | None
    nodes: str
    hours: tuple[float, float]

    @property
    def usd(self) -> tuple[float, float]:
        number, _, kind = self.nodes.partition(" x ")
        rate = int(number) * USD_PER_HOUR[kind] + USD_PER_HOUR[HEAD_NODE]
        return self.hours[0] * rate, self.hours[1] * rate


def lines_of(preset: str) -> list[Line]:
    """Return the steps of a preset, in order."""
    config, corpus = load_config(preset), CORPORA[preset]
    stage1, stage2 = _forward_flop_per_pixel(config)
    crops = corpus.photographs * config.prepare.max_crops_per_photo
    crop_px = min(config.prepare.source_crop_px**2, corpus.megapixels * 1e6)
    test_px = corpus.test_images * corpus.test_megapixels * 1e6
    sampling_steps = config.evaluate.samplers[0].steps or 50
    prepare_h = corpus.photographs * corpus.megapixels / PREPARE_MEGAPIXELS_PER_CPU_S / CPU_NODES / CPUS_PER_NODE / 3600
    tasks = int(_gpus(config) / config.cluster.map_gpus)
    coding_h = test_px / 1e6 * CODING_S_PER_MEGAPIXEL / tasks / 3600
    evaluate = _on_gpus(config, "evaluate", test_px * (stage1 + sampling_steps * stage2))
    return [
        Line("prepare", None, f"{CPU_NODES} x {CPU_NODE}", (prepare_h, 2 * prepare_h)),
        _training(config, "train-autoencoder", config.autoencoder.train, stage1),
        _on_gpus(config, "reconstruct", crops * crop_px * stage1),
        _training(config, "train-decoder", config.decoder.train, stage2),
        Line(
            evaluate.step, evaluate.flop, evaluate.nodes, (evaluate.hours[0] + coding_h, evaluate.hours[1] + coding_h)
        ),
    ]


def _gpus(config: Config) -> float:
    return config.cluster.train_workers * config.cluster.train_gpus


def _on_gpus(config: Config, step: str, flop: float) -> Line:
    good, poor = (flop / (_gpus(config) * PEAK_TFLOPS * 1e12 * share) / 3600 for share in UTILISATIONS)
    return Line(step, flop, f"{-(-int(_gpus(config)) // GPUS_PER_NODE)} x {GPU_NODE}", (good, poor))


def _training(config: Config, step: str, train: TrainConfig, forward_flop_per_pixel: float) -> Line:
    steps = train.budget_steps
    assert steps is not None, "a budget of wall time has no work to count"
    flop = steps * train.batch_size * train.crop_px**2 * forward_flop_per_pixel * (1.0 + BACKWARD)
    line = _on_gpus(config, step, flop)
    good, poor = (max(hours, steps * least / 3600) for hours, least in zip(line.hours, MIN_STEP_S, strict=True))
    return Line(step, flop, line.nodes, (good, poor))


def _forward_flop_per_pixel(config: Config) -> tuple[float, float]:
    """Count the FLOP per pixel of a whole forward pass of each stage as it runs."""
    from hfd.autoencoder.weights import build_autoencoder
    from hfd.diffusion.weights import build_network

    side, small = 256, 64  # stage 1 is counted on real tensors
    stage1 = build_autoencoder(config.autoencoder.model_dump(mode="json"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter1:
        stage1(torch.zeros(1, 3, small, small))
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter2:
        y = torch.empty(1, 3, side, side)
        build_network(config.decoder.model_dump(mode="json"))(y, y, torch.empty(1))
    return counter1.get_total_flops() / small**2, counter2.get_total_flops() / side**2


def table(preset: str) -> str:
    """Format the lines of a preset and their sum in Markdown."""
    lines = lines_of(preset)
    rows = [f"| `{preset}` | work, EFLOP | nodes | hours | USD |", "| --- | ---: | --- | ---: | ---: |"]
    for line in lines:
        work = "–" if line.flop is None else f"{line.flop / 1e18:.3g}"
        rows.append(f"| {line.step} | {work} | {line.nodes} | {_range(line.hours)} | {_range(line.usd)} |")
    hours = tuple(sum(line.hours[side] for line in lines) for side in (0, 1))
    usd = tuple(sum(line.usd[side] for line in lines) for side in (0, 1))
    rows.append(f"| all | | | {_range(hours)} | {_range(usd)} |")
    return "\n".join(rows)


def _range(values: tuple[float, ...]) -> str:
    good, poor = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else "< 0.1" for value in values)
    return good if good == poor else f"{good} to {poor}"


def assumptions() -> str:
    """Return the sentence on the assumptions of the tables."""
    prices = ", ".join(f"{kind} {usd:g}" for kind, usd in USD_PER_HOUR.items())
    corpora = "; ".join(
        f"`{name}`: {corpus.photographs} photographs of {corpus.megapixels:g} megapixels, "
        f"{corpus.test_images} test images of {corpus.test_megapixels:g}"
        for name, corpus in CORPORA.items()
    )
    return (
        f"Assumed, not measured: {UTILISATIONS[0]:.0%} to {UTILISATIONS[1]:.0%} of {PEAK_TFLOPS:g} TFLOP/s per GPU, "
        f"and {MIN_STEP_S[0]:g} to {MIN_STEP_S[1]:g} s at least for a training step; "
        f"{PREPARE_MEGAPIXELS_PER_CPU_S:g} megapixels prepared per CPU and second, to half of that; "
        f"{CODING_S_PER_MEGAPIXEL:g} s of CPU per megapixel in evaluate; {corpora}. USD per hour: {prices} "
        f"({PRICES}); the head is in every line. Storage, transfer and idle nodes are not."
    )


def page() -> str:
    """Return the output of this script."""
    return "\n\n".join([*map(table, CORPORA), assumptions()])


if __name__ == "__main__":
    print(page())
