"""An original picture with what its metrics compute once for all of its decoded versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hfd.image.load import RgbArray
from hfd.metrics.ms_ssim import Scales, scales_of
from hfd.metrics.spectrum import top_octave
from hfd.perceptual.alexnet import BandUnits, lpips_units
from hfd.perceptual.vgg16 import BandOfOriginal, Vgg16File, read_vgg16

T = TypeVar("T")

KEPT_PIXELS = 4_194_304
"""Of larger pictures, whose values take 80 bytes a pixel, nothing large is kept: it is computed for each version."""

KEPT_VGG16_PIXELS = 524_288
"""The same for VGG16's features, which take 563 bytes a pixel."""


class Original:
    """``x``: uint8 (H, W, 3) sRGB. Metrics ask only for what the size of the picture allows."""

    def __init__(self, x: RgbArray) -> None:
        self.x = x
        self._kept: dict[Any, Any] = {}

    @property
    def scales(self) -> Scales:
        """Means and variances for MS-SSIM."""
        return scales_of(self.x) if self._exceeds(KEPT_PIXELS) else self._once("scales", scales_of)

    @property
    def lpips_units(self) -> Iterable[BandUnits]:
        """AlexNet's features at unit length, by bands; of a large picture to be taken once."""
        if self._exceeds(KEPT_PIXELS):
            return lpips_units(self.x)
        return self._once("lpips", lambda x: list(lpips_units(x)))

    @property
    def top_octave(self) -> float:
        """Power in the top octave."""
        return self._once("top_octave", top_octave)

    def vgg16_bands(self, file: Vgg16File) -> Iterable[BandOfOriginal]:
        """VGG16's features for its metrics, by bands; of a large picture to be taken once."""
        prepared = read_vgg16(file).prepared
        if self._exceeds(KEPT_VGG16_PIXELS):
            return prepared(self.x)
        return self._once(file, lambda x: list(prepared(x)))

    def _exceeds(self, pixels: int) -> bool:
        return self.x.shape[0] * self.x.shape[1] > pixels

    def _once(self, name: object, compute: Callable[[RgbArray], T]) -> T:
        if name not in self._kept:
            self._kept[name] = compute(self.x)
        found: T = self._kept[name]
        return found
