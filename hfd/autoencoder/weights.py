"""Files of a trained autoencoder as torch has it: parameters, integer entropy tables, configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hfd.autoencoder.coding import LatentCoder
from hfd.autoencoder.entropy_model import PARTS, EntropyModel
from hfd.autoencoder.model import Elic
from hfd.autoencoder.tables import TABLES, EntropyTables, read_tables, stored_tables
from hfd.autoencoder.transforms import stage1_networks
from hfd.engine.base import Stage1Networks
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.tensors import load_strictly, read_weights, write_weights


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """A frozen autoencoder: ``model`` in eval mode, its ``tables``, ``config`` and ``fingerprint`` (hex)."""

    model: Elic
    tables: EntropyTables
    config: Mapping[str, Any]
    fingerprint: str

    @property
    def networks(self) -> Stage1Networks:
        return stage1_networks(self.model.g_a, self.model.h_a, self.model.g_s)

    @property
    def entropy(self) -> EntropyModel:
        return EntropyModel(self.model.N, self.model.groups, entropy_arrays(self.model), self.tables)


def entropy_arrays(model: Elic) -> dict[str, npt.NDArray[np.generic]]:
    """The parameters that entropy coding needs, by name."""
    return {
        name: value.detach().float().cpu().numpy() for name, value in model.named_parameters() if name.startswith(PARTS)
    }


def latent_coder(model: Elic, tables: EntropyTables) -> LatentCoder:
    """The coder of a model in memory, with torch for its transforms."""
    one = Autoencoder(model.eval(), tables, {}, "")
    return LatentCoder(one.networks, one.entropy)


def build_autoencoder(config: Mapping[str, Any]) -> Elic:
    """Build an untrained network from ``arch``, ``N``, ``M``, ``groups``, ``gdn_channels`` and ``residual`` (neither:
    ELIC's own transforms)."""
    if config.get("arch") != "elic":
        raise DataError(f"arch: got {config.get('arch')!r}, expected 'elic'")
    width, residual = config.get("gdn_channels"), config.get("residual")
    return Elic(
        N=int(config["N"]),
        M=int(config["M"]),
        groups=tuple(config["groups"]),
        gdn_channels=None if width is None else int(width),
        residual=None if residual is None else (tuple(residual["channels"]), tuple(residual["blocks"])),
    )


def write_autoencoder(folder: Folder, model: Elic, tables: EntropyTables, config: Mapping[str, Any]) -> None:
    stored = {name: torch.from_numpy(array) for name, array in stored_tables(tables).items()}
    write_weights(folder, {**dict(model.named_parameters()), **stored}, config)


def read_autoencoder(folder: Folder) -> Autoencoder:
    """Load an autoencoder, frozen and in eval mode. Raises :class:`DataError` that names the fault."""
    tensors, config, fingerprint = read_weights(folder)
    try:
        model = build_autoencoder(config)
    except KeyError as error:
        raise DataError(f"{folder.uri}: weights lack {error}. Make or fetch the model again") from error
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise DataError(
            f"{folder.uri}/config.json: describes no network that can be built ({error!r}). "
            "Make or fetch the model again"
        ) from error
    held = {name: tensors.pop(name) for name in list(tensors) if name.startswith(TABLES)}
    tables = read_tables({name: tensor.numpy() for name, tensor in held.items()}, model.N, folder.uri)
    load_strictly(model, tensors, folder.uri)
    return Autoencoder(model.eval().requires_grad_(False), tables, config, fingerprint)
