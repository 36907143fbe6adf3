"""Pictures as files store them: the same by strips, as a whole, and from `load_rgb`."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfd.codec.picture import content as picture_module
from hfd.codec.picture.content import picture_of_array, picture_of_image, read_picture
from hfd.codec.picture.save import encode_picture, format_of
from hfd.errors import DataError
from hfd.image.load import allow_pixels, load_rgb
from tests.support.pictures import photograph

X = photograph(37, 53)


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pictures() -> dict[str, bytes]:
    rgb = Image.fromarray(X)
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
    palette = rgb.quantize(20)
    deep = Image.fromarray((X[..., 0].astype(np.uint16) * 257).astype(np.uint16))
    return {
        "RGB": encoded(rgb),
        "RGBA": encoded(rgba),
        "P": encoded(palette),
        "P with a transparent colour": encoded(palette, transparency=3),
        "L": encoded(rgb.convert("L")),
        "L with a transparent grey": encoded(rgb.convert("L"), transparency=100),
        "LA": encoded(rgba.convert("LA")),
        "1": encoded(rgb.convert("1")),
        "16 bits": encoded(deep),
        "CMYK": encoded(rgb.convert("CMYK"), "TIFF"),
        "F": encoded(Image.fromarray(X[..., 0].astype(np.float32) / 255), "TIFF"),
        "LAB": encoded(rgb.convert("LAB"), "TIFF"),
    }


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("rows", [1, 5, 36, 37, 4000])
def test_strips_of_any_height_are_the_picture(name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_module, "STRIP_PIXELS", rows * X.shape[1])
    data = pictures()[name]
    over_white = read_picture(data, keep_alpha=False)
    np.testing.assert_array_equal(over_white.rgb, load_rgb(data))
    assert over_white.extras.alpha is None
    kept = read_picture(data)
    assert (kept.extras.alpha is not None) == ("transparent" in name or "A" in name.removeprefix("LAB"))
    if kept.extras.alpha is not None:
        opaque = kept.extras.alpha == 255
        np.testing.assert_array_equal(kept.rgb[opaque], over_white.rgb[opaque])
        assert (kept.rgb[kept.extras.alpha == 0] == 255).all()
    np.testing.assert_array_equal(picture_of_image(Image.open(io.BytesIO(data))).rgb, kept.rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    alpha = Image.linear_gradient("L").resize((53, 37))
    image = Image.fromarray(X)
    image.putalpha(alpha)
    data = encoded(image, exif=exif)
    got = read_picture(data, keep_metadata=True)
    np.testing.assert_array_equal(read_picture(data, keep_alpha=False).rgb, load_rgb(data))
    assert got.extras.alpha is not None
    assert got.extras.alpha.shape == got.rgb.shape[:2] == load_rgb(data).shape[:2]
    assert got.extras.exif is not None
    assert got.rgb.flags.c_contiguous and got.extras.alpha.flags.c_contiguous


def test_transparency_that_is_opaque_is_none() -> None:
    assert picture_of_array(np.dstack([X, np.full(X.shape[:2], 255, np.uint8)])).extras.alpha is None


def test_reading_takes_little_more_than_the_array() -> None:
    """Pillow's own memory is not Python's, so that this sees arrays and copies of bytes alone."""
    image = Image.new("RGB", (4000, 3000), (10, 20, 30))
    tracemalloc.start()
    picture = picture_of_image(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * picture.rgb.nbytes


def test_a_tiffs_layout_is_no_metadata(tmp_path: Path) -> None:
    Image.fromarray(X).save(tmp_path / "x.tif", description="a view", compression="tiff_lzw")
    exif = read_picture(tmp_path / "x.tif", keep_metadata=True).extras.exif
    assert exif is not None
    parsed = Image.Exif()
    parsed.load(exif)
    assert dict(parsed) == {270: "a view"}


def test_pillows_guard_is_raised_and_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = encoded(Image.new("L", (60, 50)))
    with pytest.raises(DataError, match="got more than 2000 pixels"):
        read_picture(data)
    allow_pixels(3000)
    assert read_picture(data).width == 60
    allow_pixels(10)
    assert Image.MAX_IMAGE_PIXELS == 1500
    with pytest.raises(DataError, match="got 60 x 50 px, expected at most 2999 pixels"):
        read_picture(data, max_pixels=2999)


# --- pictures as they are written ----------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_formats_without_loss(file_format: str) -> None:
    alpha = np.tile(np.arange(53, dtype=np.uint8), (37, 1))
    for x in (X, np.dstack([X, alpha])):
        picture = picture_of_array(x)
        again = read_picture(b"".join(encode_picture(picture, file_format)))
        np.testing.assert_array_equal(again.rgb, picture.rgb)
        if picture.extras.alpha is not None:
            np.testing.assert_array_equal(again.extras.alpha, alpha)


def test_a_picture_that_a_format_cannot_hold_is_one_line() -> None:
    wide = picture_of_array(np.zeros((1, 17_000, 3), np.uint8))
    with pytest.raises(DataError, match=r"^webp: cannot hold this picture"):
        encode_picture(wide, "webp")


def test_formats_go_by_suffix() -> None:
    assert [format_of(name) for name in ("a.PNG", "b/c.d.webp", "x.jpeg")] == ["png", "webp", "jpeg"]
    for name in ("png", "a.png/b", "x.gif", ""):
        with pytest.raises(DataError, match=r"expected one of .png, .webp, .jpg, .jpeg"):
            format_of(name)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg"])
@pytest.mark.parametrize("shape", [(1, 65501, 3), (65501, 1, 3)])
def test_a_side_beyond_jpeg_is_one_line(
    suffix: str, shape: tuple[int, int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    picture = picture_of_array(np.zeros(shape, dtype=np.uint8))
    with pytest.raises(
        DataError, match=rf"^{suffix}: got {shape[1]} x {shape[0]} px, expected at most 65500 px a side"
    ):
        encode_picture(picture, suffix)
    assert capfd.readouterr() == ("", "")
