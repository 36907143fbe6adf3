"""The networks by torch, on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from hfd.engine.base import Stage1Reach, Values
from hfd.precision import autocast

TensorMap: TypeAlias = Callable[[Tensor], Tensor]


class TorchStage1:
    """:class:`hfd.engine.base.Stage1Networks` of three functions of tensors, g_a, h_a and g_s."""

    def __init__(self, g_a: TensorMap, h_a: TensorMap, g_s: TensorMap, reach: Stage1Reach) -> None:
        self._g_a, self._h_a, self._g_s, self._reach = g_a, h_a, g_s, reach

    @property
    def reach(self) -> Stage1Reach:
        return self._reach

    def analysis(self, x: Values) -> Values:
        return _on_arrays(self._g_a, x)

    def hyper_analysis(self, y: Values) -> Values:
        return _on_arrays(self._h_a, y)

    def synthesis(self, y_hat: Values) -> Values:
        return np.clip(_on_arrays(self._g_s, y_hat), np.float32(0.0), np.float32(1.0))


class TorchStage2:
    """:class:`hfd.engine.base.Stage2Network` of a module on ``device``, a network of :mod:`hfd.diffusion`.

    ``stride`` and ``receptive_field_px``: the module's; ``precision``: as :func:`hfd.precision.autocast` takes it.
    """

    def __init__(
        self, net: nn.Module, stride: int, receptive_field_px: int, *, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self._net, self._stride, self._receptive_field_px = net, stride, receptive_field_px
        self._device, self._precision = torch.device(device), precision

    @property
    def stride(self) -> int:
        return self._stride

    @property
    def receptive_field_px(self) -> int:
        return self._receptive_field_px

    @torch.no_grad()
    def __call__(self, x_in: Values, x_hat: Values, noise_level: Values, known: Values | None = None) -> Values:
        images = [self._moved(x_in), self._moved(x_hat)]
        level = torch.from_numpy(noise_level).to(self._device)
        with autocast(self._device, self._precision):
            output = self._net(*images, level, None if known is None else self._moved(known))
        return _array(output)

    def _moved(self, images: Values) -> Tensor:
        return torch.from_numpy(images).to(self._device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _on_arrays(function: TensorMap, values: Values) -> Values:
    return _array(function(torch.from_numpy(values)))


def _array(values: Tensor) -> Values:
    array: Values = values.float().contiguous().cpu().numpy()
    return array
