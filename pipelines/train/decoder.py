"""Step train-decoder: pairs (x, x_hat) to a score-based decoder, in a model folder with its autoencoder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from hfd.config import DecoderConfig, PerceptualConfig
from hfd.config.decoder import VpConfig
from hfd.data.shards import list_row_groups
from hfd.diffusion.decoder import build_process
from hfd.diffusion.weights import build_network, read_decoder
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights
from hfd.perceptual.lineage import lineage_entry
from hfd.training.critic import CriticSettings
from hfd.training.distillation import DistillTask
from hfd.training.perceptual import PerceptualTask
from hfd.training.perceptual_losses import PerceptualSettings
from hfd.training.tasks import DecoderTask
from pipelines.context import Context, PlannedStep
from pipelines.engine.base import Worker
from pipelines.runs.step import Done, Outcome, Step, point_latest
from pipelines.train import DECODER
from pipelines.train.averaging import Snapshots, choose_average
from pipelines.train.blend import blended, find_blend
from pipelines.train.distill import check_teacher, distill_task, find_teacher
from pipelines.train.job import NOT_IN_KEY, optimiser_settings, parallelism
from pipelines.train.model_files import copy_critic, copy_weights
from pipelines.train.pairs import PairTraining, network_config
from pipelines.train.validation import require_measurable, validation_loss, write_measured
from pipelines.train.warm_start import WarmStart, warm_start


def plan(context: Context, reconstructed: Done, autoencoder: Done) -> PlannedStep:
    start = warm_start(context.config.decoder.warm_start, "decoder", context)
    teacher, other = find_teacher(context), find_blend(context, start)
    step = _step(context, reconstructed, autoencoder, start, teacher, other)

    def point(done: Done) -> None:
        # If skipped, the fine-tuned model is the newest.
        if context.config.decoder.adversarial is None or not done.skipped:
            point_latest(context.workspace, model=f"{step.name}/{step.key}")

    return PlannedStep(
        context,
        step,
        lambda _, record: _train(
            PairTraining(context, step, reconstructed.folder, autoencoder, record), start, teacher, other
        ),
        point,
    )


def _step(
    context: Context, reconstructed: Done, autoencoder: Done, start: WarmStart, teacher: WarmStart, other: WarmStart
) -> Step:
    config = context.config.decoder
    inputs = {"reconstruct": reconstructed.digest, "train-autoencoder": autoencoder.digest} | start.inputs
    if teacher.folder is not None:
        inputs["teacher"] = teacher.fingerprint
    if other.folder is not None:
        inputs["blend"] = other.fingerprint
    if not config.frozen:
        if config.perceptual is not None and (critic := start.critic(perceptual_settings(config.perceptual).critic)):
            inputs["critic"] = critic
        # The pairs depend on the rates.
        exclude: dict[str, Any] = {"train": NOT_IN_KEY, "adversarial": True, "warm_start": True, "rates": True}
        exclude["distill"] = {"teacher"}
        settings = {"seed": context.config.seed, **config.content(exclude=exclude)}
    elif _is_measured(config):
        included: dict[str, Any] = {"finish": True, "steps": True, "blend": {"share"}}
        settings = {"frozen": True, **config.content(include=included)}
    else:
        settings = {"frozen": True}
        del inputs["reconstruct"]
    return Step(DECODER.name, context.workspace, settings, inputs)


def _is_measured(config: DecoderConfig) -> bool:
    """Return True if a frozen decoder gets its own finish, steps or weights, which are measured on the pairs."""
    return config.finish is not None or config.steps is not None or config.blend is not None


def _train(run: PairTraining, start: WarmStart, teacher: WarmStart, other: WarmStart) -> Outcome:
    for needed in (start, teacher, other):
        needed.fetch()
    config = run.config
    require_measurable(config.finish, run.pairs)
    if config.frozen:
        _copy_frozen(run, start, other)
        return run.finish_model({"frozen": config.warm_start})
    if config.distill is not None:
        check_teacher(config, teacher)
    build = functools.partial(build_task, config, start, teacher=teacher)
    origin: dict[str, Any] = {"autoencoder": run.autoencoder.digest, **lineage_entry(start.config, teacher.config)}
    if config.distill is not None:
        origin["distilled"] = {"teacher": teacher.fingerprint, "teacher_steps": config.distill.teacher_steps}
    finish = functools.partial(write_model, config, run.pairs, run.snapshots, origin)
    return run.train(config.train, build, finish)


def _copy_frozen(run: PairTraining, start: WarmStart, other: WarmStart) -> None:
    """Copy a trained decoder, with the configured steps, finish and blend. The finish is measured on the pairs.

    Raises :class:`DataError` where it belongs to another autoencoder.
    """
    assert start.folder is not None  # checked by the configuration
    config, out, expected = run.config, run.step.folder / "decoder", run.autoencoder.digest
    copy_critic(start.folder if other.folder is None else other.folder, out)
    found = read_decoder(start.folder).config["autoencoder"]
    if found != expected:
        raise DataError(
            f"decoder.warm_start: got a decoder for autoencoder {found[:8]}, expected one for "
            f"{expected[:8]}. Set autoencoder.warm_start to the same model and autoencoder.frozen=true"
        )
    if not _is_measured(config):
        copy_weights(start.folder, out)
        return
    tensors, settings, _ = read_weights(start.folder)
    kept = {key: value for key, value in settings.items() if key not in ("format", "finish", "grain")}
    if config.blend is not None:
        tensors = blended(start, other, config.blend.share)
        kept = {**kept, **lineage_entry(start.config, other.config), "ema_losses": {}}
        kept["blend"] = {"of": [start.fingerprint, other.fingerprint], "share": config.blend.share}
    write_measured(out, tensors, kept | _default_steps(config), config.finish, run.pairs, torch.device("cpu"))


def _default_steps(config: DecoderConfig) -> dict[str, int]:
    trained = config.perceptual or config.distill
    steps = config.steps or (None if trained is None else trained.steps)
    return {} if steps is None else {"steps": steps}


def build_task(
    config: DecoderConfig, start: WarmStart, worker: Worker, teacher: WarmStart = WarmStart(None)
) -> DecoderTask | PerceptualTask:
    network = network_config(config)
    net = build_network(network)
    start.into(net)
    if config.distill is not None:
        return distill_task(config, net, build_process(network["process"]), start, teacher, worker)
    if config.perceptual is not None:
        perceptual = perceptual_settings(config.perceptual)
        return PerceptualTask(
            net.to(worker.device),
            build_process(network["process"]),
            optimiser_settings(config.train),
            perceptual,
            sigma_rels=config.ema.sigma_rels,
            neighbours_share=config.neighbours_share,
            parallelism=parallelism(config.train, worker),
            critic_from=start.folder if start.critic(perceptual.critic) else None,
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
    return PerceptualSettings(
        config.steps,
        mse=config.mse,
        lpips=config.lpips,
        wasserstein=config.wasserstein,
        charbonnier=config.charbonnier,
        style=config.style,
        critic=None if config.critic is None else CriticSettings(**dict(config.critic)),
    )


def write_model(
    config: DecoderConfig,
    pairs: Folder,
    snapshots: Snapshots,
    origin: Mapping[str, Any],
    task: DecoderTask | PerceptualTask,
    out: Folder,
    steps: int,
) -> None:
    """Choose the average on the validation split, measure finish and grain of its samples, and write the decoder.

    ``origin``: the entries of its configuration about the models that it comes from.
    """
    if isinstance(task, DistillTask):
        task.require_last_round()
    if list_row_groups(pairs, "validation"):
        loss = functools.partial(validation_loss, task, pairs)
        tensors, losses = choose_average(snapshots, config.ema, steps, loss)
    else:
        tensors, losses = dict(task.averages()[config.ema.sigma_rels[0]]), {}
    settings = {**network_config(config), **_default_steps(config), **origin, "ema_losses": losses}
    if config.perceptual is not None:
        settings["perceptual"] = config.perceptual.content()
    if config.distill is not None and isinstance(config.process, VpConfig):
        settings["sampler"] = "ddim"  # deterministic, as the steps that it learned
    device = next(task.net.parameters()).device
    write_measured(out / "decoder", tensors, settings, config.finish, pairs, device)
    if isinstance(task, PerceptualTask):
        task.write_critic(out / "decoder")
