"""Find models in the package, in folders and in workspaces.

A model folder holds ``autoencoder/`` and, for stage 2, ``decoder/``: each a ``config.json`` beside a
``weights.safetensors``; ``decoder/`` may hold its critic, in a folder of its own. A workspace is accepted too: its
``latest.json`` names the newest model.
"""

from __future__ import annotations

import json
from pathlib import Path

from hfd.errors import DataError
from hfd.io.storage import Folder

MODELS = Path(__file__).resolve().parent.parent / "pretrained"
"""Folder of the models in the package, each in a folder of its name."""

FORMER = "former"
"""Folder, among them, of models that earlier versions shipped."""

CRITIC = "critic"
"""Folder of a critic's weights, in that of its decoder."""

_NO_MODEL = "got no model there, expected a folder with autoencoder/config.json, or a workspace"


def resolve_model(folder: Folder) -> Folder:
    """Return the model folder of a path: itself, or the newest one of a workspace."""
    if folder.exists("autoencoder/config.json"):
        return folder
    if folder.exists("latest.json"):
        try:
            latest = json.loads(folder.read("latest.json"))
        except ValueError as error:
            raise DataError(f"{folder.uri}/latest.json: not readable ({error}). Name the model's folder") from error
        if isinstance(latest, dict) and latest.get("model") is not None:
            return folder / str(latest["model"])
    raise DataError(f"{folder.uri}: {_NO_MODEL}")


def shipped_models() -> dict[str, Folder]:
    """Return the models in the package, by name."""
    return _models_in(MODELS)


def former_models() -> dict[str, Folder]:
    """Return the models in the package that decode files of earlier versions and make none unless named, by name."""
    return _models_in(MODELS / FORMER)


def named_models() -> dict[str, Folder]:
    """Return all models in the package that a name stands for."""
    return shipped_models() | former_models()


def find_model(model: str) -> Folder:
    """Return the model folder of a shipped name, folder, workspace or s3:// prefix. Raises :class:`DataError`."""
    named, shipped, folder = named_models(), shipped_models(), Folder(model)
    if model in named:
        return named[model]
    if shipped and folder.is_local and not folder.exists():
        raise DataError(f"{model}: {_NO_MODEL}, or a shipped model ({', '.join(shipped)})")
    return resolve_model(folder)


def _models_in(parent: Path) -> dict[str, Folder]:
    found = sorted(path.parent.parent for path in parent.glob("*/autoencoder/config.json"))
    return {path.name: Folder(str(path)) for path in found}
