"""PNG by strips, as Pillow reads it."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from hfd.codec.picture import png as png_strips
from hfd.codec.picture import save as picture_file
from hfd.codec.picture.content import Picture, picture_of_array
from hfd.codec.picture.png import png_chunks
from hfd.codec.picture.save import encode_picture
from hfd.codec.sections import Extras
from tests.support.pictures import photograph


def decoded(picture: Picture) -> Image.Image:
    image = Image.open(io.BytesIO(b"".join(png_chunks(picture))))
    image.load()
    return image


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4]))))
def test_any_picture_comes_back(x: np.ndarray) -> None:
    alpha = x[..., 3] if x.shape[2] == 4 else None
    image = decoded(Picture(np.ascontiguousarray(x[..., :3]), Extras(alpha=alpha)))
    assert image.mode == ("RGB" if alpha is None else "RGBA")
    np.testing.assert_array_equal(np.asarray(image), x)


@pytest.mark.parametrize("strip_bytes", [1, 500, 10**6])
def test_strips_of_any_height_are_one_picture(strip_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_strips, "_STRIP_BYTES", strip_bytes)
    x = photograph(64, 90)
    np.testing.assert_array_equal(np.asarray(decoded(picture_of_array(x))), x)
    size = sum(map(len, png_chunks(picture_of_array(x))))
    by_pillow = io.BytesIO()
    Image.fromarray(x).save(by_pillow, "PNG")
    assert size < 1.05 * len(by_pillow.getvalue())


def test_metadata_are_there() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    picture = picture_of_array(photograph(8, 8))
    image = decoded(replace(picture, extras=Extras(icc=b"a profile", exif=exif.tobytes())))
    assert image.info["icc_profile"] == b"a profile"
    assert dict(image.getexif()) == {0x010F: "a camera"}


def test_large_pictures_are_written_by_strips_and_small_ones_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = picture_of_array(photograph(40, 50))
    (whole,) = encode_picture(picture, "png")
    monkeypatch.setattr(picture_file, "_WHOLE_PIXELS", 1999)
    parts = list(encode_picture(picture, "png"))
    assert len(parts) > 1
    for data in (whole, b"".join(parts)):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), picture.rgb)


def test_memory_does_not_grow_with_the_picture() -> None:
    picture = Picture(np.zeros((9000, 2000, 3), dtype=np.uint8))
    tracemalloc.start()
    for _ in png_chunks(picture):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * png_strips._STRIP_BYTES / 2
