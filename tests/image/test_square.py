"""The centre square of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from hfd.image.square import centre_square
from tests.support.pictures import photograph


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40), (41, 100), (40, 40)])
def test_it_lies_in_the_middle(height: int, width: int) -> None:
    x = np.zeros((height, width, 3), np.uint8)
    x[:, :, 0], x[:, :, 1] = np.arange(width), np.arange(height)[:, None]
    side = min(height, width)
    found = centre_square(x, side)
    assert found.shape == (side, side, 3) and found.dtype == np.uint8 and found.flags.c_contiguous
    before = found[0, 0, 0], found[0, 0, 1]
    after = width - 1 - found[-1, -1, 0], height - 1 - found[-1, -1, 1]
    assert all(int(late) - int(early) in (0, 1) for early, late in zip(before, after, strict=True))


@pytest.mark.parametrize("px", [48, 96, 192])
def test_it_equals_other_ways_to_cut_it(px: int) -> None:
    """Smaller, equal and larger; remainders are even, for which all rules of centring agree."""
    x = photograph(96, 128)
    picture, method = Image.fromarray(x), Image.Resampling.BICUBIC
    assert np.array_equal(centre_square(x, px), np.asarray(ImageOps.fit(picture, (px, px), method)))
    width = px * 128 // 96
    resized = np.asarray(picture.resize((width, px), method))[:, (width - px) // 2 :][:, :px]
    assert np.abs(centre_square(x, px).astype(int) - resized).max() <= 1
