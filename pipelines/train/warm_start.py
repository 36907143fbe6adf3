"""Initial weights of a training, from another model."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from hfd.errors import DataError
from hfd.io.model_folders import find_model
from hfd.io.storage import Folder
from hfd.io.tensors import load_strictly, read_weights
from hfd.io.weights import read_stored
from hfd.training.critic import CriticSettings
from hfd.training.critic_weights import critic_fingerprint
from pipelines.context import Context
from pipelines.registry.artifacts import Artifacts, find_artifacts
from pipelines.tracking.settings import is_registered, tracking_settings

Part = Literal["autoencoder", "decoder"]


@dataclass(frozen=True)
class WarmStart:
    """Weights to start from; ``folder`` None: none. Picklable: every worker reads the weights itself.

    ``registered``: the registry's files, which :meth:`fetch` copies into ``folder``; None: no copy is needed.
    """

    folder: Folder | None
    fingerprint: str = ""
    registered: Artifacts | None = None

    @property
    def inputs(self) -> dict[str, str]:
        """Return the entry in the inputs of a step's key."""
        return {} if self.folder is None else {"warm-start": self.fingerprint}

    def fetch(self) -> None:
        """Copy registered weights into the workspace, once. Raises :class:`hfd.errors.DataError`."""
        # The configuration is written last: both files are complete once it exists.
        if self.folder is None or self.registered is None or self.folder.exists("config.json"):
            return
        self.registered.fetch(self.folder.uri.rpartition("/")[2], self.folder)
        if (found := read_weights(self.folder)[2]) != self.fingerprint:
            self.folder.delete("config.json")
            raise DataError(
                f"{self.registered.label}: got files of fingerprint {found[:8]}, expected {self.fingerprint[:8]} as "
                "registered. Name another version"
            )

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the model to start from, once it is fetched; empty without one."""
        return {} if self.folder is None else read_stored(self.folder).config

    def critic(self, settings: CriticSettings | None) -> str | None:
        """The fingerprint of the decoder's critic, if it has one of this network. A registry keeps none."""
        if self.folder is None or self.registered is not None or settings is None:
            return None
        return critic_fingerprint(self.folder, settings)

    def into(self, module: nn.Module) -> None:
        """Copy the weights into a network. Raises :class:`hfd.errors.DataError` that names those that do not fit."""
        if self.folder is not None:
            tensors, _, _ = read_weights(self.folder)
            load_strictly(module, _parameters(tensors), self.folder.uri)


def warm_start(model: str | None, part: Part, context: Context | None = None) -> WarmStart:
    """Resolve a setting ``warm_start``: a model folder, a workspace, a shipped or a registered model. Writes nothing.

    ``models:/NAME@ALIAS`` and ``models:/NAME/VERSION`` are looked up in the registry of ``context``; their weights
    reach the workspace with :meth:`WarmStart.fetch`. Raises :class:`hfd.errors.HfdError` where there is no such model.
    """
    if model is None:
        return WarmStart(None)
    if not is_registered(model):
        folder = find_model(model) / part
        return WarmStart(folder, read_weights(folder)[2])
    assert context is not None  # only a run has a registry
    found = find_artifacts(tracking_settings(context.config).uri, model)
    return WarmStart(
        context.workspace / f"warm-start/{found.folder_name}/{part}",
        dict(found.fingerprints).get(part) or _fingerprint(found, part),
        found,
    )


@functools.lru_cache(maxsize=16)
def _fingerprint(found: Artifacts, part: Part) -> str:
    """Compute the fingerprint of a version without a tag for it, from its files, which are not kept."""
    with tempfile.TemporaryDirectory(prefix="hfd-model-") as scratch:
        found.fetch(part, Folder(scratch))
        return read_weights(Folder(scratch))[2]


def _parameters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the entropy tables, which are built again after training."""
    return {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("tables.")}
