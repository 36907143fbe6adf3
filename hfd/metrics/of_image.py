"""One decoded image, and the values of metrics that are not functions of two pictures alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hfd.image.load import RgbArray
from hfd.metrics import distortion
from hfd.metrics.ms_ssim import MIN_SIDE_PX, ms_ssim_of_scales
from hfd.metrics.original import Original
from hfd.metrics.spectrum import energy_over, is_empty
from hfd.perceptual.alexnet import LEAST_SIDE_PX, lpips_of_units
from hfd.perceptual.vgg16 import LEAST_SIDE_PX as LEAST_SIDE_VGG16_PX
from hfd.perceptual.vgg16 import Vgg16File, Vgg16Values, read_vgg16


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded picture, uint8 (H, W, 3), beside its original of that size; ``num_bytes`` of the whole file; seconds.

    Seconds are None for a picture that was decoded elsewhere. ``bpp_est``: the entropy model's estimate, bits per
    pixel; None for a baseline. ``vgg16``: the weights of the optional metrics; None: they are not measured.
    """

    reference: Original
    decoded: RgbArray
    num_bytes: int
    encode_s: float | None
    decode_s: float | None
    bpp_est: float | None = None
    vgg16: Vgg16File | None = None

    @property
    def original(self) -> RgbArray:
        return self.reference.x

    @cached_property
    def by_vgg16(self) -> Vgg16Values | None:
        """Both metrics over VGG16's features, computed together; None without weights, or if it is too small."""
        if self.vgg16 is None or min(self.original.shape[:2]) < LEAST_SIDE_VGG16_PX:
            return None
        return read_vgg16(self.vgg16).values_of(self.reference.vgg16_bands(self.vgg16), self.decoded)


def ms_ssim_of(image: DecodedImage) -> float | None:
    """MS-SSIM; None for a picture that is too small."""
    distortion.require_pair(image.original, image.decoded)
    if min(image.original.shape[:2]) < MIN_SIDE_PX:
        return None
    return ms_ssim_of_scales(image.reference.scales, image.decoded)


def bpp_of(image: DecodedImage) -> float:
    """Bits per pixel of the whole file."""
    height, width = image.original.shape[:2]
    return distortion.bpp(image.num_bytes, width, height)


def energy_of(image: DecodedImage) -> float | None:
    """Power in the top octave over the original's; None for an original without a top octave."""
    distortion.require_pair(image.original, image.decoded)
    expected = image.reference.top_octave
    return None if is_empty(expected) else energy_over(expected, image.decoded)


def lpips_of(image: DecodedImage) -> float | None:
    """LPIPS (AlexNet); None for a picture that is too small."""
    if min(image.original.shape[:2]) < LEAST_SIDE_PX:
        return None
    return lpips_of_units(image.reference.lpips_units, image.decoded)


def lpips_vgg_of(image: DecodedImage) -> float | None:
    """LPIPS (VGG16), if it is measured."""
    return None if image.by_vgg16 is None else image.by_vgg16.lpips


def dists_of(image: DecodedImage) -> float | None:
    """DISTS, if it is measured."""
    return None if image.by_vgg16 is None else image.by_vgg16.dists
