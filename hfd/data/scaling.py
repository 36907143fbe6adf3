"""Scale parts of a picture, equal in every bit to the same parts of the whole picture scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from hfd.geometry.box import Box

_LANCZOS = Image.Resampling.LANCZOS
_RADIUS = 3
"""Of Pillow's Lanczos filter, in samples of the smaller of the two pictures."""

_WORTH = 0.75
"""Share of the samples of the whole below which parts are made: they are also copied."""


@dataclass(frozen=True)
class Scaling:
    """``picture`` to be scaled to ``size`` by ``resize(size, LANCZOS, box=(0, 0, *extent))``.

    Where `rows_first`, Pillow scales all rows, to 8 bits, and then all columns. The weights of a pass depend on the
    sides along it alone: each pass is made here over whole rows, or whole columns, of those that the parts need. A box
    around a part would have other weights by rounding.
    """

    picture: Image.Image
    size: tuple[int, int]
    extent: tuple[float, float]

    @property
    def rows_first(self) -> bool:
        """True if Pillow scales rows first: always up to version 12, not tall pictures from version 13 on."""
        (width, height), (new_width, new_height) = self.picture.size, self.size
        return height - new_height <= max(0, 2 * (width - new_width))

    def is_faster(self, boxes: Sequence[Box]) -> bool:
        """Return True if the parts take clearly less work than the whole."""
        (width, height), have = self.size, self.picture.height
        bands = {self._rows(box) for box in boxes}
        work = sum(stop - start for start, stop in bands) * width + sum(box.width * height for box in boxes)
        return work < _WORTH * (have + height) * width

    def parts(self, boxes: Sequence[Box]) -> list[Image.Image]:
        """Return the parts of the scaled picture in ``boxes``; only where `rows_first`."""
        bands: dict[tuple[int, int], list[int]] = {}
        for index, box in enumerate(boxes):
            bands.setdefault(self._rows(box), []).append(index)
        found: dict[int, Image.Image] = {}
        for (start, stop), indices in bands.items():
            band = self.picture.crop((0, start, self.picture.width, stop))
            band = band.resize((self.size[0], stop - start), _LANCZOS, box=(0, 0, self.extent[0], stop - start))
            found |= {index: self._part(band, start, boxes[index]) for index in indices}
        return [found[index] for index in range(len(boxes))]

    def _part(self, band: Image.Image, start: int, box: Box) -> Image.Image:
        left, top, right, bottom = box.corners
        columns = Image.new(band.mode, (box.width, self.picture.height))
        columns.paste(band.crop((left, 0, right, band.height)), (0, start))
        columns = columns.resize((box.width, self.size[1]), _LANCZOS, box=(0, 0, box.width, self.extent[1]))
        return columns.crop((0, top, box.width, bottom))

    def _rows(self, box: Box) -> tuple[int, int]:
        """Return the first row of the picture that a box needs, and the one behind its last."""
        scale = self.extent[1] / self.size[1]
        _, top, _, bottom = box.corners
        margin = _RADIUS * max(scale, 1.0) + 1
        return max(0, math.floor(top * scale - margin)), min(self.picture.height, math.ceil(bottom * scale + margin))
