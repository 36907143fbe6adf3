"""The parameters and FLOPs that a dry run prints, against counts made by hand on real tensors."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from hfd.autoencoder.model import Elic
from hfd.config.presets import load_config
from hfd.diffusion.weights import build_network
from pipelines.train.model_sizes import default_steps, describe_models, stage2_size

SIDE = 64
SMALL = [
    "autoencoder.gdn_channels=null",
    "autoencoder.N=24",
    "autoencoder.M=32",
    "autoencoder.groups=[16, 16]",
    "decoder.unet={patch: 4, channels: [32, 64], blocks: [1, 2]}",
    "evaluate.samplers=[{steps: 7}]",
]


def _counted_gflops_per_megapixel(module: nn.Module, *inputs: Tensor) -> float:
    """2 x multiply-adds of every convolution and linear layer, counted as they run."""
    total = 0

    def count(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weights = layer.weight.numel()
        if isinstance(layer, nn.Linear):
            total += 2 * weights * output.numel() // output.shape[-1]
        else:
            at = arguments[0] if isinstance(layer, nn.ConvTranspose2d) else output
            total += 2 * weights * at.shape[-2] * at.shape[-1]

    layers = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear))
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        module(*inputs)
    for handle in handles:
        handle.remove()
    return total / 1e9 / (SIDE * SIDE / 1e6)


def test_parameters_and_flops_are_those_of_the_networks() -> None:
    config = load_config("desk-diffusion", SMALL)
    stage1 = Elic(N=24, M=32, groups=(16, 16)).eval()
    stage2 = build_network(config.decoder.model_dump(mode="json")).eval()
    x = torch.zeros(1, 3, SIDE, SIDE)
    analysis = _counted_gflops_per_megapixel(stage1.g_a, x)
    synthesis = _counted_gflops_per_megapixel(stage1.g_s, torch.zeros(1, 32, SIDE // 16, SIDE // 16))
    step = _counted_gflops_per_megapixel(stage2, x, x, torch.zeros(1))
    first, second = describe_models(config).splitlines()
    found = re.search(r"([\d.]+) M parameters, g_a (\d+) and g_s (\d+) GFLOPs/megapixel$", first)
    assert found is not None
    assert float(found[1]) == pytest.approx(sum(p.numel() for p in stage1.parameters()) / 1e6, abs=0.005)
    assert float(found[2]) == pytest.approx(analysis, abs=1.0)
    assert float(found[3]) == pytest.approx(synthesis, abs=1.0)
    found = re.search(r"([\d.]+) M parameters, (\d+) GFLOPs/megapixel and step, (\d+) at 7 steps$", second)
    assert found is not None
    assert float(found[1]) == pytest.approx(sum(p.numel() for p in stage2.parameters()) / 1e6, abs=0.005)
    assert float(found[2]) == pytest.approx(step, rel=0.02, abs=1.0)
    assert float(found[3]) == pytest.approx(7 * float(found[2]), abs=4.0)
    size = stage2_size(config.decoder)
    assert size.parameters == sum(p.numel() for p in stage2.parameters())
    assert size.gflops == pytest.approx(step, rel=0.02) and size.kmac_per_px == size.gflops / 2


def test_the_steps_are_those_that_the_decoder_is_trained_for() -> None:
    assert describe_models(load_config("lean", [])).endswith("at 1 steps")
    assert default_steps(load_config("lean", ["decoder.perceptual.steps=3"]).decoder) == 3
    assert default_steps(load_config("desk-diffusion").decoder) == 50
