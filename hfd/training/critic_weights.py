"""Weights of a critic beside those of its decoder, so that a later training goes on with it.

A critic from scratch is of little use to a decoder that was trained with another one: in the first thousands of steps
the decoder falls back to what it was without a critic. Decoding needs none of these weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hfd.errors import DataError
from hfd.io.model_folders import CRITIC
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights, write_weights
from hfd.io.weights import fingerprint_of
from hfd.training.critic import CriticSettings


def write_critic(decoder: Folder, critic: nn.Module, settings: CriticSettings) -> None:
    """Write a critic, with the vectors of its spectral norms, into its decoder's folder."""
    write_weights(decoder / CRITIC, critic.state_dict(), _network(settings))


def critic_fingerprint(decoder: Folder, settings: CriticSettings) -> str | None:
    """Fingerprint of the critic in a decoder's folder; None: there is none, or one of another network."""
    if not decoder.exists(f"{CRITIC}/config.json"):
        return None
    config = read_weights(decoder / CRITIC)[1]
    wanted = _network(settings)
    return fingerprint_of(decoder / CRITIC) if {name: config.get(name) for name in wanted} == wanted else None


def critic_into(decoder: Folder, critic: nn.Module) -> None:
    """Copy the stored critic into one of the same network. Raises :class:`DataError` for weights that do not fit."""
    tensors, _, _ = read_weights(decoder / CRITIC)
    try:
        critic.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise DataError(f"{decoder.uri}/{CRITIC}: weights do not fit the critic: {detail}") from error


def _network(settings: CriticSettings) -> Mapping[str, Any]:
    """The settings that shape the network."""
    sizes = {"channels": settings.channels} if settings.kind == "patch" else {"widths": settings.widths}
    return {"kind": settings.kind, **{name: list(counts) for name, counts in sizes.items()}}
