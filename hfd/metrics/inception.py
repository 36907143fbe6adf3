"""Features of Inception-v3 as FID and KID define them, by torch-fidelity's network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.metrics.batches import features_in_batches

NUM_INCEPTION_FEATURES = 2048
_COUNTER = "num_batches_tracked"


class InceptionFeatures:
    """The pooled features (P, 2048), at least 0, of TensorFlow's Inception-v3 of 2015-12-05, float32.

    Input: patches, resized to 299 px by TensorFlow 1's bilinear interpolation, as ``(x - 128) / 128``: both by
    torch-fidelity, whose network equals TensorFlow's (extra ``metrics``).

    Args:
        tensors: those of :func:`inception_shapes`.
        where: the file's name, for messages.
        device: where the network runs.

    Raises:
        DataError: tensors that are missing, unknown, of another shape or not finite (``reason="io"``).
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: str, device: str = "cpu") -> None:
        network = _without_weights()
        state = {name: torch.tensor(0) for name in network.state_dict() if name.endswith(_COUNTER)}
        load_whole(network, {**tensors, **state}, where, "Inception-v3")
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self._device)

    def __call__(self, patches: RgbArray) -> npt.NDArray[np.float32]:
        """Compute features float32 (P, 2048) of patches of one size, uint8 (P, h, w, 3) sRGB; P may be 0."""
        return features_in_batches(self._forward, patches, NUM_INCEPTION_FEATURES)

    def _forward(self, batch: RgbArray) -> Tensor:
        x = torch.from_numpy(batch.copy()).to(self._device).permute(0, 3, 1, 2)
        pooled: Tensor = self._network(x)[0]
        return pooled


def inception_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the network's tensors, in order; of its classifier there are none."""
    state = _without_weights().state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(_COUNTER)}


def load_whole(network: nn.Module, tensors: Mapping[str, Tensor], where: str, label: str) -> None:
    """Give all tensors, as float32, to a network on the meta device.

    Raises :class:`DataError` (``reason="io"``) naming the first tensor that is missing, unknown, of another shape or
    not finite.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{where}: {name}: got numbers that are not finite. Make the file again", reason="io")
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        network.load_state_dict(whole, strict=True, assign=True)
    except RuntimeError as error:
        reasons = [" ".join(line.split()) for line in str(error).split("\n")]
        first = (reasons[1] if len(reasons) > 1 else reasons[0])[:200].rstrip(". ")
        raise DataError(f"{where}: weights do not fit {label}: {first}. Make the file again", reason="io") from error


def _without_weights() -> nn.Module:
    """Return torch-fidelity's network without its classifier, on the meta device."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
        """Its constructor always loads a file."""

        def load_state_dict(self, *args: Any, **options: Any) -> None:
            del args, options

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.device("meta"):  # no initial values, which take time and random numbers
        network = Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)
    network.fc = nn.Identity()
    network.__class__ = FeatureExtractorInceptionV3
    whole: nn.Module = network
    return whole
