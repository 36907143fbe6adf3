"""Trainings that start from a model: their settings, the networks with which they begin, and other models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from hfd.config import Config
from hfd.diffusion.weights import write_decoder
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights
from pipelines.engine.base import Worker
from pipelines.runs.step import Done, Manifest, Step
from pipelines.train import autoencoder as train_autoencoder
from pipelines.train import decoder as train_decoder
from pipelines.train import finetune as finetune_decoder
from pipelines.train.warm_start import WarmStart
from tests.support.tiny_run import tiny_config

HERE = Worker(rank=0, world=1, device="cpu")

TRAININGS = {"autoencoder": "autoencoder", "decoder": "decoder", "finetune": "decoder"}
"""And the part of a model that each starts from."""

SECTIONS = {"autoencoder": "autoencoder", "decoder": "decoder", "finetune": "decoder.adversarial"}


def settings(*overrides: str) -> Config:
    """Return the settings of the network of the fixture ``model_folder``."""
    return tiny_config("photos", "work", *overrides)


def built(part: str, config: Config, start: WarmStart) -> nn.Module:
    """The network with which a training begins."""
    torch.manual_seed(1)
    match part:
        case "autoencoder":
            return train_autoencoder.build_task(config.autoencoder, start, HERE).model
        case "decoder":
            return train_decoder.build_task(config.decoder, start, HERE).net
        case _:
            return finetune_decoder.build_task(config.decoder, start, HERE).net


def done(name: str) -> Done:
    step = Step(name, Folder("unused"), {}, {})
    return Done(step, Manifest(name, step.key, name, {}, {}, {}, 0.0), skipped=True)


def changed(model: Folder, to: Path, **config: object) -> Folder:
    """A copy of a model whose decoder has twice the weights and other settings."""
    tensors, stored, _ = read_weights(model / "decoder")
    kept = {name: value for name, value in stored.items() if name != "format"}
    twice = {name: 2.0 * value for name, value in tensors.items()}
    write_decoder(Folder(str(to / "decoder")), twice, {**kept, **config})
    for name in ("config.json", "weights.safetensors"):
        Folder(str(to)).write(f"autoencoder/{name}", model.read(f"autoencoder/{name}"))
    return Folder(str(to))
