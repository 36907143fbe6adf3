"""Copy and record the two files of trained weights, and write the graphs of a finished model."""

from __future__ import annotations

from hfd.codec.export import add_graphs
from hfd.errors import ConfigError
from hfd.io.model_folders import CRITIC
from hfd.io.storage import Folder
from pipelines.context import Display
from pipelines.tracking import StepRun


def copy_weights(source: Folder, target: Folder) -> None:
    """Copy a weights folder; the configuration comes last, so both files are complete once it exists."""
    for name in ("weights.safetensors", "config.json"):
        target.write(name, source.read(name))


def copy_critic(source: Folder, target: Folder) -> None:
    """Copy the critic of a decoder's folder into another decoder's, if there is one."""
    if (source / CRITIC).exists("config.json"):
        copy_weights(source / CRITIC, target / CRITIC)


def write_graphs(model: Folder, display: Display) -> None:
    """Write the graphs of a model folder, so that it runs without torch. Where onnx is not installed, say so.

    They follow from the weights, and are no part of the step's digest.
    """
    try:
        add_graphs(model)
    except ConfigError as error:
        display.say(f"{model.uri}: torch alone can run this model, since it has no graphs ({error})")


def log_weights(record: StepRun, model: Folder, part: str) -> None:
    """Store the weights of ``part`` (``autoencoder`` or ``decoder``) of a model folder as artifacts."""
    for name in ("config.json", "weights.safetensors"):
        record.log_artifact(model.read(f"{part}/{name}"), name=name, folder=part)
