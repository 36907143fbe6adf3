"""Trainings that begin with the weights of a model at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from hfd.io.model_folders import find_model
from hfd.io.storage import Folder
from hfd.io.weights import load_strictly, read_weights
from pipelines.context import Context
from pipelines.tracking.registered import find_version, is_registered


@dataclass(frozen=True)
class WarmStart:
    """The weights folder to start from, or None. Picklable: a worker reads the weights itself."""

    folder: Folder | None
    fingerprint: str = ""

    @property
    def inputs(self) -> dict[str, str]:
        """What a step's key has to know of it."""
        return {} if self.folder is None else {"warm-start": self.fingerprint}

    def into(self, module: nn.Module) -> None:
        """Fill a network. Raises :class:`hfd.errors.DataError` naming what does not fit."""
        if self.folder is not None:
            tensors, _, _ = read_weights(self.folder)
            load_strictly(module, _parameters(tensors), self.folder.uri)


def warm_start(model: str | None, part: Literal["autoencoder", "decoder"], context: Context | None = None) -> WarmStart:
    """What a setting ``warm_start`` names: a model folder, a workspace, a shipped or a registered model.

    Those of the registry of ``context`` are ``models:/NAME@ALIAS`` and ``models:/NAME/VERSION``; their weights are
    brought to the workspace. Raises :class:`hfd.errors.HfdError` with one line where there is no such model.
    """
    if model is None:
        return WarmStart(None)
    folder = _registered(model, part, context) if is_registered(model) else find_model(model) / part
    return WarmStart(folder, read_weights(folder)[2])


def _registered(model: str, part: str, context: Context | None) -> Folder:
    """The weights of one part of a registered model, in the workspace, where every worker finds them."""
    assert context is not None  # only a run has a registry
    from pipelines.retrain import tracking_settings

    found = find_version(tracking_settings(context.config).uri, model)
    folder = context.workspace / f"warm-start/{found.name}-{found.version}-{found.digest}/{part}"
    # As they are written, the configuration comes last: both are whole once it is there.
    if not folder.exists("config.json"):
        for name, data in found.download(part).items():
            folder.write(name, data)
    return folder


def _parameters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the entropy tables, which are made again after training."""
    return {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("tables.")}
