"""Step 4: stage 2, from pairs (x, x_hat) to a score-based decoder, beside the autoencoder it belongs to."""

from __future__ import annotations

import functools
from itertools import islice
from typing import Any

from hfd.codec.codec import Codec
from hfd.config import DecoderConfig
from hfd.data.shards import iterate_rows
from hfd.diffusion.decoder import build_process, build_unet, read_decoder, write_decoder
from hfd.storage import Folder
from hfd.training.tasks import DecoderTask
from pipelines.cluster import Worker
from pipelines.context import Context
from pipelines.pictures import beside
from pipelines.steps import Done, Outcome, Step, digest_of, point_latest
from pipelines.tracking import StepRun
from pipelines.training import NOT_IN_KEY, TrainJob, optimiser_settings, run_training

NAME = "train-decoder"
SAMPLES = 2
SAMPLE_STEPS = 20


def plan(context: Context, reconstructed: Done, autoencoder: Done) -> Step:
    config = context.config.decoder
    settings = {"seed": context.config.seed, **config.model_dump(mode="json", exclude={"train": NOT_IN_KEY})}
    inputs = {"reconstruct": reconstructed.digest, "train-autoencoder": autoencoder.digest}
    return Step(NAME, context.workspace, settings, inputs)


def run(context: Context, reconstructed: Done, autoencoder: Done) -> Done:
    step = plan(context, reconstructed, autoencoder)
    done = context.do(step, lambda folder, run: _train(context, step, reconstructed, autoencoder, folder, run))
    point_latest(context.workspace, model=f"{step.name}/{step.key}")
    return done


def _train(
    context: Context, step: Step, reconstructed: Done, autoencoder: Done, folder: Folder, record: StepRun
) -> Outcome:
    config = context.config.decoder
    job = TrainJob(
        crops=reconstructed.folder,
        out=folder,
        pictures=("x", "x_hat"),
        seed=context.config.seed,
        settings=config.train,
        identity=step.identity,
        logger=record.worker_handle(),
        build=functools.partial(build_task, config),
        finish=functools.partial(write_model, config, autoencoder.digest),
    )
    facts = run_training(context, step, job)
    # The autoencoder's weights beside the decoder's: together they are a model folder.
    for name in ("weights.safetensors", "config.json"):
        folder.write(f"autoencoder/{name}", autoencoder.folder.read(f"autoencoder/{name}"))
    if context.parent is not None:
        _record(record, folder, reconstructed.folder)
    return Outcome(digest_of([autoencoder.digest, read_decoder(folder / "decoder").fingerprint]), facts)


def network_config(config: DecoderConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", include={"kind", "s", "unet"})


def build_task(config: DecoderConfig, worker: Worker) -> DecoderTask:
    network = network_config(config)
    return DecoderTask(
        build_unet(network).to(worker.device),
        build_process(network),
        optimiser_settings(config.train),
        ema_decay=config.ema_decay,
        rank=worker.rank,
        world=worker.world,
    )


def write_model(config: DecoderConfig, autoencoder: str, task: DecoderTask, out: Folder) -> None:
    write_decoder(out / "decoder", task.ema_tensors(), {**network_config(config), "autoencoder": autoencoder})


def _record(record: StepRun, folder: Folder, pairs: Folder) -> None:
    """Weights, and a few held-out crops as x, x_hat and sample, as artifacts."""
    for name in ("config.json", "weights.safetensors"):
        record.log_artifact(folder.read(f"decoder/{name}"), name=name, folder="decoder")
    codec = Codec.load(folder)
    for index, row in enumerate(islice(iterate_rows(pairs, "validation", ("x", "x_hat")), SAMPLES)):
        x, x_hat = row.pictures["x"], row.pictures["x_hat"]
        sample = codec.sample(x_hat, seed=index, steps=SAMPLE_STEPS)
        record.log_image(f"x x_hat sample {index}", beside(x, x_hat, sample), step=0)
