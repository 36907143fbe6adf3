"""Folders like a model's, and their versions in a registry."""

from __future__ import annotations

import json
from pathlib import Path

from hfd.io.storage import Folder
from pipelines.registry.artifacts import FILES
from pipelines.registry.champion import Registry, Version, model_digest


def run_in(registry: Registry) -> str:
    """Return the id of a new run on the registry's server."""
    experiment = registry.client.get_experiment_by_name("hfd")
    number = experiment.experiment_id if experiment else registry.client.create_experiment("hfd")
    return str(registry.client.create_run(number).info.run_id)


def model(folder: Path, name: str) -> Folder:
    """A folder like a model's, told apart by its name, with what must not be registered beside it."""
    made = Folder(str(folder / name))
    for file in (*FILES, "manifest.json", "checkpoints/step.pt"):
        made.write(file, json.dumps({name: file}).encode())
    return made


def register(registry: Registry, made: Folder) -> Version:
    return registry.register(made, model_digest(made), run_in(registry), {"hfd.note": "s3://key:secret@host/x"})


def versions(registry: Registry) -> list[int]:
    return sorted(int(found.version) for found in registry.client.search_model_versions(f"name='{registry.model}'"))


def alias(registry: Registry, name: str) -> int | None:
    number = registry.client.get_registered_model(registry.model).aliases.get(name)
    return None if number is None else int(number)
