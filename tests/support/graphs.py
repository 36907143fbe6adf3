"""Weights folders with graphs, of modules that need no training."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from hfd.autoencoder.model import Elic
from hfd.diffusion.weights import DecoderNet
from hfd.graphs.builder import stored_tensors
from hfd.graphs.write import stage1_graphs, stage2_graphs
from hfd.io.storage import Folder

FINGERPRINT = "ab" * 32


def folder_of(module: Elic | DecoderNet, where: Path, dtype: torch.dtype = torch.float32) -> tuple[Folder, bytes]:
    """Write the module's weights, rounded to ``dtype`` in the module too, and its graphs; return the weights' bytes."""
    _round(module, dtype)
    weights = save({name: value.detach().to(dtype).contiguous() for name, value in module.named_parameters()})
    stored = stored_tensors(weights)
    if isinstance(module, Elic):
        graphs = stage1_graphs(module, stored, FINGERPRINT)
    else:
        graphs = stage2_graphs(module, stored, FINGERPRINT)
    folder = Folder(str(where))
    for name, data in {**graphs, "weights.safetensors": weights}.items():
        folder.write(name, data)
    return folder, weights


@torch.no_grad()
def _round(module: nn.Module, dtype: torch.dtype) -> None:
    for value in module.parameters():
        value.copy_(value.to(dtype))
