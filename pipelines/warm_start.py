"""Trainings that begin with the weights of a model at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from hfd.codec.codec import find_model
from hfd.storage import Folder
from hfd.weights import load_strictly, read_weights


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


def warm_start(model: str | None, part: Literal["autoencoder", "decoder"]) -> WarmStart:
    """What a setting ``warm_start`` names: a model folder, a workspace, or a shipped model."""
    if model is None:
        return WarmStart(None)
    folder = find_model(model) / part
    return WarmStart(folder, read_weights(folder)[2])


def _parameters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the entropy tables, which are made again after training."""
    return {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("tables.")}
