"""Pictures that are read by strips, against Pillow's reading of the whole."""

from __future__ import annotations

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hfd.codec.picture import strips as picture_strips
from hfd.codec.picture.content import Picture, read_picture
from hfd.codec.picture.strips import StripPicture, open_picture
from hfd.codec.sections import Extras
from hfd.errors import DataError
from hfd.image.load import RgbArray
from tests.support.pictures import photograph, wide_profile

HEIGHT, WIDTH = 203, 157
X = photograph(HEIGHT, WIDTH)
MODES = ("RGB", "L", "RGBA", "LA")


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_strips, "_WHOLE_PIXELS", 100)
    monkeypatch.setattr(picture_strips, "_STRIP_PIXELS", 16 * WIDTH)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def files(mode: str) -> dict[str, bytes]:
    image = Image.fromarray(X)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image = image.convert(mode)
    found = {"png": encoded(image, "PNG")}
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"):
        found[f"tiff {compression}"] = encoded(image, "TIFF", compression=compression)
    if "A" in mode:
        return found
    return found | {
        "ppm": encoded(image, "PPM"),
        "jpeg": encoded(image, "JPEG", quality=90),
        "jpeg progressive": encoded(image, "JPEG", quality=60, progressive=True),
        "jpeg optimised 4:4:4": encoded(image, "JPEG", subsampling=0, optimize=True),
        "jpeg 4:2:2": encoded(image, "JPEG", subsampling=1),
    }


def rows_of(picture: StripPicture, step: int = 30, overlap: int = 11) -> RgbArray:
    """The picture as an encoder asks for it, in parts that overlap, which are checked against each other."""
    whole = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, step):
        first, last = max(0, top - overlap), min(top + step, picture.height)
        part = picture.rows(first, last)
        np.testing.assert_array_equal(part[: top - first], whole[first:top])
        whole[first:last] = part
    return whole


@pytest.mark.parametrize("keep_alpha", [True, False])
@pytest.mark.parametrize(
    ("mode", "name"), [(mode, name) for mode in ("RGB", "L", "RGBA", "LA") for name in files(mode)]
)
def test_strips_are_pillows_pixels(mode: str, name: str, keep_alpha: bool, tmp_path: Path) -> None:
    data = files(mode)[name]
    path = tmp_path / "ü [page=3].x"  # no option of the decoder
    path.write_bytes(data)
    whole = read_picture(data, keep_alpha=keep_alpha)
    for source in (data, path):
        picture = open_picture(source, keep_alpha=keep_alpha)
        assert isinstance(picture, StripPicture)
        assert (picture.width, picture.height) == (WIDTH, HEIGHT)
        np.testing.assert_array_equal(rows_of(picture), whole.rgb)
        np.testing.assert_array_equal(rows_of(picture), whole.rgb)  # again, from above
        np.testing.assert_array_equal(picture.extras.alpha, whole.extras.alpha)
        assert (picture.extras.alpha is not None) == (keep_alpha and "A" in mode)


def test_profile_and_exif_are_those_of_the_whole() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    for file_format in ("PNG", "JPEG", "TIFF"):
        data = encoded(Image.fromarray(X), file_format, icc_profile=wide_profile(), exif=exif)
        for keep in (False, True):
            picture, whole = open_picture(data, keep_metadata=keep), read_picture(data, keep_metadata=keep)
            assert isinstance(picture, StripPicture)
            assert picture.extras == whole.extras
            assert (picture.extras.icc is not None) == keep
            np.testing.assert_array_equal(rows_of(picture), whole.rgb)


def test_alpha_that_is_opaque_is_none() -> None:
    picture = open_picture(encoded(Image.fromarray(X).convert("RGBA"), "PNG"))
    assert isinstance(picture, StripPicture) and picture.extras.alpha is None
    np.testing.assert_array_equal(rows_of(picture), X)


def turned(file_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(X), file_format, exif=exif)


def metadata_at_the_end() -> bytes:
    chunk = b"tEXtComment\0behind the pixels"
    data, end = encoded(Image.fromarray(X), "PNG"), b"IEND"
    return (
        data[: data.rindex(end) - 4]
        + struct.pack(">I", len(chunk) - 4)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + data[data.rindex(end) - 4 :]
    )


def others() -> dict[str, bytes]:
    rgb = Image.fromarray(X)
    return {
        "turned jpeg": turned("JPEG"),
        "turned png": turned("PNG"),
        "turned tiff": turned("TIFF"),
        "metadata at the end": metadata_at_the_end(),
        "palette": encoded(rgb.quantize(30), "PNG"),
        "a transparent colour": encoded(rgb, "PNG", transparency=(1, 2, 3)),
        "16 bits": encoded(Image.fromarray(X[..., 0].astype(np.uint16) * 257), "PNG"),
        "plain": b"P2 20 20 255 " + b"7 " * 400,
        "4 bits": b"P5 20 20 15 " + bytes(400),
        "cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "tiff of jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "bmp": encoded(rgb, "BMP"),
    }


@pytest.mark.parametrize("name", others())
def test_other_files_are_read_whole(name: str) -> None:
    picture = open_picture(others()[name])
    assert isinstance(picture, Picture)
    np.testing.assert_array_equal(picture.rgb, read_picture(others()[name]).rgb)


def test_small_pictures_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_strips, "_WHOLE_PIXELS", HEIGHT * WIDTH)
    assert isinstance(open_picture(files("RGB")["png"]), Picture)


@pytest.mark.parametrize("name", ["png", "ppm", "jpeg", "jpeg progressive", "tiff raw"])
def test_a_cut_file_is_one_line(name: str) -> None:
    data = files("RGB")[name]
    for keep in (0.4, 0.9):
        picture = open_picture(data[: int(len(data) * keep)], name="a/b")
        assert isinstance(picture, StripPicture)
        with pytest.raises(DataError, match=r"^a/b: got .* expected a whole image") as caught:
            rows_of(picture)
        assert caught.value.reason in ("truncated", "broken") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["png", "tiff tiff_adobe_deflate", "tiff tiff_lzw"])
def test_damage_that_pillow_sees_is_one_line(name: str) -> None:
    whole, seen = files("RGB")[name], 0
    for at in range(400, len(whole) - 400, len(whole) // 9):
        data = bytearray(whole)
        data[at] ^= 255
        try:
            read_picture(bytes(data))
        except DataError:
            seen += 1
            picture = open_picture(bytes(data))
            assert isinstance(picture, StripPicture)
            with pytest.raises(DataError, match="expected a whole image"):
                rows_of(picture)
    assert seen >= 3


def test_a_file_that_is_replaced_meanwhile_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(files("RGB")["png"])
    picture = open_picture(path)
    Image.fromarray(X[:100]).save(path)
    with pytest.raises(DataError, match="Replace the file"):
        picture.rows(0, 10)


def test_nothing_of_a_large_header_is_read() -> None:
    data = b"P6 40000 40000 255 "
    with pytest.raises(DataError, match="expected at most"):
        open_picture(data, max_pixels=10**6)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        pool.submit((tmp_path / "pipe").write_bytes, files("RGB")["png"])
        picture = open_picture(tmp_path / "pipe")
    assert isinstance(picture, Picture)
    np.testing.assert_array_equal(picture.rgb, X)


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 99), st.integers(1, 100)), min_size=1, max_size=12))
def test_any_rows_in_any_order(rows: int, asked: list[tuple[int, int]]) -> None:
    x = X[:100]
    picture = StripPicture(lambda: iter(np.array_split(x, range(rows, 100, rows))), (WIDTH, 100), Extras())
    for first, count in asked:
        last = min(100, first + count)
        np.testing.assert_array_equal(picture.rows(first, last), x[first:last])


def test_no_more_is_held_than_was_asked_for() -> None:
    opened = 0

    def strips():  # type: ignore[no-untyped-def]
        nonlocal opened
        opened += 1
        yield from np.array_split(X, range(10, HEIGHT, 10))

    picture = StripPicture(strips, (WIDTH, HEIGHT), Extras())
    for first in range(0, HEIGHT - 25, 5):
        picture.rows(first, first + 25)
        assert sum(map(len, picture._held)) <= 25 + 2 * 10
    assert opened == 1
