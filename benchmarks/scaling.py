"""Compare training on two workers by the pipeline with a plain two-process DDP loop: samples per second and ratio.

    python -m benchmarks.scaling [--photos ../shared/data/photos] [--steps 40] [--rounds 3] [--strategy ddp]

Both train the networks of the preset ``desk-diffusion`` on two gloo processes of one thread each, with the same global
batch. Ours runs on Ray Train, reads shards, cuts fresh sub-crops, draws noise per sample, clips, agrees on every step,
logs to MLflow (SQLite) and keeps a heartbeat. The bare loop holds one batch in memory and does forward, backward,
optimiser step (and, in stage 2, the moving average). Rounds alternate, so that changes of the machine's speed affect
both; the start and the first ``WARM_UP`` steps are excluded.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.training import inputs, loader_of
from hfd.autoencoder.loss import rate_distortion
from hfd.autoencoder.weights import build_autoencoder
from hfd.config import Config, TrainConfig
from hfd.config.presets import load_config
from hfd.diffusion.decoder import build_process
from hfd.diffusion.ema import PowerEma
from hfd.diffusion.process import predict
from hfd.diffusion.weights import build_network
from hfd.io.storage import Folder
from hfd.precision import autocast
from hfd.training.loop import to_images
from pipelines.engine.base import Engine
from pipelines.engine.open import open_engine
from pipelines.runs.step import Done
from pipelines.tracking import StepRun, TrackingSettings, parent_run
from pipelines.train import autoencoder as train_autoencoder
from pipelines.train import decoder as train_decoder
from pipelines.train.job import TrainJob
from pipelines.train.warm_start import WarmStart

WORKERS = 2
WARM_UP = 5
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stage:
    """One of the trainings, with the inputs of our loop."""

    name: str
    shards: Done
    pictures: tuple[str, ...]
    settings: TrainConfig
    build: Callable[..., Any]


class Stopwatch:
    """An ``on_step`` that writes the seconds of the steps after the warm-up to a file."""

    def __init__(self, path: str) -> None:
        self.path, self.started = path, 0.0

    def __call__(self, _task: Any, step: int, planned: int | None) -> None:
        if step == WARM_UP:
            self.started = time.perf_counter()
        if step == planned:
            Path(self.path).write_text(json.dumps(time.perf_counter() - self.started))


def nothing(*_: Any) -> None:
    """Keep no weights."""


def ours(stage: Stage, steps: int, ready: Engine, record: StepRun) -> float:
    """Return the seconds of the steps after the warm-up."""
    with tempfile.TemporaryDirectory() as scratch:
        job = TrainJob(
            crops=stage.shards.folder,
            out=Folder(scratch),
            pictures=stage.pictures,
            seed=0,
            settings=stage.settings.model_copy(update={"budget": f"{steps} steps"}),
            identity={},
            logger=record.worker_handle(),
            build=stage.build,
            finish=nothing,
            on_step=Stopwatch(f"{scratch}/seconds"),
        )
        ready.train(job, f"scaling-{os.getpid()}-{time.monotonic_ns()}")
        if job.out.exists("error.json"):
            raise SystemExit(job.out.read("error.json").decode())
        return float(json.loads(job.out.read("seconds")))


def bare(stage: Stage, steps: int, scratch: str) -> float:
    """Return the seconds of the same steps in two processes of this script."""
    rendezvous = Path(scratch, f"rendezvous-{time.monotonic_ns()}")  # created by the processes
    command = [sys.executable, "-m", "benchmarks.scaling"]
    command += ["--bare", stage.name, "--steps", str(steps), "--scratch", scratch]
    processes = [
        subprocess.Popen([*command, "--rank", str(rank), "--rendezvous", str(rendezvous)], stdout=subprocess.PIPE)
        for rank in range(WORKERS)
    ]
    printed = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return float(printed[0])


def bare_worker(config: Config, name: str, rank: int, steps: int, scratch: str, rendezvous: str) -> None:
    """Run a plain loop; the first worker prints its seconds."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORKERS)
    settings = config.autoencoder.train if name == "stage 1" else config.decoder.train
    images = to_images(np.load(f"{scratch}/{name}.npy")[rank::WORKERS], CPU)
    make = stage1_loss if name == "stage 1" else stage2_loss
    network, loss_of = make(config, images)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.lr, fused=True)
    ema = PowerEma(list(network.parameters()), config.decoder.ema.sigma_rels) if name == "stage 2" else None
    started = 0.0
    for step in range(steps):
        loss_of().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), settings.grad_clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update(step)
        if step + 1 == WARM_UP:
            started = time.perf_counter()
    if rank == 0:
        print(time.perf_counter() - started)
    torch.distributed.destroy_process_group()


def stage1_loss(config: Config, images: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = build_autoencoder(config.autoencoder.model_dump(mode="json")).train()
    model.to(memory_format=torch.channels_last)
    model.entropy_bottleneck.quantiles.requires_grad_(False)
    module, x = DistributedDataParallel(model), images[:, 0].contiguous(memory_format=torch.channels_last)

    def loss() -> Tensor:
        with autocast(CPU, config.autoencoder.train.precision):
            output = module(x)
        return rate_distortion(output, x, config.autoencoder.lmbda).loss

    return model, loss


def stage2_loss(config: Config, images: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    network = config.decoder.model_dump(mode="json", include={"process", "unet"})
    net, process = build_network(network).train(), build_process(network["process"])
    net.to(memory_format=torch.channels_last)
    module = DistributedDataParallel(net)
    x0, x_hat = (images[:, :2] * 2.0 - 1.0).unbind(dim=1)
    cond = x_hat.contiguous(memory_format=torch.channels_last)
    known = torch.zeros(len(x0), 4, *x0.shape[2:]).contiguous(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        t = process.times(len(x0), generator)
        pair = process.training_pair(x0, x_hat, torch.randn_like(x0), t)
        with autocast(CPU, config.decoder.train.precision):
            found = predict(process, module, pair.x_t.contiguous(memory_format=torch.channels_last), cond, t, known)
        return (pair.weight * (found - pair.target).square().mean(dim=(1, 2, 3))).mean()

    return net, loss


def stages_of(config: Config, photos: str, scratch: str) -> list[Stage]:
    prepared, reconstructed = inputs(config, photos, f"{scratch}/work")
    start = WarmStart(None)
    stages = [
        Stage("stage 1", prepared, ("x",), config.autoencoder.train,
              functools.partial(train_autoencoder.build_task, config.autoencoder, start)),
        Stage("stage 2", reconstructed, ("x", "x_hat"), config.decoder.train,
              functools.partial(train_decoder.build_task, config.decoder, start)),
    ]  # fmt: skip
    for stage in stages:
        np.save(f"{scratch}/{stage.name}.npy", next(loader_of(stage.shards, stage.pictures, stage.settings).batches()))
    return stages


def compare(stage: Stage, arguments: argparse.Namespace, ready: Engine, record: StepRun, scratch: str) -> None:
    samples = (arguments.steps - WARM_UP) * stage.settings.batch_size
    speeds: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(arguments.rounds):
        speeds["bare"].append(samples / bare(stage, arguments.steps, scratch))
        speeds["ours"].append(samples / ours(stage, arguments.steps, ready, record))
    ratios = [ours_ / bare_ for ours_, bare_ in zip(speeds["ours"], speeds["bare"], strict=True)]
    medians = {label: statistics.median(values) for label, values in speeds.items()}
    print(
        f"{stage.name}: bare DDP {medians['bare']:.1f} samples/s, ours {medians['ours']:.1f}, "
        f"ratio {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="builtin:photographs")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategy", default="ddp", choices=["ddp", "fsdp"])
    for hidden in ("--bare", "--scratch", "--rendezvous"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cluster = ["kind=local", f"num_cpus={WORKERS}", f"train_workers={WORKERS}", "train_threads=1", "map_threads=1"]
    overrides = ["autoencoder.train.budget=1 steps", *(f"cluster.{one}" for one in cluster)]
    config = load_config("desk-diffusion", [*overrides, f"cluster.strategy={arguments.strategy}"])
    if arguments.bare:
        bare_worker(config, arguments.bare, arguments.rank, arguments.steps, arguments.scratch, arguments.rendezvous)
        return
    with tempfile.TemporaryDirectory() as scratch, open_engine(config.cluster) as ready:
        stages = stages_of(config, arguments.photos, scratch)
        tracking = TrackingSettings(f"sqlite:///{scratch}/mlflow.db", "bench", Path(scratch, "artifacts").as_uri())
        with parent_run(tracking, name="bench") as parent, parent.child("scaling") as record:
            for stage in stages:
                compare(stage, arguments, ready, record, scratch)


if __name__ == "__main__":
    main()
