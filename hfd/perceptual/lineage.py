"""The pretrained networks that took part in the training of a decoder: metrics that use them do not judge it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAINED_ON = "trained_on"
"""Key of a decoder's configuration: networks in the trainings that its own training started from."""

_LOSSES = {"lpips": "alexnet", "wasserstein": "vgg16", "style": "vgg16", "critic": "vgg16"}
"""Losses of the section ``perceptual`` and the networks whose features they use."""


def networks_in_training(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the networks, sorted, from a decoder's configuration; empty for a decoder of score matching alone."""
    section, earlier = config.get("perceptual"), config.get(TRAINED_ON)
    losses = section if isinstance(section, Mapping) else {}
    own = {network for loss, network in _LOSSES.items() if losses.get(loss) and not _is_from_scratch(losses[loss])}
    return tuple(sorted(own | {str(name) for name in earlier} if isinstance(earlier, list) else own))


def _is_from_scratch(loss: object) -> bool:
    """Return True for a critic that uses no features."""
    return isinstance(loss, Mapping) and loss.get("kind") == "patch"


def lineage_entry(*starts: Mapping[str, Any]) -> dict[str, list[str]]:
    """The entry in the configuration of a decoder whose training uses other ones; none without networks.

    ``starts``: configurations of the decoders that it starts or learns from.
    """
    networks = sorted({network for start in starts for network in networks_in_training(start)})
    return {TRAINED_ON: networks} if networks else {}
