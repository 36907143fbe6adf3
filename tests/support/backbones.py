"""Random weights of the networks of set metrics, in the forms that are published."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hfd.metrics.inception import inception_shapes

DINOV2_SMALL = "vit_small_patch14_dinov2"
CLIP_BASE, CLIP_BASE_PX = "vit_base_patch32_clip_quickgelu_224", 224


class _Random:
    """Tensors from one seed; weights keep the scale of what they are applied to."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def weight(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator) * math.prod(shape[1:]) ** -0.5

    def near(self, value: float, *shape: int) -> Tensor:
        return value + 0.1 * torch.randn(shape, generator=self._generator)


def random_inception() -> dict[str, Tensor]:
    """The tensors of the file, by torch-fidelity's names."""
    random, tensors = _Random(0), dict[str, Tensor]()
    for name, shape in inception_shapes().items():
        if name.endswith("conv.weight"):
            tensors[name] = 1.4 * random.weight(*shape)
        elif name.endswith(("running_var", "bn.weight")):
            tensors[name] = random.near(1.0, *shape).abs() + 0.1
        else:
            tensors[name] = random.near(0.1, *shape)
    return tensors


def random_dinov2(width: int = 384, depth: int = 12) -> dict[str, Tensor]:
    """A checkpoint of DINOv2 for 518 px, by its authors' names."""
    random = _Random(1)
    tensors = {
        "cls_token": random.near(0.0, 1, 1, width),
        "pos_embed": random.near(0.0, 1, 1 + 37 * 37, width),
        "mask_token": random.near(0.0, 1, width),
        "patch_embed.proj.weight": random.weight(width, 3, 14, 14),
        "patch_embed.proj.bias": random.near(0.0, width),
        "norm.weight": random.near(1.0, width),
        "norm.bias": random.near(0.0, width),
    }
    for index in range(depth):
        block = f"blocks.{index}."
        for name, outputs, inputs in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            tensors[f"{block}{name}.weight"] = random.weight(outputs, inputs)
            tensors[f"{block}{name}.bias"] = random.near(0.0, outputs)
        for name in ("norm1", "norm2"):
            tensors[f"{block}{name}.weight"] = random.near(1.0, width)
            tensors[f"{block}{name}.bias"] = random.near(0.0, width)
        for name in ("ls1", "ls2"):
            tensors[f"{block}{name}.gamma"] = random.near(0.5, width)
    return tensors


def random_clip(
    width: int = 768, depth: int = 12, patch: int = 32, side: int = CLIP_BASE_PX, outputs: int = 512
) -> dict[str, Tensor]:
    """A checkpoint of CLIP's image encoder by OpenAI's names, in half precision, with a mark of its text encoder."""
    random = _Random(2)
    tensors = {
        "visual.class_embedding": random.near(0.0, width),
        "visual.positional_embedding": random.near(0.0, 1 + (side // patch) ** 2, width),
        "visual.proj": random.weight(outputs, width).T.contiguous(),
        "visual.conv1.weight": random.weight(width, 3, patch, patch),
        "text_projection": random.weight(outputs, outputs),
    }
    for name in ("ln_pre", "ln_post"):
        tensors[f"visual.{name}.weight"], tensors[f"visual.{name}.bias"] = (
            random.near(1.0, width),
            random.near(0.0, width),
        )
    for index in range(depth):
        block = f"visual.transformer.resblocks.{index}."
        tensors[f"{block}attn.in_proj_weight"] = random.weight(3 * width, width)
        tensors[f"{block}attn.in_proj_bias"] = random.near(0.0, 3 * width)
        for name, out, inputs in (
            ("attn.out_proj", width, width),
            ("mlp.c_fc", 4 * width, width),
            ("mlp.c_proj", width, 4 * width),
        ):
            tensors[f"{block}{name}.weight"] = 0.3 * random.weight(out, inputs)
            tensors[f"{block}{name}.bias"] = random.near(0.0, out)
        for name in ("ln_1", "ln_2"):
            tensors[f"{block}{name}.weight"], tensors[f"{block}{name}.bias"] = (
                random.near(1.0, width),
                random.near(0.0, width),
            )
    return {name: tensor.half() for name, tensor in tensors.items()}
