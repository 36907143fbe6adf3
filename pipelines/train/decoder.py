"""Step 4: stage 2, from pairs (x, x_hat) to a score-based decoder, beside the autoencoder it belongs to."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch

from hfd.codec.codec import Codec
from hfd.config import DecoderConfig, PerceptualConfig, TrainConfig
from hfd.data.shards import iterate_rows, list_row_groups
from hfd.diffusion.decoder import build_network, build_process, read_decoder
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.weights import read_weights
from hfd.training.perceptual import CriticSettings, PerceptualSettings, PerceptualTask
from hfd.training.tasks import DecoderTask
from pipelines.context import Context, PlannedStep
from pipelines.engine.base import Worker
from pipelines.runs.step import Done, Outcome, Step, digest_of, point_latest
from pipelines.tracking import StepRun
from pipelines.tracking.pictures import beside
from pipelines.train import DECODER
from pipelines.train.averaging import Snapshots, choose_average
from pipelines.train.job import NOT_IN_KEY, TrainJob, optimiser_settings, parallelism, run_training
from pipelines.train.validation import validation_loss, write_measured
from pipelines.train.warm_start import WarmStart, warm_start

SAMPLES = 2


def plan(context: Context, reconstructed: Done, autoencoder: Done) -> PlannedStep:
    start = warm_start(context.config.decoder.warm_start, "decoder", context)
    step = _step(context, reconstructed, autoencoder, start)

    def point(done: Done) -> None:
        if context.config.decoder.adversarial is None or not done.skipped:  # else the fine-tuned model is the newest
            point_latest(context.workspace, model=f"{step.name}/{step.key}")

    return PlannedStep(
        context, step, lambda folder, run: _train(context, step, start, reconstructed, autoencoder, folder, run), point
    )


def _step(context: Context, reconstructed: Done, autoencoder: Done, start: WarmStart) -> Step:
    config = context.config.decoder
    if config.frozen:
        inputs = {"train-autoencoder": autoencoder.digest} | start.inputs
        if config.finish is None and config.steps is None:
            return Step(DECODER.name, context.workspace, {"frozen": True}, inputs)
        settings = {"frozen": True, **config.model_dump(mode="json", include={"finish", "steps"})}
        return Step(DECODER.name, context.workspace, settings, {"reconstruct": reconstructed.digest} | inputs)
    # The pairs depend on the rates.
    exclude: dict[str, Any] = {"train": NOT_IN_KEY, "adversarial": True, "warm_start": True, "rates": True}
    settings = {"seed": context.config.seed, **config.model_dump(mode="json", exclude=exclude)}
    inputs = {"reconstruct": reconstructed.digest, "train-autoencoder": autoencoder.digest}
    return Step(DECODER.name, context.workspace, settings, inputs | start.inputs)


def _train(
    context: Context,
    step: Step,
    start: WarmStart,
    reconstructed: Done,
    autoencoder: Done,
    folder: Folder,
    record: StepRun,
) -> Outcome:
    start.fetch()
    config = context.config.decoder
    if config.frozen:
        _take(start, config, autoencoder, reconstructed.folder, folder)
        return finish_model(context, autoencoder, reconstructed.folder, folder, record, {"frozen": config.warm_start})
    snapshots = Snapshots(folder, config.ema.num_snapshots)
    build = functools.partial(build_task, config, start)
    finish = functools.partial(write_model, config, reconstructed.folder, snapshots, autoencoder.digest)
    facts = train_on_pairs(context, step, reconstructed.folder, config.train, record, snapshots, build, finish)
    return finish_model(context, autoencoder, reconstructed.folder, folder, record, facts)


def train_on_pairs(
    context: Context,
    step: Step,
    pairs: Folder,
    settings: TrainConfig,
    record: StepRun,
    snapshots: Snapshots,
    build: Callable[[Worker], Any],
    finish: Callable[[Any, Folder, int], None],
) -> dict[str, Any]:
    """Train a task on pairs (x, x_hat), with snapshots of its averages; the facts of the training."""
    job = TrainJob(
        crops=pairs,
        out=step.folder,
        pictures=("x", "x_hat"),
        seed=context.config.seed,
        settings=settings,
        identity=step.identity,
        logger=record.worker_handle(),
        build=build,
        finish=finish,
        on_step=snapshots.on_step,
    )
    return run_training(context, step, job)


def _take(start: WarmStart, config: DecoderConfig, autoencoder: Done, pairs: Folder, folder: Folder) -> None:
    """A trained decoder as it is, but for steps and a finish that are asked for: the finish is measured on ``pairs``.

    Raises :class:`DataError` where it belongs to another autoencoder.
    """
    assert start.folder is not None  # checked by the configuration
    found = read_decoder(start.folder).config["autoencoder"]
    if found != autoencoder.digest:
        raise DataError(
            f"decoder.warm_start: got a decoder for autoencoder {found[:8]}, expected one for "
            f"{autoencoder.digest[:8]}. Set autoencoder.warm_start to the same model and autoencoder.frozen=true"
        )
    if config.finish is not None or config.steps is not None:
        tensors, settings, _ = read_weights(start.folder)
        kept = {key: value for key, value in settings.items() if key not in ("format", "finish", "grain")}
        kept |= default_steps(config)
        write_measured(folder / "decoder", tensors, kept, config.finish, pairs, torch.device("cpu"))
        return
    for name in ("weights.safetensors", "config.json"):
        folder.write(f"decoder/{name}", start.folder.read(name))


def finish_model(
    context: Context, autoencoder: Done, pairs: Folder, folder: Folder, record: StepRun, facts: dict[str, Any]
) -> Outcome:
    """The autoencoder's weights beside the decoder's: together they are a model folder."""
    for name in ("weights.safetensors", "config.json"):
        folder.write(f"autoencoder/{name}", autoencoder.folder.read(f"autoencoder/{name}"))
    if context.parent is not None:
        _record(record, folder, pairs)
    return Outcome(digest_of([autoencoder.digest, read_decoder(folder / "decoder").fingerprint]), facts)


def network_config(config: DecoderConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", include={"process", "unet", "lean"})


def default_steps(config: DecoderConfig) -> dict[str, int]:
    if config.steps is None:
        return {} if config.perceptual is None else {"steps": config.perceptual.steps}
    return {"steps": config.steps}


def build_task(config: DecoderConfig, start: WarmStart, worker: Worker) -> DecoderTask | PerceptualTask:
    network = network_config(config)
    net = build_network(network)
    start.into(net)
    if config.perceptual is not None:
        return PerceptualTask(
            net.to(worker.device),
            build_process(network["process"]),
            optimiser_settings(config.train),
            perceptual_settings(config.perceptual),
            sigma_rels=config.ema.sigma_rels,
            neighbours_share=config.neighbours_share,
            parallelism=parallelism(config.train, worker),
        )
    return DecoderTask(
        net.to(worker.device),
        build_process(network["process"]),
        optimiser_settings(config.train),
        sigma_rels=config.ema.sigma_rels,
        neighbours_share=config.neighbours_share,
        parallelism=parallelism(config.train, worker),
    )


def perceptual_settings(config: PerceptualConfig) -> PerceptualSettings:
    critic = config.critic
    return PerceptualSettings(
        config.steps,
        mse=config.mse,
        lpips=config.lpips,
        wasserstein=config.wasserstein,
        critic=None if critic is None else CriticSettings(critic.weight, critic.label, critic.lr, critic.widths),
    )


def write_model(
    config: DecoderConfig,
    pairs: Folder,
    snapshots: Snapshots,
    autoencoder: str,
    task: DecoderTask | PerceptualTask,
    out: Folder,
    steps: int,
) -> None:
    """Choose the average on the validation split, measure what its samples lack, and write the decoder."""
    if list_row_groups(pairs, "validation"):
        loss = functools.partial(validation_loss, task, pairs)
        tensors, losses = choose_average(snapshots, config.ema, steps, loss)
    else:  # nothing to choose by
        tensors, losses = dict(task.averages()[config.ema.sigma_rels[0]]), {}
    settings = {**network_config(config), **default_steps(config), "autoencoder": autoencoder, "ema_losses": losses}
    if config.perceptual is not None:
        settings["perceptual"] = config.perceptual.model_dump(mode="json")
    device = next(task.net.parameters()).device
    write_measured(out / "decoder", tensors, settings, config.finish, pairs, device)


def _record(record: StepRun, folder: Folder, pairs: Folder) -> None:
    """Weights, and a few held-out crops as x, x_hat and sample, as artifacts."""
    for name in ("config.json", "weights.safetensors"):
        record.log_artifact(folder.read(f"decoder/{name}"), name=name, folder="decoder")
    codec = Codec.load(folder)
    for index, row in enumerate(islice(iterate_rows(pairs, "validation", ("x", "x_hat")), SAMPLES)):
        x, x_hat = row.pictures["x"], row.pictures["x_hat"]
        sample = codec.sample(x_hat, codec.default_sampling, seed=zlib.crc32(row.id.encode()))
        record.log_image(f"x x_hat sample {index}", beside(x, x_hat, sample), step=0)
