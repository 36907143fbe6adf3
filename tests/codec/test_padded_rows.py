"""Rows of a picture for the coder: those of the whole padded picture."""

from __future__ import annotations

import numpy as np
import pytest

from hfd.autoencoder.model import pad_to_stride
from hfd.codec.pixels import padded_rows
from hfd.codec.tensors import picture_to_tensor
from tests.support.pictures import photograph


@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 64), (70, 90), (129, 128), (33, 257)])
def test_rows_are_those_of_the_padded_picture(height: int, width: int) -> None:
    x = photograph(max(height, 8), max(width, 8))[:height, :width]
    whole = pad_to_stride(picture_to_tensor(x))
    rows = padded_rows(lambda first, last: x[first:last], height)
    for first in range(0, whole.shape[2], 16):
        for last in (first + 16, whole.shape[2]):
            assert np.array_equal(rows(first, last), whole[:, :, first:last])
