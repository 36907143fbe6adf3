"""Features of DINOv2 and of CLIP's image encoder, by the networks of timm.

No trained weights were at hand: both are tested with random ones against the networks of their authors, and no figure
of theirs was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from hfd.image.load import RgbArray
from hfd.metrics.batches import features_in_batches
from hfd.metrics.inception import load_whole

DINOV2_ARCH, DINOV2_PX = "vit_large_patch14_dinov2", 224
CLIP_ARCH, CLIP_PX = "vit_large_patch14_clip_quickgelu_336", 336

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, eq=False)
class TransformerFeatures:
    """The features of a transformer, as a function of patches.

    Patches are resized to ``side_px`` by Pillow's bicubic interpolation to uint8 and scaled by ``mean`` and ``std``.
    ``unit``: each feature vector is divided by its length.
    """

    network: nn.Module
    side_px: int
    dimension: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    unit: bool

    def __call__(self, patches: RgbArray) -> npt.NDArray[np.float32]:
        """Compute features float32 (P, D) of patches of one size, uint8 (P, h, w, 3) sRGB; P may be 0."""
        return features_in_batches(self._forward, patches, self.dimension)

    def _forward(self, batch: RgbArray) -> Tensor:
        size = (self.side_px, self.side_px)
        resized = np.stack([np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BICUBIC)) for x in batch])
        device = next(self.network.parameters()).device
        x = torch.from_numpy(resized).to(device).permute(0, 3, 1, 2).float() / 255.0
        mean, std = (torch.tensor(one, device=device).reshape(3, 1, 1) for one in (self.mean, self.std))
        features: Tensor = self.network((x - mean) / std)
        return features / features.norm(dim=1, keepdim=True) if self.unit else features


def dinov2_features(
    tensors: Mapping[str, Tensor], where: str, device: str = "cpu", *, arch: str = DINOV2_ARCH
) -> TransformerFeatures:
    """Return the normalised class token of DINOv2 (Oquab et al. 2023), (P, 1024), of patches at 224 px.

    As dgm-eval (Stein et al. 2023) computes it for its Frechet distances. ``tensors``: by timm's names, with the
    positional embedding at 16 x 16. ``arch``: timm's name of a network of the same kind.

    Raises:
        DataError: tensors that are missing, unknown, of another shape or not finite (``reason="io"``).
    """
    network = _network(arch, tensors, where, device, img_size=DINOV2_PX, num_classes=0)
    return TransformerFeatures(network, DINOV2_PX, _width(tensors, "norm.weight"), *_IMAGENET, unit=False)


def clip_features(
    tensors: Mapping[str, Tensor], where: str, device: str = "cpu", *, arch: str = CLIP_ARCH, side_px: int = CLIP_PX
) -> TransformerFeatures:
    """Return CLIP's image embedding (Radford et al. 2021), of length 1, (P, 768), of patches at 336 px.

    As CMMD (Jayasumana et al. 2024) defines it. Arguments and errors as in :func:`dinov2_features`.
    """
    width = _width(tensors, "head.weight")
    network = _network(arch, tensors, where, device, img_size=side_px, num_classes=width)
    return TransformerFeatures(network, side_px, width, *_CLIP, unit=True)


def _width(tensors: Mapping[str, Tensor], name: str) -> int:
    return tensors[name].shape[0] if name in tensors else 1  # missing: the network's error names it


def _network(
    arch: str, tensors: Mapping[str, Tensor], where: str, device: str, *, img_size: int, num_classes: int
) -> nn.Module:
    import timm

    # On the meta device, no initial values are made, which would take seconds, memory and random numbers.
    with torch.device("meta"):
        network: nn.Module = timm.create_model(arch, pretrained=False, img_size=img_size, num_classes=num_classes)
    load_whole(network, tensors, where, arch)
    return network.eval().requires_grad_(False).to(device)
