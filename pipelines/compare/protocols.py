"""Protocols: conditions beside the pictures that make two evaluations' values of a metric comparable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hfd.metrics.protocols import SetProtocol, protocol_of
from hfd.metrics.set_distances import distances_on
from hfd.metrics.table import METRICS
from hfd.perceptual.vgg16 import Vgg16File


def protocols_of(settings: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the protocol of each metric that has one.

    ``settings``: of the step, values as JSON; ``facts``: of the evaluation, which hold the protocols of set metrics but
    for those of earlier versions.
    """
    recorded: Mapping[str, Any] = facts.get("protocols") or {}
    found = {name: SetProtocol.from_record(record).text for name, record in recorded.items()}
    if not found:
        patch_px, num_blocks = int(str(_value(settings, "patch_px") or 0)), int(facts.get("blocks", 0))
        found = {
            one.name: protocol_of(one, patch_px=patch_px, num_blocks=num_blocks).text
            for one in distances_on("efficientnet")
        }
    weights = f"VGG16 weights {str(_value(settings, 'vgg16_sha256') or Vgg16File('').sha256)[:8]}"
    return found | {name: weights for name, metric in METRICS.items() if metric.network == "vgg16"}


def _value(settings: Mapping[str, str], name: str) -> object:
    text = settings.get(name, "null")
    try:
        return json.loads(text)
    except ValueError:  # a text as a tracking server has it, without quotes
        return text
