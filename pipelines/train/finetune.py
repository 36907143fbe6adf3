"""Step finetune-decoder: fine-tune a few-step sampler against a discriminator. Not part of the HFD paper."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from hfd.config import AdversarialConfig, DecoderConfig
from hfd.diffusion.decoder import build_process
from hfd.diffusion.discriminator import Discriminator
from hfd.diffusion.weights import build_network
from hfd.io.storage import Folder
from hfd.perceptual.lineage import lineage_entry
from hfd.training.adversarial import AdversarialSettings, AdversarialTask
from pipelines.context import Context, PlannedStep
from pipelines.engine.base import Worker
from pipelines.runs.step import Done, Outcome, Step, point_latest
from pipelines.tracking import StepRun
from pipelines.train import FINETUNE
from pipelines.train.job import NOT_IN_KEY, optimiser_settings, parallelism
from pipelines.train.pairs import PairTraining, network_config
from pipelines.train.validation import require_measurable, write_measured
from pipelines.train.warm_start import WarmStart, warm_start


def plan(context: Context, reconstructed: Done, autoencoder: Done, decoder: Done) -> PlannedStep:
    """Plan the step; ``decoder`` is stage 2 as trained, whose process and network are those of the configuration."""
    start = warm_start(_adversarial(context.config.decoder).warm_start, "decoder", context)
    step = _step(context, reconstructed, autoencoder, decoder, start)

    def work(_: Folder, record: StepRun) -> Outcome:
        first = warm_start(decoder.folder.uri, "decoder") if start.folder is None else start
        first.fetch()
        run = PairTraining(context, step, reconstructed.folder, autoencoder, record)
        require_measurable(run.config.finish, run.pairs)
        build = functools.partial(build_task, run.config, first)
        origin = {"autoencoder": autoencoder.digest, **lineage_entry(first.config)}
        finish = functools.partial(write_model, run.config, run.pairs, origin)
        return run.train(_adversarial(run.config).train, build, finish)

    return PlannedStep(context, step, work, lambda _: point_latest(context.workspace, model=f"{step.name}/{step.key}"))


def _step(context: Context, reconstructed: Done, autoencoder: Done, decoder: Done, start: WarmStart) -> Step:
    adversarial = _adversarial(context.config.decoder)
    exclude: dict[str, Any] = {"train": NOT_IN_KEY, "warm_start": True}
    settings = {
        "seed": context.config.seed,
        "neighbours_share": context.config.decoder.neighbours_share,
        "ema": context.config.decoder.ema.content(exclude={"choices"}),
        **adversarial.content(exclude=exclude),
    }
    inputs = {
        "reconstruct": reconstructed.digest,
        "train-autoencoder": autoencoder.digest,
        "train-decoder": decoder.digest,
        **start.inputs,
    }
    return Step(FINETUNE.name, context.workspace, settings, inputs)


def _adversarial(config: DecoderConfig) -> AdversarialConfig:
    assert config.adversarial is not None  # the step is not planned without it
    return config.adversarial


def build_task(config: DecoderConfig, start: WarmStart, worker: Worker) -> AdversarialTask:
    adversarial, network = _adversarial(config), network_config(config)
    net = build_network(network)
    start.into(net)
    return AdversarialTask(
        net.to(worker.device),
        Discriminator(adversarial.discriminator, adversarial.residual_std).to(worker.device),
        build_process(network["process"]),
        optimiser_settings(adversarial.train),
        AdversarialSettings(adversarial.steps, adversarial.weight, adversarial.discriminator_lr, adversarial.penalty),
        sigma_rels=config.ema.sigma_rels,
        neighbours_share=config.neighbours_share,
        parallelism=parallelism(adversarial.train, worker),
    )


def write_model(
    config: DecoderConfig, pairs: Folder, origin: Mapping[str, Any], task: AdversarialTask, out: Folder, steps: int
) -> None:
    """Write the first tracked average: no loss tells which width is best. ``origin``: as in train-decoder."""
    del steps
    tensors = task.averages()[config.ema.sigma_rels[0]]
    settings = {
        **network_config(config),
        **origin,
        "steps": _adversarial(config).steps,
        "adversarial": True,
    }
    device: torch.device = next(task.net.parameters()).device
    write_measured(out / "decoder", tensors, settings, config.finish, pairs, device)
