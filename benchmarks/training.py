"""Compare the training loop with a plain PyTorch loop: same network, same loss, one batch held in memory.

    python -m benchmarks.training [--photos ../shared/data/photos] [--steps 30] [--rounds 5] [--threads 2]

Ours reads shards from disk, cuts fresh sub-crops, seeds every step, clips, logs to MLflow (SQLite) and keeps
a heartbeat; the bare loop does forward, backward and optimiser step (and, in stage 2, the moving average).
Blocks of steps alternate, so that changes of the machine's speed affect both. Prints the ratio for
both stages and for the adversarial fine-tuning.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfd.config import Config, TrainConfig
from hfd.config.presets import load_config
from hfd.data.loader import CropLoader
from hfd.io.storage import Folder
from hfd.training.checkpoint import Checkpoints
from hfd.training.loop import Listener, LoopSettings, to_images, train
from hfd.training.randomness import worker_randomness
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import list_corpus
from pipelines.engine.base import Worker
from pipelines.engine.inline import Inline
from pipelines.prepare import step as prepare
from pipelines.runs.step import Done
from pipelines.tracking import TrackingSettings, parent_run
from pipelines.train import autoencoder as train_autoencoder
from pipelines.train import decoder as train_decoder
from pipelines.train import finetune as finetune_decoder
from pipelines.train import reconstruct
from pipelines.train.job import Heartbeat
from pipelines.train.warm_start import WarmStart

WORKER = Worker(rank=0, world=1, device="cpu")


def bare_steps(task: Any, batch: np.ndarray, steps: int) -> Callable[[], None]:
    """Run a plain loop around the same task."""
    images = to_images(batch, torch.device("cpu"))

    def run() -> None:
        for step in range(steps):
            losses = task.losses(images, progress=0.5, randomness=worker_randomness(0, step, len(batch)))
            task.backward(losses, weight=1.0)
            task.update(step=step, lr_factor=1.0)

    return run


def our_steps(task: Any, loader: CropLoader, settings: TrainConfig, steps: int, log: Any) -> Callable[[], None]:
    """Run the package's loop for a fixed number of steps, with its reader running between blocks."""
    batches = loader.batches()

    class Running:
        def batches(self, start: int = 0) -> Iterator[np.ndarray]:
            del start
            yield from itertools.islice(batches, steps + 1)

    loop = LoopSettings(
        steps=steps,
        budget_s=None,
        batch_size=settings.batch_size,
        lr_final=settings.lr_final,
        lr_decay_share=settings.lr_decay_share,
        warmup_steps=0,
        checkpoint_every_s=1e9,
        log_every_steps=settings.log_every_steps,
        seed=0,
    )

    def run() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoints = Unsaved(Folder(scratch), {})
            listener = Listener(log, Heartbeat(Folder(scratch)))
            train(task, Running(), loop, checkpoints, listener, torch.device("cpu"))

    return run


class Unsaved(Checkpoints):
    """Checkpoints that are not saved: one per block of seconds would cost too much, against one every few minutes."""

    def save(self, step: int, state: dict[str, Any]) -> None:
        del step, state


ADVERSARIAL = "decoder.adversarial={train: {budget: 1 steps, batch_size: 8, crop_px: 128}}"
"""The preset has no fine-tuning; its batches are those of stage 2."""


def compare(name: str, bare: Callable[[], None], ours: Callable[[], None], samples: int, rounds: int) -> None:
    bare()
    ours()
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(rounds):
        for label, run in (("bare", bare), ("ours", ours)):
            started = time.perf_counter()
            run()
            times[label].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(times["bare"], times["ours"], strict=True)]
    medians = {label: samples / statistics.median(values) for label, values in times.items()}
    print(
        f"{name}: bare loop {medians['bare']:.1f} samples/s, ours {medians['ours']:.1f}, "
        f"ratio {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})",
        flush=True,
    )


def inputs(config: Config, photos: str, scratch: str) -> tuple[Done, Done]:
    """Make shards for both stages, with an autoencoder trained for one step."""
    context = Context(config, Folder(scratch), Inline(config.cluster))
    prepared = prepare.plan(replace(context, inputs=Inputs(list_corpus(photos, setting="photos")))).run()
    autoencoder = train_autoencoder.plan(context, prepared).run()
    return prepared, reconstruct.plan(context, prepared, autoencoder).run()


def loader_of(done: Done, pictures: tuple[str, ...], settings: TrainConfig) -> CropLoader:
    return CropLoader(
        done.folder, "train", pictures=pictures, crop_px=settings.crop_px, batch_size=settings.batch_size, seed=0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="builtin:photographs")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config("desk-diffusion", ["autoencoder.train.budget=1 steps", "cluster.kind=inline", ADVERSARIAL])
    finetuning = config.decoder.adversarial
    assert finetuning is not None
    with tempfile.TemporaryDirectory() as scratch:
        prepared, reconstructed = inputs(config, arguments.photos, scratch)
        tracking = TrackingSettings(f"sqlite:///{scratch}/mlflow.db", "bench", Path(scratch, "artifacts").as_uri())
        with parent_run(tracking, name="bench") as parent, parent.child("training") as record:
            for name, task, done, pictures, settings in (
                (
                    "stage 1",
                    train_autoencoder.build_task(config.autoencoder, WarmStart(None), WORKER),
                    prepared,
                    ("x",),
                    config.autoencoder.train,
                ),
                (
                    "stage 2",
                    train_decoder.build_task(config.decoder, WarmStart(None), WORKER),
                    reconstructed,
                    ("x", "x_hat"),
                    config.decoder.train,
                ),
                (
                    "fine-tuning",
                    finetune_decoder.build_task(config.decoder, WarmStart(None), WORKER),
                    reconstructed,
                    ("x", "x_hat"),
                    finetuning.train,
                ),
            ):
                loader = loader_of(done, pictures, settings)
                batch = next(loader.batches())
                compare(
                    name,
                    bare_steps(task, batch, arguments.steps),
                    our_steps(task, loader, settings, arguments.steps, record.log_metrics),
                    arguments.steps * settings.batch_size,
                    arguments.rounds,
                )


if __name__ == "__main__":
    main()
