"""One decoded image, and the values of metrics that are not functions of two pictures alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hfd.image.load import RgbArray
from hfd.metrics import distortion
from hfd.metrics.spectrum import top_octave_energy, top_octave_is_empty
from hfd.perceptual.lpips import LEAST_SIDE_PX, lpips
from hfd.perceptual.vgg16 import LEAST_SIDE_PX as LEAST_SIDE_VGG16_PX
from hfd.perceptual.vgg16 import Vgg16File, Vgg16Metrics, read_vgg16


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded picture beside its original, both uint8 (H, W, 3); ``num_bytes`` of the whole file; seconds.

    Seconds are None for a picture that was decoded elsewhere. ``bpp_est``: the entropy model's estimate, bits per
    pixel; None for a baseline. ``vgg16``: the weights of the optional metrics; None: they are not measured.
    """

    original: RgbArray
    decoded: RgbArray
    num_bytes: int
    encode_s: float | None
    decode_s: float | None
    bpp_est: float | None = None
    vgg16: Vgg16File | None = None


def bpp_of(image: DecodedImage) -> float:
    """Bits per pixel of the whole file."""
    height, width = image.original.shape[:2]
    return distortion.bpp(image.num_bytes, width, height)


def energy_of(image: DecodedImage) -> float | None:
    """Power in the top octave over the original's; None for an original without a top octave."""
    energy = top_octave_energy(image.original, image.decoded)
    # Only an original without a top octave gives these values by definition; it has no energy to compare with.
    return None if energy in (1.0, math.inf) and top_octave_is_empty(image.original) else energy


def lpips_of(image: DecodedImage) -> float | None:
    """LPIPS (AlexNet); None for a picture that is too small."""
    return lpips(image.original, image.decoded) if min(image.original.shape[:2]) >= LEAST_SIDE_PX else None


def by_vgg16(measure: Callable[[Vgg16Metrics, RgbArray, RgbArray], float]) -> Callable[[DecodedImage], float | None]:
    """Return a metric over VGG16's features as a function of an image; None without weights, or if it is too small."""

    def value(image: DecodedImage) -> float | None:
        if image.vgg16 is None or min(image.original.shape[:2]) < LEAST_SIDE_VGG16_PX:
            return None
        return measure(read_vgg16(image.vgg16), image.original, image.decoded)

    return value
