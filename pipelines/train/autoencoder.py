"""Step train-autoencoder: training crops to a frozen autoencoder with its entropy tables."""

from __future__ import annotations

import functools
from itertools import islice
from typing import Any

from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.weights import build_autoencoder, read_autoencoder, write_autoencoder
from hfd.codec.codec import Codec
from hfd.config import AutoencoderConfig
from hfd.data.shards import iterate_rows
from hfd.io.storage import Folder
from hfd.training.tasks import AutoencoderTask
from pipelines.context import Context, PlannedStep
from pipelines.engine.base import Worker
from pipelines.runs.step import Done, Outcome, Step
from pipelines.tracking import StepRun
from pipelines.tracking.pictures import beside
from pipelines.train import AUTOENCODER
from pipelines.train.job import NOT_IN_KEY, TrainJob, optimiser_settings, parallelism, run_training
from pipelines.train.model_files import copy_weights, log_weights
from pipelines.train.warm_start import WarmStart, warm_start

SAMPLES = 4


def plan(context: Context, prepared: Done) -> PlannedStep:
    start = warm_start(context.config.autoencoder.warm_start, "autoencoder", context)
    step = _step(context, prepared, start)
    return PlannedStep(context, step, lambda folder, run: _train(context, step, start, prepared, folder, run))


def _step(context: Context, prepared: Done, start: WarmStart) -> Step:
    config = context.config.autoencoder
    if config.frozen:
        return Step(AUTOENCODER.name, context.workspace, {"frozen": True}, start.inputs)
    exclude: dict[str, Any] = {"train": NOT_IN_KEY, "warm_start": True}
    settings = {"seed": context.config.seed, **config.content(exclude=exclude)}
    return Step(AUTOENCODER.name, context.workspace, settings, {"prepare": prepared.digest, **start.inputs})


def _train(context: Context, step: Step, start: WarmStart, prepared: Done, folder: Folder, record: StepRun) -> Outcome:
    start.fetch()
    config = context.config.autoencoder
    if config.frozen:
        assert start.folder is not None  # checked by the configuration
        copy_weights(start.folder, folder / "autoencoder")
        return Outcome(start.fingerprint, {"frozen": config.warm_start})
    job = TrainJob(
        crops=prepared.folder,
        out=folder,
        pictures=("x",),
        seed=context.config.seed,
        settings=config.train,
        identity=step.identity,
        logger=record.worker_handle(),
        build=functools.partial(build_task, config, start),
        finish=functools.partial(write_model, config),
    )
    facts = run_training(context, step, job)
    if context.parent is not None:
        _record(record, folder, prepared.folder)
    return Outcome(read_autoencoder(folder / "autoencoder").fingerprint, facts)


def build_task(config: AutoencoderConfig, start: WarmStart, worker: Worker) -> AutoencoderTask:
    model = build_autoencoder(config.model_dump(mode="json"))
    start.into(model)
    return AutoencoderTask(
        model.to(worker.device),
        optimiser_settings(config.train),
        lmbda=config.lmbda,
        aux_lr=config.aux_lr,
        relaxed_share=config.relaxed_share,
        relaxed_factor=config.relaxed_factor,
        rates=config.rates,
        parallelism=parallelism(config.train, worker),
    )


def write_model(config: AutoencoderConfig, task: AutoencoderTask, out: Folder, steps: int) -> None:
    del steps
    settings: dict[str, Any] = config.content(
        include={"arch", "N", "M", "groups", "gdn_channels", "residual", "lmbda", "rates"}
    )
    write_autoencoder(out / "autoencoder", task.model, build_tables(task.model), settings)


def _record(record: StepRun, folder: Folder, crops: Folder) -> None:
    """Store the weights, and a few held-out crops beside their reconstructions, as artifacts."""
    log_weights(record, folder, "autoencoder")
    codec = Codec.load(folder)
    for index, row in enumerate(islice(iterate_rows(crops, "validation"), SAMPLES)):
        x = row.pictures["x"]
        record.log_image(f"x x_hat {index}", beside(x, codec.reconstruct(codec.compress(x).data)), step=0)
