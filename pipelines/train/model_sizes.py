"""Count parameters and FLOPs of a preset's networks on the meta device, without computing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hfd.config import Config, DecoderConfig

SIDE_PX = 512


@dataclass(frozen=True)
class NetworkSize:
    """``parameters``; ``gflops`` of a forward pass per megapixel, a multiplication and an addition each counted."""

    parameters: int
    gflops: float

    @property
    def kmac_per_px(self) -> float:
        """Thousands of multiplications with an addition per pixel: 1 GFLOP/megapixel is 1000 FLOP/px, 500 of them."""
        return self.gflops / 2.0


def stage2_size(config: DecoderConfig) -> NetworkSize:
    """Return the size of stage 2, for one evaluation of its network."""
    from hfd.diffusion.weights import build_network

    with torch.device("meta"):
        net = build_network(config.model_dump(mode="json"))
        x = torch.empty(1, 3, SIDE_PX, SIDE_PX)
        gflops = _gflops(net, (x, x, torch.empty(1)), SIDE_PX)
    return NetworkSize(_parameters(net), gflops)


def describe_models(config: Config) -> str:
    """Return one line per network: millions of parameters, and GFLOPs per megapixel of the forward pass."""
    from hfd.autoencoder.weights import build_autoencoder

    # CompressAI computes channel widths with tensors, which the meta device cannot.
    stage1 = build_autoencoder(config.autoencoder.model_dump(mode="json")).to("meta")
    with torch.device("meta"):
        analysis = _gflops(stage1.g_a, torch.empty(1, 3, SIDE_PX, SIDE_PX), SIDE_PX)
        synthesis = _gflops(stage1.g_s, torch.empty(1, stage1.M, SIDE_PX // 16, SIDE_PX // 16), SIDE_PX)
    stage2 = stage2_size(config.decoder)
    steps = config.evaluate.samplers[0].steps or default_steps(config.decoder)
    return (
        f"stage 1 (ELIC)   {_parameters(stage1) / 1e6:7.2f} M parameters, "
        f"g_a {analysis:.0f} and g_s {synthesis:.0f} GFLOPs/megapixel\n"
        f"stage 2 ({_kind(config.decoder)})  {stage2.parameters / 1e6:7.2f} M parameters, "
        f"{stage2.gflops:.0f} GFLOPs/megapixel and step, "
        f"{stage2.gflops * steps:.0f} at {steps} steps"
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


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _gflops(module: nn.Module, inputs: torch.Tensor | tuple[torch.Tensor, ...], side: int) -> float:
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*arguments)
    return float(counter.get_total_flops()) / 1e9 / (side * side / 1e6)
