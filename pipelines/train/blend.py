"""Average of two decoders' weights: a decoder between them. Beyond the paper.

Network interpolation (ESRGAN, Wang et al., arXiv 1809.00219): where one decoder started from the other, or both from a
third, their networks' averages decode as well as either, and trade the accuracy of one against the detail of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hfd.errors import ConfigError
from hfd.io.tensors import read_weights
from pipelines.context import Context
from pipelines.train.warm_start import WarmStart, warm_start


def find_blend(context: Context, first: WarmStart) -> WarmStart:
    """Return the weights that ``decoder.blend`` names, none without it.

    Raises :class:`ConfigError` where they do not fit ``first``, if both are here before they are fetched.
    """
    blend = context.config.decoder.blend
    if blend is None:
        return WarmStart(None)
    other = warm_start(blend.model, "decoder", context)
    if first.registered is None and other.registered is None:
        check_blend(first, other)
    return other


def check_blend(first: WarmStart, other: WarmStart) -> None:
    """Raise :class:`ConfigError` if two decoders differ in their process, their network or their autoencoder."""
    assert other.folder is not None
    one, two = _compared(first.config), _compared(other.config)
    for name, value in one.items():
        if two[name] != value:
            raise ConfigError(
                f"decoder.blend.model: got {other.folder.uri} with {name} {two[name]}, expected {value} as in "
                "decoder.warm_start. Name a decoder that was trained from the same one"
            )


def blended(first: WarmStart, other: WarmStart, share: float) -> dict[str, Tensor]:
    """Return ``1 - share`` of the first decoder's weights plus ``share`` of the other's, in float32.

    Raises :class:`ConfigError` as :func:`check_blend`.
    """
    check_blend(first, other)
    assert first.folder is not None and other.folder is not None
    mine, others = read_weights(first.folder)[0], read_weights(other.folder)[0]
    return {name: (1.0 - share) * tensor.float() + share * others[name].float() for name, tensor in mine.items()}


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parts in which two decoders must agree. Of the sections lean and unet, the one in use."""
    lean = config.get("lean")
    return {
        "autoencoder": str(config["autoencoder"])[:8],
        "process": config["process"],
        "network": config["unet"] if lean is None else lean,
    }
