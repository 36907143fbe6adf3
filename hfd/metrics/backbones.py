"""The pretrained networks whose features set metrics compare, and their weights, of which most are given by path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal["efficientnet", "inception", "dinov2", "clip"]


@dataclass(frozen=True)
class Backbone:
    """One network. ``dimension``: D of its features; ``resize``: of patches before it; ``file``: of its weights, in the
    form of :mod:`hfd.metrics.convert_backbone`; ``sha256``: of that file, None where no conversion is known."""

    name: BackboneName
    label: str
    dimension: int
    resize: str
    file: str
    sha256: str | None


BACKBONES: dict[BackboneName, Backbone] = {
    backbone.name: backbone
    for backbone in (
        Backbone("efficientnet", "EfficientNet-Lite0", 1280, "", "", None),  # its package holds the file
        Backbone(
            "inception",
            "Inception-v3 of 2015-12-05",
            2048,
            "resized to 299 px (TensorFlow 1's bilinear)",
            "inception-v3.safetensors",
            "1187e428a82651e94409755c27b92440b550fcfcd0a628d7ad802b646edce2ed",
        ),
        Backbone(
            "dinov2",
            "DINOv2 ViT-L/14",
            1024,
            "resized to 224 px (Pillow's bicubic)",
            "dinov2-vitl14.safetensors",
            None,
        ),
        Backbone(
            "clip",
            "CLIP ViT-L/14@336",
            768,
            "resized to 336 px (Pillow's bicubic)",
            "clip-vitl14-336.safetensors",
            None,
        ),
    )
}


@dataclass(frozen=True)
class BackboneFile:
    """Weights of a backbone. ``folder``: that of its file, by URI; ``sha256``: of the file, hex."""

    name: BackboneName
    folder: str
    sha256: str
