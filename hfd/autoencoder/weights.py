"""A trained autoencoder on disk: its parameters, its integer entropy tables, its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfd.autoencoder.coding import EntropyTables, FrequencyTables
from hfd.autoencoder.model import Elic
from hfd.errors import DataError
from hfd.storage import Folder
from hfd.weights import load_strictly, read_weights, write_weights

_TABLES = "tables."


@dataclass(frozen=True)
class Autoencoder:
    """A frozen autoencoder: ``model`` in eval mode, its ``tables``, ``config`` and ``fingerprint`` (hex)."""

    model: Elic
    tables: EntropyTables
    config: Mapping[str, Any]
    fingerprint: str


def build_autoencoder(config: Mapping[str, Any]) -> Elic:
    """An untrained network from ``arch``, ``N``, ``M``, ``groups``."""
    if config.get("arch") != "elic":
        raise DataError(f"arch: got {config.get('arch')!r}, expected 'elic'")
    return Elic(N=int(config["N"]), M=int(config["M"]), groups=tuple(config["groups"]))


def write_autoencoder(folder: Folder, model: Elic, tables: EntropyTables, config: Mapping[str, Any]) -> None:
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    tensors[f"{_TABLES}scales"] = tables.scales
    for name, family in (("z", tables.z), ("y", tables.y)):
        # Rows are stored back to back: padded, y's would take as much room as a small network.
        used = [row[:length] for row, length in zip(family.cdf, family.lengths.tolist(), strict=True)]
        tensors[f"{_TABLES}{name}.cdf"] = torch.cat(used)
        tensors[f"{_TABLES}{name}.lengths"] = family.lengths
        tensors[f"{_TABLES}{name}.offsets"] = family.offsets
    write_weights(folder, tensors, config)


def read_autoencoder(folder: Folder) -> Autoencoder:
    """Load an autoencoder, frozen and in eval mode. Raises :class:`DataError` naming what does not fit."""
    tensors, config, fingerprint = read_weights(folder)
    try:
        tables = EntropyTables(
            z=_family(tensors, "z"), y=_family(tensors, "y"), scales=tensors.pop(f"{_TABLES}scales").float()
        )
        model = build_autoencoder(config)
    except KeyError as error:
        raise DataError(f"{folder.uri}: weights lack {error}. Make or fetch the model again") from error
    load_strictly(model, tensors, folder.uri)
    return Autoencoder(model.eval().requires_grad_(False), tables, config, fingerprint)


def _family(tensors: dict[str, Tensor], name: str) -> FrequencyTables:
    lengths = tensors.pop(f"{_TABLES}{name}.lengths")
    flat = tensors.pop(f"{_TABLES}{name}.cdf")
    cdf = torch.nn.utils.rnn.pad_sequence(list(torch.split(flat, lengths.tolist())), batch_first=True)
    return FrequencyTables(cdf=cdf, lengths=lengths, offsets=tensors.pop(f"{_TABLES}{name}.offsets"))
