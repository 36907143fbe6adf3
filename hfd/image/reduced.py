"""Read a picture at a fraction of its size, where its decoder can do that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, JpegImagePlugin

from hfd.image.load import MAX_IMAGE_PIXELS, ImageSource, load_picture, turn_of

_SWAPPING = (
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
)  # fmt: skip
"""The turns that exchange width and height."""


@dataclass(frozen=True)
class Reduced:
    """A picture that was decoded at 1 / ``scale``, upright. ``size``: (width, height) of the full picture, upright."""

    picture: Image.Image
    size: tuple[int, int]
    scale: int


def load_reduced(
    source: ImageSource,
    target: Callable[[tuple[int, int]], tuple[int, int]],
    *,
    name: str = "",
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Reduced:
    """Read a picture as `load_picture`, but decode a JPEG at 1/2, 1/4 or 1/8 if that has the sides that are wanted.

    libjpeg computes fewer samples of each block, which is faster, and not the same as a full decode that is scaled.
    Any other format is decoded in full. Sides of 1 / ``scale`` are rounded up.

    Args:
        source, name, max_pixels: as in `load_picture`; ``max_pixels`` are those of the full picture.
        target: returns the sides that are wanted of a picture of this size, (width, height), both as stored.

    Raises:
        DataError: as `load_picture`.
    """
    size, scale = None, 1

    def draft(image: Image.Image) -> None:
        nonlocal size, scale
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            size = image.size[::-1] if turn_of(image) in _SWAPPING else image.size
            wanted = target(image.size)
            found = image.draft(None, wanted) if wanted != image.size else None
            scale = 1 if found is None else image.decoderconfig[0]

    picture = load_picture(source, name=name, max_pixels=max_pixels, before=draft)
    return Reduced(picture, picture.size if size is None else size, scale)
