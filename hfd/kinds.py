"""Names of samplers, processes and their options, shared by settings, files and models. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal, TypeAlias

DiffusionSampler: TypeAlias = Literal["ancestral", "ddim", "dpmpp-2m"]
FlowSampler: TypeAlias = Literal["euler", "heun", "midpoint"]
SamplerKind: TypeAlias = Literal["auto", DiffusionSampler, FlowSampler]
"""``auto``: the first sampler of the decoder's process."""

ProcessKind: TypeAlias = Literal["diffusion", "residual-diffusion", "rectified-flow", "posterior-mean-flow"]
Prediction: TypeAlias = Literal["v", "eps", "x0"]
Weighting: TypeAlias = Literal["v", "eps", "x0", "min-snr"]
CriticKind: TypeAlias = Literal["features", "patch"]
CriticLoss: TypeAlias = Literal["cross-entropy", "hinge"]
FlowTimes: TypeAlias = Literal["uniform", "logit-normal"]
EngineKind: TypeAlias = Literal["auto", "torch", "onnx"]
"""``auto``: ONNX Runtime on the CPU where it is installed and a model has graphs for it, else torch."""

Strategy: TypeAlias = Literal["ddp", "fsdp"]
