"""Files of a decoder as torch has it: its network built, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hfd.diffusion.decoder import ScoreDecoder, process_of
from hfd.diffusion.lean import LeanNet
from hfd.diffusion.unet import UNet
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.tensors import load_strictly, read_weights, write_weights

DecoderNet: TypeAlias = UNet | LeanNet
"""The networks of stage 2."""


def build_network(config: Mapping[str, Any]) -> DecoderNet:
    """An untrained network from the section ``lean``, where there is one, else ``unet``."""
    lean = config.get("lean")
    if lean is not None:
        return LeanNet(tuple(lean["channels"]), tuple(lean["blocks"]), int(lean["tail"]))
    unet = config["unet"]
    return UNet(patch=int(unet["patch"]), channels=tuple(unet["channels"]), blocks=tuple(unet["blocks"]))


def write_decoder(folder: Folder, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write weights and ``config``: process, unet or lean, and ``autoencoder``, the fingerprint of its stage 1.

    Optional: ``steps``, the number of its fine-tuning; ``sampler``, in place of the process's first; ``finish``, as
    :class:`hfd.diffusion.finish.Finish`; ``grain``, the amount that its finished samples lack.
    """
    write_weights(folder, tensors, config)


def read_decoder(folder: Folder, device: str | torch.device = "cpu") -> ScoreDecoder:
    """Load stage 2 to a device, frozen and in eval mode. Raises :class:`DataError` that names the fault."""
    tensors, config, fingerprint = read_weights(folder)
    try:
        net = build_network(config)
    except KeyError as error:
        raise DataError(f"{folder.uri}/config.json: lacks {error}. Make or fetch the model again") from error
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{folder.uri}/config.json: describes no network that can be built ({error!r}). "
            "Make or fetch the model again"
        ) from error
    process = process_of(config, folder.uri)
    load_strictly(net, tensors, folder.uri)
    net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last).to(device)
    return ScoreDecoder(net, process, config, fingerprint)
