"""The protocols of an evaluation's set metrics, and sentences about them."""

from __future__ import annotations

from collections.abc import Mapping

from hfd.config import EvaluateConfig
from hfd.metrics.backbones import BackboneName
from hfd.metrics.protocols import SetProtocol, protocol_of
from hfd.metrics.set_distances import SET_DISTANCES, SetDistance
from hfd.metrics.table import METRICS


def set_protocols(
    config: EvaluateConfig, num_patches: Mapping[BackboneName, int], num_blocks: Mapping[BackboneName, int]
) -> dict[str, SetProtocol]:
    """Return the protocol of each measured set metric. ``num_patches``, ``num_blocks``: by network."""
    given: dict[BackboneName, str | None] = {one.name: one.sha256 for one in config.backbones}
    return {
        one.name: protocol_of(
            one,
            patch_px=config.patch_px,
            sha256=given.get(one.backbone),
            num_patches=num_patches.get(one.backbone, 0),
            num_blocks=num_blocks[one.backbone],
        )
        for one in SET_DISTANCES
        if one.backbone in num_blocks
    }


def protocol_texts(protocols: Mapping[str, SetProtocol]) -> list[str]:
    """Return a line for each metric: ``FID/256: Inception-v3 of 2015-12-05, patches of 256 px ...``."""
    return [f"{METRICS[name].label}: {protocol.details}" for name, protocol in protocols.items()]


def notes_on_patches(protocols: Mapping[str, SetProtocol]) -> list[str]:
    """Return a line for each metric of too few patches: one with a value of its own bias, or one without a value."""
    return [
        f"{METRICS[one.name].label}: {note}"
        for one in SET_DISTANCES
        if one.name in protocols and (note := _note(one, protocols[one.name].num_patches))
    ]


def _note(distance: SetDistance, num_patches: int) -> str:
    if num_patches < distance.least_patches:
        return f"got {num_patches} patches, expected at least {distance.least_patches}; no value"
    if distance.lacks_rank(num_patches):
        return (
            f"got {num_patches} patches, fewer than its {distance.dimension} features; the value is biased, and "
            "comparable over the same patches only"
        )
    return ""
