"""Protocols: conditions beside the pictures that make two evaluations' values of a metric comparable."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hfd.metrics.table import METRICS, Metric
from hfd.perceptual.vgg16 import Vgg16File


def protocols_of(settings: Mapping[str, str], num_blocks: int) -> dict[str, str]:
    """Return the protocol of each metric that has one.

    ``settings``: of the step, values as JSON; ``num_blocks``: of the distances, 0 for all patches at once.
    """
    blocks = f", mean over {num_blocks} blocks" if num_blocks else ""
    found = {name: _protocol(metric, settings, blocks) for name, metric in METRICS.items()}
    return {name: text for name, text in found.items() if text}


def _protocol(metric: Metric, settings: Mapping[str, str], blocks: str) -> str:
    if metric.of_image is None and metric.network == "efficientnet":
        return f"EfficientNet-Lite0, patches of {_value(settings, 'patch_px')} px{blocks}"
    if metric.network == "vgg16":
        return f"VGG16 weights {str(_value(settings, 'vgg16_sha256') or Vgg16File('').sha256)[:8]}"
    return ""


def _value(settings: Mapping[str, str], name: str) -> object:
    text = settings.get(name, "null")
    try:
        return json.loads(text)
    except ValueError:  # a text as a tracking server has it, without quotes
        return text
