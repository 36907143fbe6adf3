"""Count parameters and FLOPs of a preset's networks on the meta device, without computing."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hfd.config import Config, DecoderConfig


def describe_models(config: Config) -> str:
    """Return one line per network: millions of parameters, and GFLOPs per megapixel of the forward pass."""
    from hfd.autoencoder.weights import build_autoencoder
    from hfd.diffusion.weights import build_network

    # CompressAI computes channel widths with tensors, which the meta device cannot.
    stage1 = build_autoencoder(config.autoencoder.model_dump(mode="json")).to("meta")
    with torch.device("meta"):
        stage2 = build_network(config.decoder.model_dump(mode="json"))
        side = 512
        x = torch.empty(1, 3, side, side)
        analysis = _gflops(stage1.g_a, x, side)
        synthesis = _gflops(stage1.g_s, torch.empty(1, stage1.M, side // 16, side // 16), side)
        step = _gflops(stage2, (x, x, torch.empty(1)), side)
    steps = config.evaluate.samplers[0].steps or default_steps(config.decoder)
    return (
        f"stage 1 (ELIC)   {_millions(stage1):7.2f} M parameters, "
        f"g_a {analysis:.0f} and g_s {synthesis:.0f} GFLOPs/megapixel\n"
        f"stage 2 ({_kind(config.decoder)})  {_millions(stage2):7.2f} M parameters, "
        f"{step:.0f} GFLOPs/megapixel and step, "
        f"{step * steps:.0f} at {steps} steps"
    )


def default_steps(config: DecoderConfig) -> int:
    """Return the decoder's default number of sampling steps."""
    from hfd.diffusion.decoder import DEFAULT_STEPS

    if config.adversarial is not None:
        return config.adversarial.steps
    trained = config.perceptual or config.distill
    return config.steps or (DEFAULT_STEPS if trained is None else trained.steps)


def _kind(decoder: DecoderConfig) -> str:
    return "U-Net" if decoder.lean is None else "lean"


def _millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def _gflops(module: nn.Module, inputs: torch.Tensor | tuple[torch.Tensor, ...], side: int) -> float:
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*arguments)
    return float(counter.get_total_flops()) / 1e9 / (side * side / 1e6)
