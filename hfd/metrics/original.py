"""An original picture with what its metrics compute once for all of its decoded versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hfd.image.load import RgbArray
from hfd.metrics.ms_ssim import Scales, scales_of
from hfd.metrics.spectrum import top_octave
from hfd.perceptual.lpips import lpips_units
from hfd.perceptual.networks import Features

T = TypeVar("T")

KEPT_PIXELS = 4_194_304
"""Of larger pictures, whose values take 90 bytes a pixel, nothing large is kept: it is computed for each version."""


class Original:
    """``x``: uint8 (H, W, 3) sRGB. Metrics ask only for what the size of the picture allows."""

    def __init__(self, x: RgbArray) -> None:
        self.x = x
        self._kept: dict[str, Any] = {}

    @property
    def scales(self) -> Scales:
        """Means and variances for MS-SSIM."""
        return self._once("scales", scales_of, large=True)

    @property
    def lpips_units(self) -> Features:
        """AlexNet's features at unit length."""
        return self._once("lpips", lpips_units, large=True)

    @property
    def top_octave(self) -> float:
        """Power in the top octave."""
        return self._once("top_octave", top_octave, large=False)

    def _once(self, name: str, compute: Callable[[RgbArray], T], *, large: bool) -> T:
        if large and self.x.shape[0] * self.x.shape[1] > KEPT_PIXELS:
            return compute(self.x)
        if name not in self._kept:
            self._kept[name] = compute(self.x)
        found: T = self._kept[name]
        return found
