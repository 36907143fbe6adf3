"""Copy and record the two files of trained weights."""

from __future__ import annotations

from hfd.io.storage import Folder
from pipelines.tracking import StepRun


def copy_weights(source: Folder, target: Folder) -> None:
    """Copy a weights folder; the configuration comes last, so both files are complete once it exists."""
    for name in ("weights.safetensors", "config.json"):
        target.write(name, source.read(name))


def log_weights(record: StepRun, model: Folder, part: str) -> None:
    """Store the weights of ``part`` (``autoencoder`` or ``decoder``) of a model folder as artifacts."""
    for name in ("config.json", "weights.safetensors"):
        record.log_artifact(model.read(f"{part}/{name}"), name=name, folder=part)
