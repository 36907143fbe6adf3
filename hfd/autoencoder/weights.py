"""Files of a trained autoencoder: parameters, integer entropy tables, configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfd.autoencoder.coding import EntropyTables, FrequencyTables
from hfd.autoencoder.model import Elic
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.weights import load_strictly, read_weights, write_weights

_TABLES = "tables."


@dataclass(frozen=True)
class Autoencoder:
    """A frozen autoencoder: ``model`` in eval mode, its ``tables``, ``config`` and ``fingerprint`` (hex)."""

    model: Elic
    tables: EntropyTables
    config: Mapping[str, Any]
    fingerprint: str


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
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    tensors[f"{_TABLES}scales"] = tables.scales
    for name, family in (("z", tables.z), ("y", tables.y)):
        # Rows without padding: with it, y's table is as large as a small network.
        used = [row[:length] for row, length in zip(family.cdf, family.lengths.tolist(), strict=True)]
        tensors[f"{_TABLES}{name}.cdf"] = torch.cat(used)
        tensors[f"{_TABLES}{name}.lengths"] = family.lengths
        tensors[f"{_TABLES}{name}.offsets"] = family.offsets
    write_weights(folder, tensors, config)


def read_autoencoder(folder: Folder) -> Autoencoder:
    """Load an autoencoder, frozen and in eval mode. Raises :class:`DataError` that names the fault."""
    tensors, config, fingerprint = read_weights(folder)
    try:
        model = build_autoencoder(config)
        scales = tensors.pop(f"{_TABLES}scales").float()
        tables = EntropyTables(
            z=_family(tensors, "z", model.N, folder.uri),
            y=_family(tensors, "y", len(scales), folder.uri),
            scales=scales,
        )
    except KeyError as error:
        raise DataError(f"{folder.uri}: weights lack {error}. Make or fetch the model again") from error
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise DataError(
            f"{folder.uri}/config.json: describes no network that can be built ({error!r}). "
            "Make or fetch the model again"
        ) from error
    load_strictly(model, tensors, folder.uri)
    return Autoencoder(model.eval().requires_grad_(False), tables, config, fingerprint)


def _family(tensors: dict[str, Tensor], name: str, rows: int, where: str) -> FrequencyTables:
    lengths = tensors.pop(f"{_TABLES}{name}.lengths")
    offsets = tensors.pop(f"{_TABLES}{name}.offsets")
    flat = tensors.pop(f"{_TABLES}{name}.cdf")
    # The coder, in C++, uses these numbers as indexes without checks.
    whole = lengths.shape == offsets.shape == (rows,) and bool((lengths >= 3).all())
    if not whole or flat.shape != (int(lengths.sum()),) or not _all_int32(lengths, offsets, flat):
        raise DataError(
            f"{where}: {_TABLES}{name}: got {tuple(flat.shape)}, {tuple(lengths.shape)} and "
            f"{tuple(offsets.shape)}, expected {rows} rows of int32. Make or fetch the model again"
        )
    used = torch.split(flat, lengths.tolist())
    for row in used:
        if int(row[0]) != 0 or int(row[-1]) != 2**16 or bool((row.diff() <= 0).any()):
            raise DataError(
                f"{where}: {_TABLES}{name}.cdf: got a row that does not ascend from 0 to 65536. "
                "Make or fetch the model again"
            )
    cdf = torch.nn.utils.rnn.pad_sequence(list(used), batch_first=True)
    return FrequencyTables(cdf=cdf, lengths=lengths, offsets=offsets)


def _all_int32(*tensors: Tensor) -> bool:
    return all(tensor.dtype == torch.int32 for tensor in tensors)
