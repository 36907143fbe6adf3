"""Weights of LPIPS-VGG and DISTS that are random, in place of the trained ones, which are no part of the repository."""

from __future__ import annotations

import torch
from safetensors.torch import save

from hfd.perceptual.networks import VGG16_WHOLE
from hfd.perceptual.vgg16 import ALPHA, BETA, LINEAR


def random_vgg16() -> bytes:
    """The bytes of a weights file; features keep their scale from layer to layer."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for index, layer in enumerate(VGG16_WHOLE):
        kernel = torch.randn(layer.outputs, layer.inputs, 3, 3, generator=generator)
        tensors[f"convs.{index}.weight"] = kernel * (2.0 / (9 * layer.inputs)) ** 0.5
        tensors[f"convs.{index}.bias"] = 0.1 * torch.randn(layer.outputs, generator=generator)
    for index, width in enumerate(layer.outputs for layer in VGG16_WHOLE if layer.tap):
        tensors[f"{LINEAR}{index}"] = torch.rand(width, generator=generator)
    for name in (ALPHA, BETA):
        tensors[name] = torch.rand(1475, generator=generator)
    return save(tensors)
